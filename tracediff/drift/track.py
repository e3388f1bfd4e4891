"""Follow one pair of tensors over all steps; values are read only where digests differ.

The steps are cut into blocks of about `BLOCK_BYTES` of values. Blocks may be worked on in any order
and by several threads; what is kept is a few numbers a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.cells import (
    CELL,
    Series,
    equal_cells,
    measured_cells,
    moved_cells,
    sampled,
    unknown_cells,
)
from tracediff.drift.least import least_cells
from tracediff.drift.long_steps import Kept, is_long, measure_long
from tracediff.drift.measure import squeezed_shape, ulp_unit
from tracediff.drift.scratch import Room
from tracediff.drift.sketched import Fed, estimate_point, estimate_update, of_one_shape
from tracediff.drift.source import Source, side_by_side
from tracediff.drift.updates import UPDATE, update_rows
from tracediff.model import Pair
from tracediff.trace import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOTHING = Fed()
"""What goes into what no optimizer updates."""
BLOCK_BYTES = 32 << 20
"""Values that one block reads, about; a block has one step at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """How one pair of tensors differs, step by step.

    Attributes:
        pair: The tensors.
        before: For state, before each step; None for what a step observes.
        after: For state, after each step; for all else, at the step.
        update: For weights, how the change during each step differs beyond what it inherits; else
            None.
        floats: Whether both are floats, so that ulp distances have a meaning.
        eps: Machine epsilon of the narrower dtype; 0 where neither is a float.
        moves: For weights, how the changes as such differ: cells as of a tensor; else None.
        mixed: Whether the two are floats of different precision.
    """

    pair: Pair
    before: Series | None
    after: Series
    update: Series | None
    floats: bool
    eps: float
    moves: Series | None = None
    mixed: bool = False

    @property
    def state(self) -> bool:
        """Whether the tensor is state, seen before and after each step."""
        return self.before is not None


