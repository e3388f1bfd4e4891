"""The sums of `tracediff.drift.single` and `tracediff.drift.single_updates` by one compiled pass.

Squares and products are added up in float64. What is counted and every largest difference is the
same, bit for bit, and so is which rows take float64 throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracediff.drift import native
from tracediff.drift.products import LEAST
from tracediff.drift.single_updates import Between, Inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[Any]
    Both = tuple[Values, Values]

_SQUARES = ("square_a", "square_b", "square_difference")
_OF_VALUES = (*_SQUARES, "dot", "peak", "max_abs", "different", "max_ulp")
_OF_UPDATES = (*_SQUARES, "dot", "max_abs", "different")


@dataclass(frozen=True, slots=True, eq=False)
class ValueFound:
    """What the pass found of two values.

    Attributes:
        record: One of `native.VALUE`.
    """

    record: np.void

    def fill_in(self, a: Values, b: Values, result: NDArray[np.void]) -> bool:
        """Write the sums into a record; as `single.ValueSums.fill_in`."""
        del a, b  # Nothing is left to look up in them.
        if not _good(self.record, _SQUARES):
            return False
        _copy(self.record, result, _OF_VALUES)
        return True


@dataclass(frozen=True, slots=True, eq=False)
class UpdateFound:
    """What the pass found of an update.

    Attributes:
        record: One of `native.MOVED`.
    """

    record: np.void

    def fill_in(
        self, state: Sequence[Values], moves: NDArray[np.void]
    ) -> tuple[float, float, float, float] | None:
        """Write the sums into a record; as `single_updates.UpdateSums.fill_in`."""
        del state  # Nothing is left to look up in it.
        record = self.record
        left, noise, after_a, after_b = (
            float(record[name]) for name in ("unexplained", "noise", "after_a", "after_b")
        )
        if not (_good(record, (*_SQUARES, "after_a", "after_b")) and math.isfinite(left)):
            return None
        _copy(record, moves, _OF_UPDATES)
        return left, noise, after_a, after_b


def passed_over(
    passes: native.Passes,
    moments: Sequence[Both],
    wanted: Sequence[bool],
    updates: Sequence[Between],
) -> tuple[list[ValueFound | None], list[UpdateFound]]:
    """Return what one pass finds; arguments as for `long_rows.long_sums`."""
    values, moves = passes.drift(moments, wanted, updates)
    some = [ValueFound(record) if one else None for record, one in zip(values, wanted, strict=True)]
    return some, [UpdateFound(record) for record in moves]


def value_sums(passes: native.Passes, a: Values, b: Values, result: NDArray[np.void]) -> bool:
    """Sum up a row; as `single.value_sums`."""
    (found,), _ = passed_over(passes, [(a, b)], [True], [])
    return found is not None and found.fill_in(a, b, result)


def update_sums(
    passes: native.Passes, state: Sequence[Values], inputs: Inputs, moves: NDArray[np.void]
) -> tuple[float, float, float, float] | None:
    """Sum up what an update of a row does; as `single_updates.update_sums`."""
    before_a, after_a, before_b, after_b = state
    moments = [(before_a, before_b), (after_a, after_b)]
    _, (found,) = passed_over(passes, moments, [False, False], [Between(0, 1, inputs)])
    return found.fill_in(state, moves)


def _good(record: np.void, squares: Sequence[str]) -> bool:
    """Say whether squares are good, as `products.good`; in float64, none but zeros have a sum 0."""
    return not record["outside"] and all(
        record[name] == 0.0 or record[name] > LEAST for name in squares
    )


def _copy(record: np.void, result: NDArray[np.void], names: Sequence[str]) -> None:
    for name in names:
        result[name] = record[name]
    result["same_sign"] = -1
