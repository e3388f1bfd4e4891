"""Inner products of long rows of float32, added up in float32 by pieces and in float64 from there.

A norm is off by less than 1e-6 of itself. Where squares leave the range of float32, it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]

PIECE = 1 << 9
"""Elements whose products are added up in float32."""
LEAST = 1e-24
"""A sum of squares that is finite and above this lost nothing that counts to underflow."""


def dots_of_rows(a: Values, b: Values, out: Values | None = None) -> Values:
    """Return the inner product of each row with its like."""
    if hasattr(np, "vecdot"):  # From numpy 2 on, and three times as fast.
        return np.asarray(np.vecdot(a, b, out=out))
    return np.asarray(np.einsum("ij,ij->i", a, b, out=out))


class Products:
    """Inner products over a long row, gathered block by block and added up once.

    Args:
        count: How many there are.
        size: Elements of the row.
    """

    def __init__(self, count: int, size: int) -> None:
        self._sums = np.zeros((count, -(-size // PIECE)), np.float32)

    def add(self, number: int, start: int, a: Values, b: Values) -> None:
        """Add a block that starts at a multiple of `PIECE`; all but the last are one, too."""
        here, size = start // PIECE, a.size
        full = size // PIECE
        whole = full * PIECE
        if full:
            out = self._sums[number, here : here + full]
            dots_of_rows(a[:whole].reshape(full, PIECE), b[:whole].reshape(full, PIECE), out)
        if whole < size:
            self._sums[number, here + full] = np.dot(a[whole:], b[whole:])

    def totals(self) -> list[float]:
        """Return the products; whatever overflowed is not finite."""
        return [float(one) for one in np.add.reduce(self._sums, axis=1, dtype=np.float64)]

    def total(self, number: int, *, until: int) -> float:
        """Return one of them, over the elements before ``until``."""
        sums = self._sums[number, : -(-until // PIECE)]
        return float(np.add.reduce(sums, dtype=np.float64))


def square(values: Values) -> float:
    """Return the sum of squares of a long row; NaN where that takes float64."""
    products = Products(1, values.size)
    with np.errstate(over="ignore", invalid="ignore"):
        products.add(0, 0, values, values)
    found = products.totals()[0]
    return found if good(found, lambda: bool(values.any())) else np.nan


def good(square: float, any_there: Callable[[], bool]) -> bool:
    """Say whether a sum of squares is good: finite, and no sum of what underflowed."""
    return LEAST < square < np.inf or (square == 0.0 and not any_there())


def far_apart(square_a: float, square_b: float, square_difference: float) -> bool:
    """Say whether a difference is too large for the law of cosines to tell an inner product.

    Otherwise (|a|^2 + |b|^2 - |a - b|^2) / 2 is as good a part of the product of the norms as the
    squares are of themselves, three times over at most.
    """
    return not square_difference <= min(square_a, square_b)
