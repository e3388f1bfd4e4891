"""Find where two runs part: the first difference of any size, and the first beyond rounding.

Both are kept, never one for the other. Nothing is said here about why.
"""

from tracediff.onset.find import Onset as Onset
from tracediff.onset.find import find_onset as find_onset
from tracediff.onset.judge import judge as judge
from tracediff.onset.judged import Judged as Judged
from tracediff.onset.kinks import has_kinks as has_kinks
from tracediff.onset.origins import unseen as unseen
from tracediff.onset.probes import Place as Place
from tracediff.onset.probes import began as began
from tracediff.onset.probes import first_true as first_true
from tracediff.onset.probes import stage_of as stage_of
from tracediff.onset.roundings import Kernel as Kernel
from tracediff.onset.roundings import Roundings as Roundings
from tracediff.onset.sensitive import Sensitivity as Sensitivity
from tracediff.onset.spread import Spread as Spread
from tracediff.onset.spread import safety_factor as safety_factor
from tracediff.onset.spread import spread_of as spread_of
from tracediff.onset.spread import widest as widest
