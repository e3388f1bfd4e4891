"""How far apart two values are, as far as their sketches tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift.cells import Series
from tracediff.trace import SKETCH_ERROR, Sketch

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EstimatedDrift:
    """How far apart two values of one size are, by their sketches.

    Norms are off by `tracediff.trace.SKETCH_ERROR` (relative, root mean square), and exact where a
    value has no more elements than a sketch.

    Attributes:
        size: Number of elements.
        exact: Whether the norms are exact.
        norm_a: L2 norm of A; NaN where an element is not finite.
        norm_b: L2 norm of B.
        norm_difference: L2 norm of the difference.
        max_abs: Largest absolute difference; None where a sketch does not tell elements apart.
    """

    size: int
    exact: bool
    norm_a: float
    norm_b: float
    norm_difference: float
    max_abs: float | None = None

    @property
    def relative_l2(self) -> float:
        """‖a - b‖ / max(‖a‖, ‖b‖); 0 where the difference is, NaN where it is not known."""
        if self.norm_difference == 0.0:
            return 0.0
        return self.norm_difference / max(self.norm_a, self.norm_b)


def estimate(a: Sketch, b: Sketch) -> EstimatedDrift | None:
    """Return how far apart two sketched values are, or None where their sizes differ."""
    if a.size != b.size:
        return None
    return EstimatedDrift(
        size=a.size,
        exact=a.exact,
        norm_a=a.norm,
        norm_b=b.norm,
        norm_difference=a.distance(b),
        # Up to its width a sketch holds the elements themselves, some with their signs turned.
        max_abs=float(np.abs(a.numbers - b.numbers).max(initial=0.0)) if a.exact else None,
    )


def largest_possible(cells: Series) -> NDArray[np.float64]:
    """Return what no element of a tensor differs by more than, at each step.

    Where only the norm of the difference was estimated, that is the norm and four times its error:
    no element exceeds the norm. Where only a lower bound is known, it is twice the largest
    magnitude of either.
    """
    norm = cells["norm_difference"] * (1.0 + 4.0 * SKETCH_ERROR)
    found = np.where(cells["estimated"] & np.isnan(cells["max_abs"]), norm, cells["max_abs"])
    return np.where(cells["at_least"], 2.0 * cells["peak"], found)