class Follower:
    """Measures one pair of tensors, block by block.

    Args:
        a: The values of A.
        b: The values of B.
        pair: The tensors.
        fed: For a weight, A's and B's values of what goes into its updates.
    """

    def __init__(
        self,
        a: Source,
        b: Source,
        pair: Pair,
        *,
        fed: Fed = NOTHING,
    ) -> None:
        self.a, self.b, self.pair = a, b, pair
        self._steps = len(a.steps)
        self._long = is_long(a, b)
        self._state = pair.role in ("weight", "slot")
        one, other = a.tensor, b.tensor
        both = one is not None and other is not None
        self._same_dtype = both and one.dtype == other.dtype  # type: ignore[union-attr]
        self._same_encoding = (
            self._same_dtype
            and "sparse" not in (one.layout, other.layout)  # type: ignore[union-attr]
            and a.adapt is None is b.adapt
        )
        scalar = all(side is not None and side.shape == () for side in (one, other))
        self._find_points(scalar=scalar)
        self._cells = np.zeros(len(self._points), CELL)
        self._estimates = unknown_cells(len(self._sketched))
        self._bounds = unknown_cells(len(self._stated))
        self._fed = fed
        self._inputs = fed.sources
        wanted = pair.role == "weight"
        self._update = np.zeros(self._steps, UPDATE) if wanted else None
        self._updates = self._steps_to_update() if wanted else np.zeros(0, np.int64)
        self._moves = self._moves_so_far() if wanted else None
        self._sketched_updates = self._updates_to_estimate() if wanted else np.zeros(0, np.int64)

    def _find_points(self, *, scalar: bool) -> None:
        """Work out which values to read: of equal pairs of digests only the first."""
        a, b = self.a, self.b
        present = np.ones(2 * self._steps, bool)
        for side in (a, b):
            if not side.implied:
                present &= side.digests.any(axis=1)
        comparable = self._same_dtype and a.adapt is None is b.adapt
        unequal = (a.digests != b.digests).any(axis=1)
        # The sizes of scalars are wanted where they agree, too, and cost next to nothing.
        looked_at = present if scalar or not comparable else present & unequal
        if not self._state:
            looked_at = looked_at & (np.arange(2 * self._steps) % 2 == 1)
        readable = np.ones(2 * self._steps, bool)
        for side in (a, b):
            if not side.implied:
                readable &= side.versions >= 0
        self._present, self._unequal = present, unequal | (not self._both())
        self._unknown = looked_at & ~readable & (self._unequal | (not self._same_dtype))
        self._sketched = np.flatnonzero(self._unknown & a.sketched & b.sketched)
        stated = self._unknown & ~(a.sketched & b.sketched) & self._computed()
        self._stated = np.flatnonzero(stated)
        wanted = np.flatnonzero(looked_at & readable)
        keys = np.concatenate([a.digests, b.digests], axis=1)[wanted]
        _, first, self._which = np.unique(
            (keys * _MIX).sum(axis=1, dtype=np.uint64), return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        self._wanted, self._which = wanted, rank[self._which.reshape(-1)]
        self._points = wanted[first[order]]

    def _computed(self) -> NDArray[np.bool_]:
        """Say at which points other bits may be rounding, and it matters how far apart they are.

        What is fed in and what the first step starts from are not computed, and integers are not
        rounded. Of another dtype all bits are others, and say nothing.
        """
        result = np.full(2 * self._steps, self._both())
        if not result.any() or not self._same_dtype:
            return result
        if self.pair.role in _FED or not _eps(self.a.tensor.dtype if self.a.tensor else ""):
            result[:] = False
        elif self._state and self._present.any():
            first = int(np.argmax(self._present))
            result[first] = first % 2 == 1 and result[first]
        return result

    def _both(self) -> bool:
        return not (self.a.implied or self.b.implied)

    def _steps_to_update(self) -> NDArray[np.int64]:
        """Return the steps whose updates differ and can be compared."""
        wanted = np.ones(2 * self._steps, bool)
        for side in (self.a, self.b):
            wanted &= side.versions >= 0
        wanted &= self._present
        differs = self._unequal | (not self._same_dtype)
        return np.flatnonzero(wanted[::2] & wanted[1::2] & (differs[::2] | differs[1::2]))

    def _moves_so_far(self) -> Series:
        """Return the cells of updates before any is measured: equal ones, and unknown ones."""
        present = self._present[::2] & self._present[1::2]
        cells = equal_cells(present)
        # Where both ends agree, so does what lies between them.
        differs = self._unequal | (not self._same_dtype)
        apart = present & (differs[::2] | differs[1::2])
        cells[apart] = unknown_cells(1)[0]
        return cells

    def _updates_to_estimate(self) -> NDArray[np.int64]:
        """Return the steps whose updates differ and are known by the sketches of both ends."""
        assert self._moves is not None
        there = self.a.sketched & self.b.sketched
        wanted = self._moves["differs"] & there[::2] & there[1::2]
        wanted[self._updates] = False
        return np.flatnonzero(wanted)

    @property
    def nbytes(self) -> int:
        """The bytes of all values of both runs, read or not; 0 where their shapes vary."""
        return (self.a.nbytes + self.b.nbytes) * (self._steps + self._state)

    def blocks(self) -> list[tuple[int, int]]:
        """Return the blocks to work on, as ranges of steps; none where digests are all equal."""
        points = np.union1d(np.union1d(self._points, self._sketched), self._stated)
        steps = np.union1d(points // 2, self._updates)
        steps = np.union1d(steps, self._sketched_updates)
        if not len(steps):
            return []
        sources = [self.a, self.b] + [one for pair in self._inputs for one in pair]
        size = max(1, BLOCK_BYTES // max(1, sum(one.nbytes for one in sources)))
        starts = range(0, self._steps, size)
        blocks = [(start, min(start + size, self._steps)) for start in starts]
        counts = np.diff(np.searchsorted(steps, [start for start, _ in blocks] + [self._steps]))
        return [block for block, count in zip(blocks, counts, strict=True) if count]

    def work(self, start: int, stop: int) -> None:
        """Measure what differs in steps ``start`` to ``stop``.

        Raises:
            DamagedTrace: A value cannot be read or does not match its digest.
        """
        _room.clear()
        first, last = np.searchsorted(self._points, [2 * start, 2 * stop])
        begin, end = np.searchsorted(self._updates, [start, stop])
        if self._long and (last > first or end > begin):
            self._measure_long(slice(first, last), self._updates[begin:end])
        elif last > first:
            self._measure(int(first), int(last))
        first, last = np.searchsorted(self._sketched, [2 * start, 2 * stop])
        for number, point in enumerate(self._sketched[first:last].tolist(), start=int(first)):
            other_bits = bool(self._unequal[point]) and self._same_encoding
            cell = self._estimates[number : number + 1]
            estimate_point(cell, self.a, self.b, point, other_bits=other_bits)
        first, last = np.searchsorted(self._stated, [2 * start, 2 * stop])
        if last > first:
            self._bound(int(first), int(last))
        if end > begin and not self._long:
            self._measure_updates(self._updates[begin:end])
        first, last = np.searchsorted(self._sketched_updates, [start, stop])
        for step in self._sketched_updates[first:last].tolist():
            assert self._moves is not None  # there are no such steps otherwise
            assert self._update is not None
            here = slice(step, step + 1)
            cells = self._moves[here], self._update[here]
            estimate_update(*cells, self.a, self.b, step, fed=self._fed)

    def _measure(self, first: int, last: int) -> None:
        points = self._points[first:last]
        if self.a.implied or self.b.implied:
            found = (self.b if self.a.implied else self.a).read(points)
            ones = [np.ones_like(values) for values in found]
            sides = (ones, found) if self.a.implied else (found, ones)
        else:
            sides = self.a.read(points), self.b.read(points)
        other_bits = self._unequal[points] & self._same_encoding
        for start, (a, b) in side_by_side(*sides):
            rows = slice(first + start, first + start + len(a))
            if squeezed_shape(a.shape[1:]) != squeezed_shape(b.shape[1:]):
                self._cells[rows] = unknown_cells(len(a), reshaped=True)
                continue
            self._cells[rows] = measured_cells(
                _as_rows(a), _as_rows(b), other_bits=other_bits[start : start + len(a)]
            )

    def _bound(self, first: int, last: int) -> None:
        """Measure what statistics tell, which is how far values are apart at least."""
        points = self._stated[first:last]
        if of_one_shape(self.a, self.b):
            found = least_cells(self.a.moments(points), self.b.moments(points))
            self._bounds[first:last] = found
        else:
            self._bounds["reshaped"][first:last] = True

    def _measure_long(self, here: slice, steps: NDArray[np.int64]) -> None:
        points = self._points[here]
        kept, unknown = self._kept_inputs(steps)
        self._cells[here], found, moves = measure_long(
            self.a,
            self.b,
            points,
            steps,
            inputs=Kept(self._inputs, kept, gradient=self._fed.gradient is not None),
            other_bits=self._unequal[points],
            allocate=_room.take,
        )
        if self._update is not None and self._moves is not None:
            # What differs and was not kept may explain all of it.
            found["unexplained"][unknown] = 0.0
            self._update[steps], self._moves[steps] = found, moves

    def _kept_inputs(self, steps: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Say which inputs both runs kept at each step and differ in, and where one was not kept.

        Returns:
            Flags of shape (steps, inputs) and (steps,).
        """
        kept = np.zeros((len(steps), len(self._inputs)), bool)
        unknown = np.zeros(len(steps), bool)
        for number, (a, b) in enumerate(self._inputs):
            points = 2 * steps
            readable = (a.versions[points] >= 0) & (b.versions[points] >= 0)
            unlike = (a.digests[points] != b.digests[points]).any(axis=1)
            kept[:, number] = readable & unlike
            observed = a.digests[points].any(axis=1) & b.digests[points].any(axis=1)
            unknown |= unlike & observed & ~readable
        return kept, unknown

    def _measure_updates(self, steps: NDArray[np.int64]) -> None:
        assert self._update is not None  # there are no steps to update otherwise
        assert self._moves is not None
        if not len(steps):
            return
        # Steps that the same inputs were kept for and differ in go together.
        kept, unknown = self._kept_inputs(steps)
        patterns, group = np.unique(kept, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            self._measure_group(
                steps[group.reshape(-1) == number],
                [pair for pair, used in zip(self._inputs, pattern, strict=False) if used],
                fed=self._fed.gradient is not None and bool(pattern[0]),
            )
        # What differs and was not kept may explain all of it.
        self._update["unexplained"][steps[unknown]] = 0.0

    def _measure_group(
        self, steps: NDArray[np.int64], inputs: Sequence[tuple[Source, Source]], *, fed: bool
    ) -> None:
        assert self._update is not None
        assert self._moves is not None
        ends = [
            (side, points) for side in (self.a, self.b) for points in (2 * steps, 2 * steps + 1)
        ]
        ends += [(side, 2 * steps) for pair in inputs for side in pair]
        lists = [side.read(points, allocate=_room.take) for side, points in ends]
        for start, arrays in side_by_side(*lists):
            here = steps[start : start + len(arrays[0])]
            shapes = {squeezed_shape(array.shape[1:]) for array in arrays[:4]}
            if len(shapes) > 1:
                continue
            rows = [_as_rows(array) for array in arrays]
            pairs = list(zip(rows[4::2], rows[5::2], strict=True))
            found, moves = update_rows(
                rows[:4],
                gradient=pairs[0] if fed else None,
                slots=pairs[1:] if fed else pairs,
                unit=ulp_unit(rows[0].dtype, rows[2].dtype),
            )
            self._update[here] = found
            samples = [sampled(values) for values in rows[:4]]
            self._moves[here] = moved_cells(samples, moves, size=rows[0].shape[1])

    def track(self) -> Track:
        """Return what was found, once all blocks are done."""
        cells = equal_cells(self._present)
        cells[self._unknown] = unknown_cells(1)[0]
        cells[self._sketched] = self._estimates
        cells[self._stated] = self._bounds
        cells[self._wanted] = self._cells[self._which]
        kinds = [one.tensor.dtype for one in (self.a, self.b) if one.tensor is not None]
        units = [_eps(kind) for kind in kinds]
        return Track(
            pair=self.pair,
            before=cells[::2] if self._state else None,
            # What a step observes is there once: a view would keep twice as much.
            after=cells[1::2] if self._state else cells[1::2].copy(),
            update=self._update,
            floats=all(unit > 0.0 for unit in units),
            eps=max(units, default=0.0),
            moves=self._moves,
            mixed=len(set(units)) > 1 and min(units) > 0.0,
        )


_FED = ("input", "label", "sample_weight")
_room = Room()

_MIX = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64
)
"""Odd numbers that make one hash of a pair of digests, which are hashes themselves."""


def follower(
    a: Run,
    b: Run,
    pair: Pair,
    *,
    steps: tuple[NDArray[np.int64], NDArray[np.int64]],
    gradient: Pair | None = None,
    slots: Sequence[Pair] = (),
    linear: bool = False,
) -> Follower:
    """Return what follows a pair of tensors over the compared steps.

    Args:
        a: The first run.
        b: The second run.
        pair: The tensors.
        steps: Of each run, the steps to compare, in order.
        gradient: For a weight, the pair of the gradient that its update consumed.
        slots: For a weight, the pairs of its slots.
        linear: Whether updates are sums of multiples of gradients and slots.
    """

    def sources(one: Pair) -> tuple[Source, Source]:
        return (
            Source(a, None if one.a is None else a.find(one.role, one.a), steps[0]),
            Source(b, None if one.b is None else b.find(one.role, one.b), steps[1]),
        )

    fed = Fed(
        gradient=None if gradient is None else sources(gradient),
        slots=[sources(one) for one in slots],
        linear=linear,
    )
    return Follower(*sources(pair), pair, fed=fed)


def track_pair(
    a: Run,
    b: Run,
    pair: Pair,
    *,
    steps: int,
    gradient: Pair | None = None,
    slots: Sequence[Pair] = (),
) -> Track:
    """Follow one pair of tensors over the first ``steps`` steps of both runs.

    Raises:
        DamagedTrace: A value cannot be read or does not match its digest.
    """
    numbers = np.arange(steps)
    found = follower(a, b, pair, steps=(numbers, numbers), gradient=gradient, slots=slots)
    for block in found.blocks():
        found.work(*block)
    return found.track()


def _as_rows(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)


def _eps(dtype: str) -> float:
    if dtype == "bfloat16":
        return 2.0**-7
    try:
        kind = np.dtype(dtype)
    except TypeError:
        return 0.0
    return float(np.finfo(kind).eps) if kind.kind == "f" else 0.0
