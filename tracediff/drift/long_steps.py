"""Measure a long float32 tensor over some steps, each of its values read once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.cells import Series, moved_cells, sampled, value_cells
from tracediff.drift.long_rows import long_sums
from tracediff.drift.measure import squeezed_shape
from tracediff.drift.single_updates import Between
from tracediff.drift.source import Source
from tracediff.drift.sums import SHORT, SUMS
from tracediff.drift.updates import inputs_of, noise_levels, update_records, update_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracediff.trace import Allocate

    Values = NDArray[Any]
    Both = tuple[Values, Values]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What goes into some updates of a weight.

    Attributes:
        sources: A's and B's gradient, where ``gradient`` is true, and slots.
        kept: At which steps each was kept by both and differs; shape (steps, inputs).
        gradient: Whether the first is the gradient.
    """

    sources: Sequence[tuple[Source, Source]]
    kept: NDArray[np.bool_]
    gradient: bool


def is_long(a: Source, b: Source) -> bool:
    """Say whether two tensors can be measured here: long, of float32, of one shape and layout."""
    one, other = a.tensor, b.tensor
    if one is None or other is None or one.shape is None or other.shape is None:
        return False
    return (
        one.dtype == other.dtype == "float32"
        and squeezed_shape(one.shape) == squeezed_shape(other.shape)
        and math.prod(one.shape) > SHORT
        and a.many
        and b.many
        and a.adapt is None is b.adapt
    )


def measure_long(
    a: Source,
    b: Source,
    points: NDArray[np.int64],
    steps: NDArray[np.int64],
    *,
    inputs: Kept,
    other_bits: NDArray[np.bool_],
    allocate: Allocate,
) -> tuple[Series, NDArray[np.void], Series]:
    """Return the cells of values, and the records of `UPDATE` and the cells of updates.

    Args:
        a: The values of A.
        b: The values of B.
        points: At which points values are measured.
        steps: At which steps updates are.
        inputs: What goes into these.
        other_bits: For each point, whether other bits are a difference, be they of equal value.
        allocate: Gives memory for values.

    Raises:
        DamagedTrace: A value cannot be read or does not match its digest.
    """
    ends = np.unique(np.concatenate([points, 2 * steps, 2 * steps + 1]))
    keys = (a.versions[ends].astype(np.int64) << 32) | b.versions[ends]
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    at, number = ends[first[order]], np.argsort(order)[which.reshape(-1)]
    here, before, after = (
        number[np.searchsorted(ends, some)] for some in (points, 2 * steps, 2 * steps + 1)
    )
    moments = list(zip(*(_rows(side, at, allocate) for side in (a, b)), strict=True))
    size = moments[0][0].size
    pairs = _pairs(inputs, steps, allocate, size)
    quick = [
        number
        for number, some in enumerate(pairs)
        if all(values.dtype == np.float32 for pair in some for values in pair)
    ]
    updates = [
        Between(int(before[k]), int(after[k]), inputs_of(pairs[k], _level(inputs, k, pairs[k])))
        for k in quick
    ]
    wanted = np.zeros(len(moments), bool)
    wanted[here] = True
    sums, moved, squares = long_sums(moments, wanted.tolist(), updates)
    every, total = np.full((len(steps), 4), np.nan), np.zeros(len(steps), SUMS)
    every[quick], total[quick] = squares, moved
    found = update_records(every, total)
    for k in np.flatnonzero(np.isnan(every[:, 0])).tolist():
        state = [moments[end][side][None] for side in (0, 1) for end in (before[k], after[k])]
        rows = [(x[None], y[None]) for x, y in pairs[k]]
        with_gradient = inputs.gradient and bool(inputs.kept[k, 0]) and bool(rows)
        found[k : k + 1], total[k : k + 1] = update_rows(
            state,
            gradient=rows[0] if with_gradient else None,
            slots=rows[1:] if with_gradient else rows,
            unit=np.dtype(np.float32),
        )
    samples = [np.concatenate([sampled(both[side][None]) for both in moments]) for side in (0, 1)]
    cells = value_cells(
        samples[0][here], samples[1][here], sums[here], size=size, other_bits=other_bits
    )
    state = [one[end] for one in samples for end in (before, after)]
    return cells, found, moved_cells(state, total, size=size)


def _rows(side: Source, points: NDArray[np.int64], allocate: Allocate) -> list[Values]:
    """Return the values at some points, each in one dimension."""
    found = side.read(points, allocate=allocate)
    return [row for values in found for row in values.reshape(len(values), -1)]


def _pairs(
    inputs: Kept, steps: NDArray[np.int64], allocate: Allocate, size: int
) -> list[list[Both]]:
    """Return for each step the inputs that were kept and have the weight's size."""
    result: list[list[Both]] = [[] for _ in steps]
    for (a, b), kept in zip(inputs.sources, inputs.kept.T, strict=True):
        wanted = np.flatnonzero(kept)
        if not len(wanted):
            continue
        rows = (_rows(side, 2 * steps[wanted], allocate) for side in (a, b))
        for which, one, other in zip(wanted.tolist(), *rows, strict=True):
            if one.size == other.size == size:
                result[which].append((one, other))
    return result


def _level(inputs: Kept, number: int, pairs: Sequence[Both]) -> float | None:
    """Return up to where differences of the gradient are rounding; None without a gradient."""
    if not (pairs and inputs.gradient and inputs.kept[number, 0]):
        return None
    a, b = pairs[0]
    return float(noise_levels(a[None], b[None])[0])
