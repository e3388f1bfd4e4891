"""The values that a comparison consists of: plain frozen dataclasses, no behaviour that decides.

Every view (text, JSON, markdown, the interface) renders these and computes nothing further.
"""

from tracediff.model.causes import CAUSES as CAUSES
from tracediff.model.causes import Finding as Finding
from tracediff.model.comparison import Comparison as Comparison
from tracediff.model.comparison import RunSummary as RunSummary
from tracediff.model.comparison import Steps as Steps
from tracediff.model.comparison import Verdict as Verdict
from tracediff.model.differences import Difference as Difference
from tracediff.model.differences import Quantity as Quantity
from tracediff.model.differences import WorstElement as WorstElement
from tracediff.model.drift import DriftRow as DriftRow
from tracediff.model.drift import Growth as Growth
from tracediff.model.drift import GrowthFit as GrowthFit
from tracediff.model.drift import RelativeL2 as RelativeL2
from tracediff.model.drift import UpdateRow as UpdateRow
from tracediff.model.floor import Floor as Floor
from tracediff.model.floor import FloorSource as FloorSource
from tracediff.model.floor import Repeat as Repeat
from tracediff.model.layers import LayerPart as LayerPart
from tracediff.model.layers import LayerRow as LayerRow
from tracediff.model.lockstep import LocalError as LocalError
from tracediff.model.lockstep import Lockstep as Lockstep
from tracediff.model.lockstep import StageErrors as StageErrors
from tracediff.model.pairs import Pair as Pair
from tracediff.model.pairs import Unpaired as Unpaired
from tracediff.model.stages import STAGE_OF_ROLE as STAGE_OF_ROLE
from tracediff.model.stages import STAGES as STAGES
from tracediff.model.stages import Moment as Moment
from tracediff.model.stages import Side as Side
from tracediff.model.stages import Stage as Stage

__all__ = [
    "CAUSES",
    "STAGES",
    "STAGE_OF_ROLE",
    "Comparison",
    "Difference",
    "DriftRow",
    "Finding",
    "Floor",
    "FloorSource",
    "Growth",
    "GrowthFit",
    "LayerPart",
    "LayerRow",
    "LocalError",
    "Lockstep",
    "Moment",
    "Pair",
    "Quantity",
    "RelativeL2",
    "Repeat",
    "RunSummary",
    "Side",
    "Stage",
    "StageErrors",
    "Steps",
    "Unpaired",
    "UpdateRow",
    "Verdict",
    "WorstElement",
]
