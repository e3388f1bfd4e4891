"""The drift of several tensors as that of one: as if they lay side by side in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift.cells import Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Flags = NDArray[np.bool_]


def unmeasured(cells: Sequence[Series]) -> list[Flags]:
    """Say for each tensor at which steps its norm is wanted and its cells do not tell it.

    That is where it agrees, so that no value was read, while another of them differs.
    """
    apart = np.any([one["differs"] & (one["norm_difference"] > 0.0) for one in cells], axis=0)
    return [apart & one["present"] & ~one["differs"] & (one["size"] == 0) for one in cells]


def together(cells: Sequence[Series], norms: Sequence[Numbers]) -> Numbers:
    """Return the relative L2 of several tensors taken together, at every step.

    That is ‖a - b‖ over max(‖a‖, ‖b‖), each the root of the sum of squares over the tensors, with
    the larger norm taken tensor by tensor. Their order does not matter, and neither does a factor
    on all of them.

    Args:
        cells: The cells of each; equally many steps.
        norms: Of each, the norm at the steps that `unmeasured` names; whatever elsewhere.

    Returns:
        NaN where none is present, or where one differs by an unknown amount, is of another shape,
        or has elements that are not finite in one run only; 0 where all agree.
    """
    count = len(cells[0])
    difference, size = np.zeros(count), np.zeros(count)
    present, unknown = np.zeros(count, bool), np.zeros(count, bool)
    for one, wanted, norm in zip(cells, unmeasured(cells), norms, strict=True):
        here = one["present"]
        present |= here
        sized = one["known"] & ~one["reshaped"] & (one["mismatched"] == 0)
        unknown |= here & one["differs"] & ~sized
        larger = np.maximum(one["norm_a"], one["norm_b"])
        # By hypotenuse, so that squares do not overflow.
        size = np.hypot(size, np.where(wanted, norm, np.where(here, larger, 0.0)))
        difference = np.hypot(difference, np.where(here, one["norm_difference"], 0.0))
    result = np.zeros(count)
    np.divide(difference, size, out=result, where=difference > 0.0)
    result[unknown | ~present] = np.nan
    return result
