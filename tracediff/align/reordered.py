"""Find in which order one run holds the slices of another run's weight, by first values.

The kernel behind a concatenation whose inputs come in another order is such a weight. That values
are the same does not say that the models compute the same: whoever asks has to have that from
elsewhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.align.layouts import Reorder
from tracediff.align.values import NEAR, near, norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 65536
"""Slices that are looked at."""


def reordered(a: NDArray[Any], b: NDArray[Any], axis: int) -> Reorder | None:
    """Return what brings B's slices along an axis into A's order, None where nothing does.

    Slices are told by their scalar product with one random vector: what is in the same order by it
    is compared as a whole then.

    Args:
        a: A's values.
        b: B's, of the same shape.
        axis: Along which to look.

    Example:
        >>> a = np.arange(12.0).reshape(6, 2)
        >>> reordered(a, a[[4, 5, 0, 1, 2, 3]], 0)
        Reorder(axis=0, blocks=(1, 2, 0))
        >>> reordered(a, a + 1.0, 0) is None
        True
    """
    count = a.shape[axis]
    if a.shape != b.shape or not 1 < count <= _MOST:
        return None
    slices = [np.moveaxis(one, axis, 0).reshape(count, -1) for one in (a, b)]
    along = np.random.default_rng(0).normal(size=slices[0].shape[1])
    told = [one @ along for one in slices]
    first, second = (np.argsort(one, kind="stable") for one in told)
    # Products with slices that are near in some order are near when sorted, too: no other order
    # brings two sets of numbers nearer, and by the Cauchy-Schwarz inequality.
    apart = norm(told[0][first] - told[1][second])
    if apart > 2.0 * NEAR * norm(along) * max(norm(one.reshape(-1)) for one in (a, b)):
        return None
    order = np.empty(count, np.intp)
    order[first] = second
    blocks = _blocks(order)
    found = Reorder(axis, blocks)
    if len(blocks) == 1 or not near(a, b, (found,)):
        return None
    return found


def _blocks(order: NDArray[np.intp]) -> tuple[int, ...]:
    """Return an order of single places as one of the largest equal blocks that it keeps whole."""
    breaks = np.flatnonzero(np.diff(order) != 1) + 1
    size = math.gcd(len(order), *breaks.tolist(), *order[np.r_[0, breaks]].tolist())
    return tuple((order[::size] // size).tolist())
