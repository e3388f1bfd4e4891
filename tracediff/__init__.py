"""Compare two recorded training runs and name where, and why, they first part.

Example:
    >>> import tracediff
    >>> trace = tracediff.open_trace("a.zarr")  # doctest: +SKIP
    >>> trace.runs[0]  # doctest: +SKIP
    Run('a.zarr': 120 steps, complete, 24 tensors)
    >>> tracediff.compare("a.zarr", "b.zarr").first_divergence.tensor  # doctest: +SKIP
    'hidden/kernel'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracediff.compare import compare as compare
    from tracediff.errors import TracediffError as TracediffError
    from tracediff.model import Comparison as Comparison
    from tracediff.model import Difference as Difference
    from tracediff.model import DriftRow as DriftRow
    from tracediff.model import Finding as Finding
    from tracediff.trace import Run as Run
    from tracediff.trace import Tensor as Tensor
    from tracediff.trace import Trace as Trace
    from tracediff.trace import open_trace as open_trace

__version__ = "0.1.0"

# Attributes are found on first use: `import tracediff` stays free of zarr and scipy.
_HOME = {
    "compare": "tracediff.compare",
    "Comparison": "tracediff.model",
    "Difference": "tracediff.model",
    "DriftRow": "tracediff.model",
    "Finding": "tracediff.model",
    "open_trace": "tracediff.trace",
    "Trace": "tracediff.trace",
    "Run": "tracediff.trace",
    "Tensor": "tracediff.trace",
    "TracediffError": "tracediff.errors",
}

__all__ = [
    "Comparison",
    "Difference",
    "DriftRow",
    "Finding",
    "Run",
    "Tensor",
    "Trace",
    "TracediffError",
    "__version__",
    "compare",
    "open_trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
