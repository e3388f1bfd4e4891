"""How far apart two values are, as far as their sketches tell."""

from __future__ import annotations

from dataclasses import dataclass

from tracediff.trace import Sketch


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
    """

    size: int
    exact: bool
    norm_a: float
    norm_b: float
    norm_difference: float

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
    )
