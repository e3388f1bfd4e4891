"""What updates of long rows of float32 do, in single precision: as `tracediff.drift.single`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """What went into an update of a row, and how it is weighed.

    Attributes:
        pairs: Arrays of A and B, of the row's shape.
        noise_level: Differences of the first of these up to here are rounding; None for none.
        feedback: How much of the weight's difference may enter.
        amplification: How much of what is inherited may.
        amplified: Beyond which relative difference a small one is amplified noise.
    """

    pairs: Sequence[Both]
    noise_level: float | None
    feedback: float
    amplification: float
    amplified: float


@dataclass(frozen=True, slots=True)
class Between:
    """An update of a weight.

    Attributes:
        before: The number of the moment before it.
        after: That of the moment after it.
        inputs: What went into it.
    """

    before: int
    after: int
    inputs: Inputs


class UpdateSums:
    """The sums of what an update of a row does, as `tracediff.drift.updates` says.

    Args:
        size: Elements of the row.
        inputs: What went into it.
        weights: Whether the squares of the weight after it are wanted, too.
    """

    def __init__(self, size: int, inputs: Inputs, *, weights: bool = True) -> None:
        self._products = Products(7, size)
        self._inputs, self._weights = inputs, weights
        self._feedback = np.float32(inputs.feedback)
        self._max_abs, self._noise, self._different = np.float32(0.0), 0.0, 0
        self._dots = False

    def add(self, start: int, state: Sequence[Values], difference: Values | None = None) -> None:
        """Add a block.

        Args:
            start: Where it begins, a multiple of the pieces of products; blocks come in order.
            state: The weight before and after in A, before and after in B; contiguous float32 of
                shape (elements,), at most `BLOCK`.
            difference: That of the weight before, where it is known; it is lost.
        """
        before_a, after_a, before_b, after_b = state
        products = self._products
        one = np.subtract(after_a, before_a, out=_scratch.get("one", after_a, np.float32))
        other = np.subtract(after_b, before_b, out=_scratch.get("other", after_a, np.float32))
        rest = np.subtract(one, other, out=_scratch.get("rest", after_a, np.float32))
        products.add(0, start, one, one)
        products.add(1, start, other, other)
        products.add(2, start, rest, rest)
        if self._weights:
            products.add(3, start, after_a, after_a)
            products.add(4, start, after_b, after_b)
        if not start:
            self._dots = far_apart(*(products.total(number, until=one.size) for number in range(3)))
        if self._dots:
            products.add(5, start, one, other)
        np.abs(rest, out=rest)
        top = np.maximum.reduce(rest)
        if top == 0.0:
            return
        self._max_abs = max(self._max_abs, top)
        flags = _scratch.get("flags", after_a, np.bool_)
        self._different += int(np.count_nonzero(np.not_equal(rest, 0.0, out=flags)))
        self._noise += _take_inherited(rest, one, other, start, self._inputs)
        if difference is None:
            difference = _scratch.get("drift", after_a, np.float32)
            np.subtract(before_a, before_b, out=difference)
        np.abs(difference, out=difference)
        difference *= self._feedback
        rest -= difference
        np.maximum(rest, _zeros[: rest.size], out=rest)
        products.add(6, start, rest, rest)

    def fill_in(
        self, state: Sequence[Values], moves: NDArray[np.void]
    ) -> tuple[float, float, float, float] | None:
        """Write the sums into a record, once all blocks are added.

        Args:
            state: As for `add`, whole.
            moves: A record of `SUMS`, of shape (), for the updates, but for their signs, distances
                in units in the last place, and peak.

        Returns:
            The squares of what is unexplained, of noise, and of both weights after the step, zeros
            where these were not wanted. None where it takes float64; nothing is written then.
        """
        square_one, square_other, square_rest, *weights, dot, left = self._products.totals()
        before_a, after_a, before_b, after_b = state
        usable = (
            good(square_one, lambda: not np.array_equal(before_a, after_a))
            and good(square_other, lambda: not np.array_equal(before_b, after_b))
            and good(square_rest, lambda: bool(self._max_abs > 0.0))
            and (not self._weights or good(weights[0], lambda: bool(after_a.any())))
            and (not self._weights or good(weights[1], lambda: bool(after_b.any())))
            # Squares of what is left that are too small for float32 are too small to count beside
            # the update's.
            and bool(np.isfinite(left))
        )
        if not usable:
            return None
        if square_rest == 0.0:
            dot = square_one
        elif not self._dots and not far_apart(square_one, square_other, square_rest):
            # The law of cosines: exact to the same part of the product of the norms.
            dot = (square_one + square_other - square_rest) / 2.0
        elif not self._dots:
            dot = _dot_of_moves(state)
        moves["square_a"], moves["square_b"] = square_one, square_other
        moves["square_difference"], moves["dot"] = square_rest, dot
        moves["max_abs"], moves["different"] = self._max_abs, self._different
        moves["same_sign"] = -1
        return left, self._noise, weights[0], weights[1]


def update_sums(
    state: Sequence[Values], inputs: Inputs, moves: NDArray[np.void]
) -> tuple[float, float, float, float] | None:
    """Sum up what an update of a row does; as `UpdateSums.fill_in`."""
    sums = UpdateSums(state[0].size, inputs)
    for start in range(0, state[0].size, BLOCK):
        sums.add(start, [values[start : start + BLOCK] for values in state])
    return sums.fill_in(state, moves)


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


def _take_inherited(rest: Values, one: Values, other: Values, start: int, inputs: Inputs) -> float:
    """Take from a block of differences of updates what their inputs explain.

    Args:
        rest: The magnitudes of the differences, to take it from.
        one: The updates of A, which are lost.
        other: Those of B, which are lost.
        start: Where the block begins.
        inputs: What went in, of the whole row.

    Returns:
        The square of what is noise.
    """
    if not inputs.pairs:
        return 0.0
    noise, first, span = 0.0, False, slice(start, start + rest.size)
    inherited: Values | None = None
    flags = _scratch.get("flags", rest, np.bool_)
    for number, (a, b) in enumerate(inputs.pairs):
        found = _relative(a[span], b[span], number)
        if number == 0 and inputs.noise_level is not None:
            apart = _scratch.get("apart", rest, np.float32)
            first = bool(np.less_equal(apart, inputs.noise_level, out=flags).any())
        inherited = found if inherited is None else np.maximum(inherited, found, out=inherited)
    assert inherited is not None  # there is a pair at least
    if first:
        noise = _noise(rest, flags, inherited, np.float32(inputs.amplified))
    np.abs(one, out=one)
    np.abs(other, out=other)
    inherited *= np.maximum(one, other, out=one)
    inherited *= np.float32(inputs.amplification)
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
