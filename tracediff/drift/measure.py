"""How far apart two arrays are, in several measures; accumulated in float64 and never fudged.

Where a measure is undefined it is NaN: no small constant is put under a denominator. NaN and
infinity are counted, and kept out of norms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.sums import BLOCK, row_sums
from tracediff.drift.ulp import narrower

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Drift:
    """How far apart two arrays of one shape are.

    Attributes:
        size: Number of elements.
        different: Elements whose values differ (NaN equals NaN, 0.0 equals -0.0).
        norm_a: L2 norm of the finite elements of A.
        norm_b: L2 norm of the finite elements of B.
        norm_difference: L2 norm of the difference over elements finite in both.
        max_abs: Largest absolute difference over elements finite in both.
        peak: Largest absolute value of a finite element of either.
        max_ulp: Largest distance in ulp over elements that are NaN in neither; None unless both
            are floats.
        dot: Inner product over elements finite in both.
        same_sign: Elements whose sign agrees (zero agrees with zero only).
        non_finite_a: NaN and infinities in A.
        non_finite_b: NaN and infinities in B.
        mismatched: Elements that are non-finite in one and not, or otherwise, in the other.
        worst: Flat index of the first mismatched element or, without one, of ``max_abs``.
    """

    size: int
    different: int
    norm_a: float
    norm_b: float
    norm_difference: float
    max_abs: float
    peak: float
    max_ulp: int | None
    dot: float
    same_sign: int
    non_finite_a: int
    non_finite_b: int
    mismatched: int
    worst: int

    @property
    def relative_l2(self) -> float:
        """‖a - b‖ / max(‖a‖, ‖b‖); 0 where both are 0, NaN where non-finite elements mismatch."""
        if self.mismatched:
            return math.nan
        if self.norm_difference == 0.0:
            return 0.0
        return self.norm_difference / max(self.norm_a, self.norm_b)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between A and B; NaN where either is zero."""
        product = self.norm_a * self.norm_b
        return max(-1.0, min(1.0, self.dot / product)) if product > 0.0 else math.nan

    @property
    def sign_agreement(self) -> float:
        """Share of elements whose sign agrees; NaN for empty arrays."""
        return self.same_sign / self.size if self.size else math.nan

    @property
    def norm_ratio(self) -> float:
        """‖b‖ / ‖a‖; NaN where A is zero."""
        return self.norm_b / self.norm_a if self.norm_a > 0.0 else math.nan


def squeezed(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return ``array`` without trailing axes of length 1: ``(n, 1)`` means the same as ``(n,)``."""
    shape = squeezed_shape(array.shape)
    return array.reshape(shape) if shape != array.shape else array


def squeezed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``shape`` without trailing ones.

    Example:
        >>> squeezed_shape((32, 1)), squeezed_shape((1,)), squeezed_shape((3, 1, 2))
        ((32,), (), (3, 1, 2))
    """
    end = len(shape)
    while end and shape[end - 1] == 1:
        end -= 1
    return shape[:end]


def measure(a: NDArray[Any], b: NDArray[Any]) -> Drift:
    """Measure how far apart two arrays are.

    Works through blocks, so that memory beyond the arguments is bounded.

    Args:
        a: Numbers or booleans; trailing axes of length 1 do not count.
        b: The same shape as ``a`` in that sense; any dtype.

    Raises:
        ValueError: The shapes differ.
    """
    left, right = squeezed(a), squeezed(b)
    if left.shape != right.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not match")
    flat_a, flat_b = left.reshape(1, -1), right.reshape(1, -1)
    unit = ulp_unit(left.dtype, right.dtype)
    sums = row_sums(flat_a, flat_b, unit=unit)[0]
    return Drift(
        size=flat_a.size,
        different=int(sums["different"]),
        norm_a=math.sqrt(sums["square_a"]),
        norm_b=math.sqrt(sums["square_b"]),
        norm_difference=math.sqrt(sums["square_difference"]),
        max_abs=float(sums["max_abs"]),
        peak=float(sums["peak"]),
        max_ulp=None if unit is None else int(sums["max_ulp"]),
        dot=float(sums["dot"]),
        same_sign=int(sums["same_sign"]),
        non_finite_a=int(sums["non_finite_a"]),
        non_finite_b=int(sums["non_finite_b"]),
        mismatched=int(sums["mismatched"]),
        worst=_worst(flat_a[0], flat_b[0], mismatched=bool(sums["mismatched"])),
    )


def ulp_unit(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype in whose units in the last place two arrays are compared, or None."""
    return narrower(a, b) if a.kind == b.kind == "f" else None


def _worst(a: NDArray[Any], b: NDArray[Any], *, mismatched: bool) -> int:
    """Return the flat index of the first mismatched element or, without one, of the worst."""
    worst, largest = 0, 0.0
    for start in range(0, a.size, BLOCK):
        one, other = (x[start : start + BLOCK].astype(np.float64) for x in (a, b))
        finite = np.isfinite(one) & np.isfinite(other)
        if mismatched:
            wrong = ~finite & ~((one == other) | (np.isnan(one) & np.isnan(other)))
            if wrong.any():
                return start + int(np.argmax(wrong))
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            difference = np.where(finite, np.abs(one - other), 0.0)
        where = int(np.argmax(difference))
        if difference[where] > largest:
            worst, largest = start + where, float(difference[where])
    return worst
