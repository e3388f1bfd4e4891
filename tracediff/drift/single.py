"""The same sums in single precision, for the long rows of float32 that most of a trace consists of.

Differences of float32 are taken in float32: each is off by half a unit in its own last place at
most, and exact where the two numbers are within a factor of two (Sterbenz, Floating-Point
Computation, 1974). Norms are those of `tracediff.drift.products`. What is counted, and every
largest difference, is exact for float32. Where squares could leave the range of float32, or
anything is not finite, nothing is returned, and the caller works in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.products import Products, far_apart, good
from tracediff.drift.scratch import Scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]

BLOCK = 1 << 16
"""Elements worked on at a time: a handful of arrays of 256 KiB fit in a core's cache."""
_SIGN = np.uint32(1 << 31)
_FEW = 16
"""Up to this part of all elements are picked out one by one."""

_scratch = Scratch(BLOCK)


def suits(*arrays: Values) -> bool:
    """Say whether arrays can be summed up here: all are float32."""
    return all(array.dtype == np.float32 for array in arrays)


def largest(values: Values) -> Any:
    """Return the largest magnitude; NaN where an element is."""
    # The methods of arrays take as long to find these as these take.
    high, low = np.maximum.reduce(values), np.minimum.reduce(values)
    return max(high, -low)


class ValueSums:
    """The sums of a row, as `tracediff.drift.sums.block_sums` has them, but for signs.

    Args:
        size: Elements of the row.
    """

    def __init__(self, size: int) -> None:
        self._products = Products(4, size)
        self._peak = self._max_abs = np.float32(0.0)
        self._different = self._max_ulp = 0
        self._dots = False

    def add(self, start: int, a: Values, b: Values, name: str = "difference") -> Values:
        """Add a block.

        Args:
            start: Where it begins, a multiple of the pieces of products; blocks come in order.
            a: Contiguous float32; shape (elements,), at most `BLOCK`.
            b: The same.
            name: What the scratch that holds the difference is called.

        Returns:
            The difference, in scratch of that name.
        """
        products = self._products
        difference = np.subtract(a, b, out=_scratch.get(name, a, np.float32))
        products.add(0, start, a, a)
        products.add(1, start, b, b)
        products.add(2, start, difference, difference)
        if not start:
            self._dots = far_apart(*(products.total(number, until=a.size) for number in range(3)))
        if self._dots:
            products.add(3, start, a, b)
        lows = np.minimum.reduce(a), np.minimum.reduce(b)
        highs = np.maximum.reduce(a), np.maximum.reduce(b)
        top = max(*highs, -lows[0], -lows[1])
        self._peak = max(self._peak, top)
        apart = largest(difference)
        if apart == 0.0:
            return difference
        self._max_abs = max(self._max_abs, apart)
        flags = _scratch.get("flags", a, np.bool_)
        self._different += int(np.count_nonzero(np.not_equal(difference, 0.0, out=flags)))
        one_sign = min(lows) > 0.0 or max(highs) < 0.0
        found = _largest_distance(a, b, flags, top, one_sign=one_sign)
        self._max_ulp = max(self._max_ulp, found)
        return difference

    def fill_in(self, a: Values, b: Values, result: NDArray[np.void]) -> bool:
        """Write the sums into a record, once all blocks are added.

        Args:
            a: The whole row.
            b: The same.
            result: A record of `SUMS`, of shape ().

        Returns:
            False, where it takes float64; nothing is written then.
        """
        square_a, square_b, square_difference, dot = self._products.totals()
        safe = (
            good(square_a, lambda: bool(a.any()))
            and good(square_b, lambda: bool(b.any()))
            and good(square_difference, lambda: bool(self._max_abs > 0.0))
        )
        if not safe:
            return False
        if square_difference == 0.0:
            dot = square_a
        elif not self._dots and not far_apart(square_a, square_b, square_difference):
            # The law of cosines: exact to the same part of the product of the norms.
            dot = (square_a + square_b - square_difference) / 2.0
        elif not self._dots:
            dot = _dot(a, b)
        result["square_a"], result["square_b"] = square_a, square_b
        result["square_difference"], result["dot"] = square_difference, dot
        result["peak"], result["max_abs"] = self._peak, self._max_abs
        result["different"], result["max_ulp"] = self._different, self._max_ulp
        result["same_sign"] = -1
        return True


def value_sums(a: Values, b: Values, result: NDArray[np.void]) -> bool:
    """Sum up a row; as `ValueSums.fill_in`."""
    sums = ValueSums(a.size)
    for start in range(0, a.size, BLOCK):
        sums.add(start, a[start : start + BLOCK], b[start : start + BLOCK])
    return sums.fill_in(a, b, result)


def _dot(a: Values, b: Values) -> float:
    products = Products(1, a.size)
    products.add(0, 0, a, b)
    return products.totals()[0]


def _largest_distance(a: Values, b: Values, flags: Values, peak: Any, *, one_sign: bool) -> int:
    """Return the largest distance in units in the last place, as `ulp.finite_distance` has it.

    Args:
        a: A block of float32.
        b: The same shape.
        flags: Room for as many booleans.
        peak: The largest magnitude in either.
        one_sign: Whether all numbers are known to be of one sign.
    """
    bits_a, bits_b = a.view(np.int32), b.view(np.int32)
    distance = _scratch.get("distance", a, np.int32)
    if one_sign or np.minimum.reduce(np.bitwise_xor(bits_a, bits_b, out=distance)) >= 0:
        return _of_one_sign(bits_a, bits_b, distance)
    # Numbers of two signs are as far apart as their magnitudes' bits added, and those of one sign
    # by no more than the bits of the largest.
    crossing = np.less(distance, 0, out=flags)
    few = np.count_nonzero(crossing) < a.size // _FEW
    if few:
        where = np.flatnonzero(crossing)
        crossed = np.add(bits_a[where].view(np.uint32), bits_b[where].view(np.uint32))
        found = int(np.maximum.reduce(np.bitwise_xor(crossed, _SIGN)))
    else:
        np.right_shift(distance, 31, out=distance)
        crossed = _scratch.get("crossed", a, np.uint32)
        np.add(a.view(np.uint32), b.view(np.uint32), out=crossed)
        np.bitwise_xor(crossed, _SIGN, out=crossed)
        np.bitwise_and(crossed, distance.view(np.uint32), out=crossed)
        found = int(np.maximum.reduce(crossed))
    if found >= int(np.float32(peak).view(np.int32)):
        return found
    same = np.logical_not(crossing, out=crossing)
    return max(found, _of_one_sign(bits_a[same], bits_b[same], None))


def _of_one_sign(bits_a: Values, bits_b: Values, out: Values | None) -> int:
    if not bits_a.size:
        return 0
    distance = np.subtract(bits_a, bits_b, out=out)
    return max(int(np.maximum.reduce(distance)), -int(np.minimum.reduce(distance)))
