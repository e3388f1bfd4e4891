"""What updates of long rows of float32 do, in single precision: as `tracediff.drift.single`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.products import Products, far_apart, good
from tracediff.drift.scratch import Scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]
    Both = tuple[Values, Values]

BLOCK = 1 << 15
"""Elements worked on at a time: a dozen arrays of 128 KiB fit in a core's cache."""

_scratch = Scratch(BLOCK)


def update_sums(
    state: Sequence[Values],
    pairs: Sequence[Both],
    *,
    noise_level: float | None,
    shares: tuple[float, float, float],
    moves: NDArray[np.void],
) -> tuple[float, float, float, float] | None:
    """Sum up what an update of a row does, as `tracediff.drift.updates` says.

    Args:
        state: The weight before and after in A, before and after in B; contiguous float32 of shape
            (elements,).
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
    size = state[0].size
    products = Products(7, size)
    allowed = tuple(np.float32(share) for share in shares)
    max_abs, noise, different, dots = np.float32(0.0), 0.0, 0, False
    for start in range(0, size, BLOCK):
        span = slice(start, start + BLOCK)
        before_a, after_a, before_b, after_b = (values[span] for values in state)
        one = np.subtract(after_a, before_a, out=_scratch.get("one", after_a, np.float32))
        other = np.subtract(after_b, before_b, out=_scratch.get("other", after_a, np.float32))
        rest = np.subtract(one, other, out=_scratch.get("rest", after_a, np.float32))
        products.add(0, start, one, one)
        products.add(1, start, other, other)
        products.add(2, start, rest, rest)
        products.add(3, start, after_a, after_a)
        products.add(4, start, after_b, after_b)
        if not start:
            dots = far_apart(*(products.total(number, until=one.size) for number in range(3)))
        if dots:
            products.add(5, start, one, other)
        np.abs(rest, out=rest)
        top = np.maximum.reduce(rest)
        if top == 0.0:
            continue
        max_abs = max(max_abs, top)
        flags = _scratch.get("flags", after_a, np.bool_)
        different += int(np.count_nonzero(np.not_equal(rest, 0.0, out=flags)))
        fed = [(a[span], b[span]) for a, b in pairs]
        noise += _take_inherited(rest, one, other, fed, noise_level, allowed)
        drift = np.subtract(before_a, before_b, out=_scratch.get("drift", after_a, np.float32))
        np.abs(drift, out=drift)
        drift *= allowed[0]
        rest -= drift
        np.maximum(rest, _zeros[: rest.size], out=rest)
        products.add(6, start, rest, rest)
    square_one, square_other, square_rest, *weights, dot, left = products.totals()
    before_a, after_a, before_b, after_b = state
    usable = (
        good(square_one, lambda: not np.array_equal(before_a, after_a))
        and good(square_other, lambda: not np.array_equal(before_b, after_b))
        and good(square_rest, lambda: bool(max_abs > 0.0))
        and good(weights[0], lambda: bool(after_a.any()))
        and good(weights[1], lambda: bool(after_b.any()))
        # Of what is left, squares too small for float32 are too small to count beside the update's.
        and bool(np.isfinite(left))
    )
    if not usable:
        return None
    if square_rest == 0.0:
        dot = square_one
    elif not dots and not far_apart(square_one, square_other, square_rest):
        # The law of cosines: exact to the same part of the product of the norms.
        dot = (square_one + square_other - square_rest) / 2.0
    elif not dots:
        dot = _dot_of_moves(state)
    moves["square_a"], moves["square_b"] = square_one, square_other
    moves["square_difference"] = square_rest
    moves["dot"], moves["max_abs"], moves["different"] = dot, max_abs, different
    return left, noise, weights[0], weights[1]


def _dot_of_moves(state: Sequence[Values]) -> float:
    """Return the inner product of both updates."""
    size = state[0].size
    products = Products(1, size)
    for start in range(0, size, BLOCK):
        before_a, after_a, before_b, after_b = (values[start : start + BLOCK] for values in state)
        one = np.subtract(after_a, before_a, out=_scratch.get("one", after_a, np.float32))
        other = np.subtract(after_b, before_b, out=_scratch.get("other", after_a, np.float32))
        products.add(0, start, one, other)
    return products.totals()[0]


_zeros = np.zeros(BLOCK, np.float32)
"""To compare with: numpy takes twice as long to compare an array with one number."""


def _take_inherited(
    rest: Values,
    one: Values,
    other: Values,
    pairs: Sequence[Both],
    noise_level: float | None,
    shares: Sequence[Any],
) -> float:
    """Take from a block of differences of updates what their inputs explain.

    Args:
        rest: The magnitudes of the differences, to take it from.
        one: The updates of A, which are lost.
        other: Those of B, which are lost.
        pairs: As for `update_sums`.
        noise_level: As for `update_sums`.
        shares: As for `update_sums`.

    Returns:
        The square of what is noise.
    """
    if not pairs:
        return 0.0
    _, amplification, amplified = shares
    noise, first = 0.0, False
    inherited: Values | None = None
    flags = _scratch.get("flags", rest, np.bool_)
    for number, (a, b) in enumerate(pairs):
        found = _relative(a, b, number)
        if number == 0 and noise_level is not None:
            small = np.less_equal(_scratch.get("apart", a, np.float32), noise_level, out=flags)
            first = bool(small.any())
        inherited = found if inherited is None else np.maximum(inherited, found, out=inherited)
    assert inherited is not None  # there is a pair at least
    if first:
        noise = _noise(rest, flags, inherited, amplified)
    np.abs(one, out=one)
    np.abs(other, out=other)
    inherited *= np.maximum(one, other, out=one)
    inherited *= amplification
    rest -= inherited
    return noise


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
