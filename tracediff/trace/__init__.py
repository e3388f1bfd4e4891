"""Read traces: what docs/trace-format.md describes, as arrays and plain values, and verified.

Memory stays bounded whatever the size of a trace: tables are read in bands of columns, values by
chunks, and at most `CACHE_BYTES` of both are kept for an opened trace. Reading is thread-safe.
Nothing here compares or judges.
"""

from tracediff.trace._cache import CACHE_BYTES as CACHE_BYTES
from tracediff.trace._run import ExternalChange as ExternalChange
from tracediff.trace._run import Run as Run
from tracediff.trace._sketch import SKETCH_ERROR as SKETCH_ERROR
from tracediff.trace._sketch import Sketch as Sketch
from tracediff.trace._sketch import sketch_of as sketch_of
from tracediff.trace._statistics import FEW_ELEMENTS as FEW_ELEMENTS
from tracediff.trace._statistics import MOMENT_ERROR as MOMENT_ERROR
from tracediff.trace._statistics import Statistics as Statistics
from tracediff.trace._statistics import statistics_of as statistics_of
from tracediff.trace._summary import Event as Event
from tracediff.trace._summary import LayerSummary as LayerSummary
from tracediff.trace._summary import RunSummary as RunSummary
from tracediff.trace._summary import TraceSummary as TraceSummary
from tracediff.trace._summary import WeightSummary as WeightSummary
from tracediff.trace._summary import summarize as summarize
from tracediff.trace._tensor import Tensor as Tensor
from tracediff.trace._trace import FORMAT as FORMAT
from tracediff.trace._trace import Trace as Trace
from tracediff.trace._trace import open_trace as open_trace
from tracediff.trace._unscaled import UnscaledRun as UnscaledRun
from tracediff.trace._unscaled import scalars as scalars
from tracediff.trace._unscaled import scaled_by as scaled_by
from tracediff.trace._unscaled import scales as scales
from tracediff.trace._values import Allocate as Allocate
from tracediff.trace._values import SparseRows as SparseRows

__all__ = [
    "CACHE_BYTES",
    "FEW_ELEMENTS",
    "FORMAT",
    "MOMENT_ERROR",
    "SKETCH_ERROR",
    "Allocate",
    "Event",
    "ExternalChange",
    "LayerSummary",
    "Run",
    "RunSummary",
    "Sketch",
    "SparseRows",
    "Statistics",
    "Tensor",
    "Trace",
    "TraceSummary",
    "UnscaledRun",
    "WeightSummary",
    "open_trace",
    "scalars",
    "scaled_by",
    "scales",
    "sketch_of",
    "statistics_of",
    "summarize",
]
