"""Find which published update rule reproduces a recorded run, from that run alone.

Each update is recomputed from what was recorded before it (weight, slots, applied gradient,
learning rate) and compared with what was recorded after it. What else differs between two runs
does not matter: each is checked against itself. Nothing here compares two runs.
"""

from tracediff.forensics.clipping import WORDS as CLIPPING_WORDS
from tracediff.forensics.clipping import Clipping as Clipping
from tracediff.forensics.clipping import clipping as clipping
from tracediff.forensics.counter import Counted as Counted
from tracediff.forensics.counter import correction as correction
from tracediff.forensics.counter import count_steps as count_steps
from tracediff.forensics.fit import Fit as Fit
from tracediff.forensics.fit import compute as compute
from tracediff.forensics.fit import first_unlike as first_unlike
from tracediff.forensics.fit import fit as fit
from tracediff.forensics.fit import settings_of as settings_of
from tracediff.forensics.reproduce import Reproduction as Reproduction
from tracediff.forensics.reproduce import reproduce as reproduce
from tracediff.forensics.rule import Outcome as Outcome
from tracediff.forensics.rule import Rule as Rule
from tracediff.forensics.rule import Update as Update
from tracediff.forensics.sample import Recorded as Recorded
from tracediff.forensics.sample import Sample as Sample
from tracediff.forensics.sample import sample as sample
from tracediff.forensics.shelf import SHELF as SHELF
from tracediff.forensics.shelf import applicable as applicable
from tracediff.forensics.shelf import rules_of as rules_of

__all__ = [
    "CLIPPING_WORDS",
    "SHELF",
    "Clipping",
    "Counted",
    "Fit",
    "Outcome",
    "Recorded",
    "Reproduction",
    "Rule",
    "Sample",
    "Update",
    "applicable",
    "clipping",
    "compute",
    "correction",
    "count_steps",
    "first_unlike",
    "fit",
    "reproduce",
    "rules_of",
    "sample",
    "settings_of",
]
