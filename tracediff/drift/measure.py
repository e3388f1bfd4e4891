"""How far apart two arrays are, in several measures; accumulated in float64 and never fudged.

Where a measure is undefined it is NaN: no small constant is put under a denominator. NaN and
infinity are counted, and kept out of norms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 18
"""Elements converted to float64 at a time: 2 MiB a temporary, which stays in cache."""


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


def narrower(a: np.dtype[np.generic], b: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the float dtype of lower precision; ``a`` where either is no float."""
    if a.kind != "f" or b.kind != "f":
        return a if a.kind == "f" else b
    coarse, fine = (float(np.finfo(dtype.name).eps) for dtype in (a, b))
    return a if coarse >= fine else b


def ulp_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Return how many representable numbers lie between ``a`` and ``b``, element by element.

    Floats of one dtype, taken as sign and magnitude, are in order as integers (the usual
    reinterpretation of IEEE 754 bits), with both zeros the same point and infinity next to the
    largest number. Different dtypes are compared in the narrower one.

    Args:
        a: Floats of any shape.
        b: Floats of the same shape.

    Returns:
        uint64 distances. NaN to NaN is 0; NaN to a number is the largest uint64, which no other
        pair reaches.

    Example:
        >>> ulp_distance(np.float32([1.0, 0.0]), np.float32([1.0000001, -0.0])).tolist()
        [1, 0]
    """
    dtype = narrower(a.dtype, b.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        left, right = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    keys_a, keys_b = _ordered(left), _ordered(right)
    high, low = np.maximum(keys_a, keys_b), np.minimum(keys_a, keys_b)
    # Unsigned subtraction wraps around to the right answer where the signed one would overflow.
    distance = high.view(np.uint64) - low.view(np.uint64)
    nan_a, nan_b = np.isnan(left), np.isnan(right)
    distance[nan_a & nan_b] = 0
    distance[nan_a ^ nan_b] = np.iinfo(np.uint64).max
    return distance


def _ordered(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Map floats to int64 such that neighbours differ by one and both zeros are 0."""
    width = values.dtype.itemsize
    bits = np.ascontiguousarray(values).view(f"i{width}").astype(np.int64).reshape(values.shape)
    lowest = np.int64(-(1 << (8 * width - 1)))
    return np.where(bits < 0, lowest - bits, bits)


def measure(a: NDArray[np.generic], b: NDArray[np.generic]) -> Drift:
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
    floats = left.dtype.kind == "f" and right.dtype.kind == "f"
    flat_a, flat_b = left.reshape(-1), right.reshape(-1)
    total = _Sums()
    for start in range(0, flat_a.size, _BLOCK):
        total.add(flat_a[start : start + _BLOCK], flat_b[start : start + _BLOCK], start, floats)
    return Drift(
        size=flat_a.size,
        different=total.different,
        norm_a=math.sqrt(total.square_a),
        norm_b=math.sqrt(total.square_b),
        norm_difference=math.sqrt(total.square_difference),
        max_abs=total.max_abs,
        peak=total.peak,
        max_ulp=total.max_ulp if floats else None,
        dot=total.dot,
        same_sign=total.same_sign,
        non_finite_a=total.non_finite_a,
        non_finite_b=total.non_finite_b,
        mismatched=total.mismatched,
        worst=total.worst if total.first_mismatch < 0 else total.first_mismatch,
    )


class _Sums:
    """Running totals over the blocks of two arrays."""

    def __init__(self) -> None:
        self.different = 0
        self.square_a = self.square_b = self.square_difference = self.dot = 0.0
        self.max_abs = self.peak = 0.0
        self.max_ulp = 0
        self.same_sign = 0
        self.non_finite_a = self.non_finite_b = self.mismatched = 0
        self.worst = 0
        self.first_mismatch = -1

    def add(
        self,
        raw_a: NDArray[np.generic],
        raw_b: NDArray[np.generic],
        start: int,
        floats: bool,  # noqa: FBT001 - private, and always passed by the one caller
    ) -> None:
        # Overflow and NaN are results here, and are counted.
        with np.errstate(over="ignore", invalid="ignore"):
            self._add(raw_a, raw_b, start, floats)

    def _add(
        self,
        raw_a: NDArray[np.generic],
        raw_b: NDArray[np.generic],
        start: int,
        floats: bool,  # noqa: FBT001
    ) -> None:
        a, b = raw_a.astype(np.float64), raw_b.astype(np.float64)
        finite_a, finite_b = np.isfinite(a), np.isfinite(b)
        self.same_sign += int(np.count_nonzero(np.sign(a) == np.sign(b)))
        if not (finite_a.all() and finite_b.all()):
            self.non_finite_a += int(a.size - np.count_nonzero(finite_a))
            self.non_finite_b += int(b.size - np.count_nonzero(finite_b))
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            mismatch = ~same & ~(finite_a & finite_b)
            count = int(np.count_nonzero(mismatch))
            if count and self.first_mismatch < 0:
                self.first_mismatch = start + int(np.argmax(mismatch))
            self.mismatched += count
            self.different += count
            both = finite_a & finite_b
            self.peak = max(self.peak, _peak(a[finite_a]), _peak(b[finite_b]))
            self.square_a += float(np.dot(a[finite_a], a[finite_a]))
            self.square_b += float(np.dot(b[finite_b], b[finite_b]))
            a, b = np.where(both, a, 0.0), np.where(both, b, 0.0)
        else:
            self.peak = max(self.peak, _peak(a), _peak(b))
            self.square_a += float(np.dot(a, a))
            self.square_b += float(np.dot(b, b))
        self.dot += float(np.dot(a, b))
        difference = np.abs(a - b)
        self.different += int(np.count_nonzero(difference))
        self.square_difference += float(np.dot(difference, difference))
        where = int(np.argmax(difference)) if difference.size else 0
        if difference.size and difference[where] > self.max_abs:
            self.max_abs = float(difference[where])
            self.worst = start + where
        if floats and self.different:
            distance = ulp_distance(raw_a, raw_b)  # type: ignore[arg-type]
            known = distance[distance != np.iinfo(np.uint64).max]
            self.max_ulp = max(self.max_ulp, int(known.max(initial=0)))


def _peak(values: NDArray[np.float64]) -> float:
    return float(np.abs(values).max(initial=0.0))
