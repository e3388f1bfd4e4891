"""Find what in two runs is the same thing: layers and tensors, steps, samples.

Every answer is data with a reason and a confidence. Nothing is judged here.
"""

from tracediff.align.layers import LayerMatch as LayerMatch
from tracediff.align.layouts import Adapter as Adapter
from tracediff.align.layouts import Layout as Layout
from tracediff.align.layouts import LayoutError as LayoutError
from tracediff.align.mapping import Overrides as Overrides
from tracediff.align.mapping import as_mapping as as_mapping
from tracediff.align.mapping import parse_mapping as parse_mapping
from tracediff.align.mapping import read_mapping as read_mapping
from tracediff.align.pairing import Pairing as Pairing
from tracediff.align.rows import Located as Located
from tracediff.align.rows import RowIndex as RowIndex
from tracediff.align.rows import Segment as Segment
from tracediff.align.rows import exact_rows as exact_rows
from tracediff.align.rows import hash_rows as hash_rows
from tracediff.align.scales import scale_notes as scale_notes
from tracediff.align.scales import with_scales as with_scales
from tracediff.align.slots import is_used as is_used
from tracediff.align.step_map import StepMap as StepMap
from tracediff.align.steps import STEP_CHOICES as STEP_CHOICES
from tracediff.align.steps import By as By
from tracediff.align.steps import align_steps as align_steps
from tracediff.align.steps import with_counter as with_counter
from tracediff.align.tensors import pair_tensors as pair_tensors
from tracediff.align.view import AlignedRun as AlignedRun
from tracediff.align.view import aligned as aligned
from tracediff.align.view import alongside as alongside
from tracediff.align.view import recorded as recorded
from tracediff.align.view import recorded_step as recorded_step
