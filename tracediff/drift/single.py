"""The same sums in single precision, for the long rows of float32 that most of a trace consists of.

Differences of float32 are taken in float32: each is off by half a unit in its own last place at
most, and exact where the two numbers are within a factor of two (Sterbenz, Floating-Point
Computation, 1974). Squares are added up in float32 over `PIECE` elements and in float64 from there
on, so that a norm is off by less than 1e-6 of itself. What is counted, and every largest
difference, is exact for float32. Where squares could leave the range of float32, or anything is not
finite, nothing is returned, and the caller works in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.scratch import Scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]
    Both = tuple[Values, Values]

PIECE = 1 << 9
"""Elements whose squares are added up in float32."""
BLOCK = 1 << 15
"""Elements of an update worked on at a time: a dozen arrays of 128 KiB fit in a core's cache."""
WIDE_BLOCK = 1 << 16
"""Elements of two values worked on at a time."""
_LEAST = 1e-24
"""A sum of squares that is finite and above this lost nothing that counts to underflow."""

_scratch = Scratch(BLOCK)


def suits(*arrays: Values) -> bool:
    """Say whether arrays can be summed up here: all are float32."""
    return all(array.dtype == np.float32 for array in arrays)


def square(values: Values) -> float:
    """Return the sum of squares of a part of a row; NaN where that takes float64."""
    found = dot(values, values)
    safe = _LEAST < found < np.inf or not values.any()
    return found if safe else np.nan


def dot(a: Values, b: Values) -> float:
    """Return the inner product of two parts of a row."""
    whole = a.size // PIECE * PIECE
    pieces = dots_of_rows(a[:whole].reshape(-1, PIECE), b[:whole].reshape(-1, PIECE))
    result = float(pieces.sum(dtype=np.float64))
    return result + float(np.dot(a[whole:], b[whole:])) if whole < a.size else result


def dots_of_rows(a: Values, b: Values) -> Values:
    """Return the inner product of each row with its like."""
    if hasattr(np, "vecdot"):  # From numpy 2 on, and three times as fast.
        return np.asarray(np.vecdot(a, b))
    return np.asarray(np.einsum("ij,ij->i", a, b))


def largest(values: Values) -> Any:
    """Return the largest magnitude; NaN where an element is."""
    # The methods of arrays take as long to find these as these take.
    high, low = np.maximum.reduce(values), np.minimum.reduce(values)
    return max(high, -low)


def value_sums(a: Values, b: Values, result: NDArray[np.void]) -> bool:
    """Sum up a part of a row as `tracediff.drift.sums.block_sums` does; signs are not counted.

    Args:
        a: Contiguous float32; shape (elements,), at most `WIDE_BLOCK`.
        b: The same.
        result: A record of `SUMS`, of shape (), to fill in.

    Returns:
        False, where it takes float64.
    """
    difference = np.subtract(a, b, out=_scratch.get("difference", a, np.float32))
    squares = square(a), square(b), square(difference)
    if np.isnan(sum(squares)):
        return False
    result["square_a"], result["square_b"], result["square_difference"] = squares
    result["dot"] = dot(a, b) if squares[2] > 0.0 else squares[0]
    result["peak"] = max(largest(a), largest(b))
    if squares[2] > 0.0:
        result["max_abs"] = largest(difference)
        flags = _scratch.get("flags", a, np.bool_)
        result["different"] = np.count_nonzero(np.not_equal(difference, 0.0, out=flags))
        result["max_ulp"] = _largest_distance(a, b, flags)
    return True


def _largest_distance(a: Values, b: Values, flags: Values) -> int:
    """Return the largest distance in units in the last place, as `ulp.finite_distance` has it."""
    bits_a, bits_b = a.view(np.int32), b.view(np.int32)
    distance = _scratch.get("distance", a, np.int32)
    np.bitwise_xor(bits_a, bits_b, out=distance)
    crossed = np.minimum.reduce(distance) < 0
    crossing = np.less(distance, 0, out=flags) if crossed else flags
    np.subtract(bits_a, bits_b, out=distance)
    if not crossed:
        return max(int(np.maximum.reduce(distance)), -int(np.minimum.reduce(distance)))
    # Numbers of two signs are as far apart as their magnitudes' bits added.
    apart = distance.view(np.uint32)
    np.abs(distance, out=distance)
    where = np.flatnonzero(crossing)
    magnitude = np.int32(np.iinfo(np.int32).max)
    apart[where] = (bits_a[where] & magnitude).view(np.uint32) + (bits_b[where] & magnitude).view(
        np.uint32
    )
    return int(np.maximum.reduce(apart))


