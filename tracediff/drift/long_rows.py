"""A long float32 tensor at some moments, and what the updates between them did: in one pass.

A part of all values is worked on before the next one is, so that what an update moved is in the
cache of a core still, from the sums over the values that it led from and to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import native
from tracediff.drift.compiled import UpdateFound, ValueFound, passed_over
from tracediff.drift.single import ValueSums
from tracediff.drift.single_updates import BLOCK, Between, UpdateSums
from tracediff.drift.sums import SUMS, row_sums
from tracediff.drift.ulp import narrower

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]
    Both = tuple[Values, Values]


def long_sums(
    moments: Sequence[Both], wanted: Sequence[bool], updates: Sequence[Between]
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.float64]]:
    """Sum up how far values are apart, and updates of them.

    Args:
        moments: A's and B's values; contiguous float32 of shape (elements,), in the order of time.
        wanted: Of which of these the sums are wanted, too.
        updates: The updates.

    Returns:
        A record of `SUMS` for each moment, zeros where it is not wanted. One for each update, and
        its squares of what is unexplained, of noise, and of both weights after it; shape
        (updates, 4), NaN where that takes float64.
    """
    # What overflows is noticed, and summed up in float64.
    with np.errstate(over="ignore", invalid="ignore"):
        if native.PASSES is not None:
            return _records(moments, *passed_over(native.PASSES, moments, wanted, updates), updates)
        return _records(moments, *_by_numpy(moments, wanted, updates), updates)


def _by_numpy(
    moments: Sequence[Both], wanted: Sequence[bool], updates: Sequence[Between]
) -> tuple[list[ValueSums | None], list[UpdateSums]]:
    size = moments[0][0].size
    values = [ValueSums(size) if one else None for one in wanted]
    # What the sums over values tell of a weight, those over its update need not.
    moves = [UpdateSums(size, one.inputs, weights=not wanted[one.after]) for one in updates]
    due: dict[int, list[int]] = {}
    for number, one in enumerate(updates):
        due.setdefault(max(one.before, one.after), []).append(number)
    for start in range(0, size, BLOCK):
        _add_part(start, moments, values, moves, updates, due)
    return values, moves


def _add_part(
    start: int,
    moments: Sequence[Both],
    values: Sequence[ValueSums | None],
    moves: Sequence[UpdateSums],
    updates: Sequence[Between],
    due: dict[int, list[int]],
) -> None:
    part = slice(start, start + BLOCK)
    last: Values | None = None
    for number, (a, b) in enumerate(moments):
        difference: Values | None = None
        sums = values[number]
        if sums is not None:
            name = ("even", "odd")[number % 2]
            difference = sums.add(start, a[part], b[part], name)
        for which in due.get(number, ()):
            one = updates[which]
            known = last if one.before == number - 1 else None
            state = [moments[end][side][part] for side in (0, 1) for end in (one.before, one.after)]
            moves[which].add(start, state, known)
            if known is not None:
                last = None  # It was worked on.
        last = difference


def _records(
    moments: Sequence[Both],
    values: Sequence[ValueSums | ValueFound | None],
    moves: Sequence[UpdateSums | UpdateFound],
    updates: Sequence[Between],
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.float64]]:
    sums, moved = np.zeros(len(moments), SUMS), np.zeros(len(updates), SUMS)
    squares = np.full((len(updates), 4), np.nan)
    for number, ((a, b), found) in enumerate(zip(moments, values, strict=True)):
        if found is not None and not found.fill_in(a, b, sums[number, ...]):
            sums[number] = row_sums(a[None], b[None], unit=narrower(a.dtype, b.dtype))[0]
    for number, (one, update) in enumerate(zip(updates, moves, strict=True)):
        state = [moments[end][side] for side in (0, 1) for end in (one.before, one.after)]
        done = update.fill_in(state, moved[number, ...])
        if done is None:
            continue
        squares[number] = done
        if values[one.after] is not None:
            squares[number, 2:] = sums["square_a"][one.after], sums["square_b"][one.after]
    return sums, moved, squares