def update_sums(
    state: Sequence[Values],
    pairs: Sequence[Both],
    *,
    noise_level: float | None,
    shares: tuple[float, float, float],
    moves: NDArray[np.void],
) -> tuple[float, float, float, float] | None:
    """Sum up what an update of part of a row does, as `tracediff.drift.updates` says.

    Args:
        state: The weight before and after in A, before and after in B; contiguous float32 of shape
            (elements,), at most `BLOCK`.
        pairs: What went into the update, in A and B; likewise.
        noise_level: Differences of the first of these up to here are rounding; None for none.
        shares: How much of the weight's difference may enter, how much of what is inherited, and
            beyond which relative difference a small one is amplified noise.
        moves: A record of `SUMS`, of shape (), to fill in for the updates, but for their signs,
            distances in units in the last place, and peak.

    Returns:
        The squares of what is unexplained, of noise, and of both weights after the step. None where
        it takes float64.
    """
    before_a, after_a, before_b, after_b = state
    one = np.subtract(after_a, before_a, out=_scratch.get("one", after_a, np.float32))
    other = np.subtract(after_b, before_b, out=_scratch.get("other", after_a, np.float32))
    rest = np.subtract(one, other, out=_scratch.get("rest", after_a, np.float32))
    weights = square(after_a), square(after_b)
    squares = square(one), square(other), square(rest)
    if np.isnan(sum(squares) + sum(weights)):
        return None
    moves["square_a"], moves["square_b"], moves["square_difference"] = squares
    moves["dot"] = dot(one, other) if squares[2] > 0.0 else squares[0]
    if squares[2] == 0.0:
        return 0.0, 0.0, *weights
    flags = _scratch.get("flags", after_a, np.bool_)
    moves["different"] = np.count_nonzero(np.not_equal(rest, 0.0, out=flags))
    np.abs(rest, out=rest)
    moves["max_abs"] = np.maximum.reduce(rest)
    feedback, amplification, amplified = (np.float32(share) for share in shares)
    noise = 0.0
    inherited: Values | None = None
    for number, (a, b) in enumerate(pairs):
        found = _relative(a, b, number)
        if number == 0 and noise_level is not None:
            small = np.less_equal(_scratch.get("apart", a, np.float32), noise_level, out=flags)
            first = small.any()
        inherited = found if inherited is None else np.maximum(inherited, found, out=inherited)
    if inherited is not None:
        if noise_level is not None and first:
            noise = _noise(rest, flags, inherited, amplified)
        np.abs(one, out=one)
        np.abs(other, out=other)
        inherited *= np.maximum(one, other, out=one)
        inherited *= amplification
    drift = np.subtract(before_a, before_b, out=_scratch.get("drift", after_a, np.float32))
    np.abs(drift, out=drift)
    drift *= feedback
    rest -= drift
    if inherited is not None:
        rest -= inherited
    np.maximum(rest, 0.0, out=rest)
    # Of what is left, squares too small for float32 are too small to count beside the update's.
    left = dot(rest, rest)
    return (left, noise, *weights) if np.isfinite(left) else None


def _relative(a: Values, b: Values, number: int) -> Values:
    """Return |a - b| / max(|a|, |b|), and leave the numerator of the first in the scratch."""
    apart = np.subtract(a, b, out=_scratch.get("apart" if number == 0 else "later", a, np.float32))
    np.abs(apart, out=apart)
    size = np.abs(a, out=_scratch.get("size", a, np.float32))
    np.maximum(size, np.abs(b, out=_scratch.get("relative", a, np.float32)), out=size)
    # Where both are zero so is the numerator.
    np.maximum(size, np.finfo(np.float32).tiny, out=size)
    name = "inherited" if number == 0 else "relative"
    return np.divide(apart, size, out=_scratch.get(name, a, np.float32))


def _noise(difference: Values, small: Values, inherited: Values, amplified: Any) -> float:
    noisy = np.greater(inherited, amplified, out=_scratch.get("amplified", small, np.bool_))
    np.logical_and(noisy, small, out=noisy)
    if not noisy.any():
        return 0.0
    alone = difference[noisy].astype(np.float64)
    return float(np.dot(alone, alone))
