"""Follow one pair of tensors over all steps; values are read only where digests differ.

The steps are cut into blocks of about `BLOCK_BYTES` of values. Blocks may be worked on in any order
and by several threads; what is kept is a few numbers a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift.cells import CELL, Series, equal_cells, measured_cells, unknown_cells
from tracediff.drift.least import least_cells
from tracediff.drift.long_steps import Kept, is_long, measure_long
from tracediff.drift.measure import squeezed_shape
from tracediff.drift.points import STATE, points_of
from tracediff.drift.scratch import Room
from tracediff.drift.sketched import Fed, estimate_point, of_one_shape
from tracediff.drift.source import Source, rows_of, side_by_side
from tracediff.drift.ulp import eps_of
from tracediff.drift.weight_updates import WeightUpdates
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
        self._state = pair.role in STATE
        self._points = points_of(a, b, pair)
        self._cells = np.zeros(len(self._points.read), CELL)
        self._estimates = unknown_cells(len(self._points.sketched))
        self._bounds = unknown_cells(len(self._points.stated))
        self._sources = [a, b, *(one for both in fed.sources for one in both)]
        weight = pair.role == "weight"
        self._updates = WeightUpdates(a, b, self._points, fed) if weight else None

    @property
    def nbytes(self) -> int:
        """The bytes of all values of both runs, read or not; 0 where their shapes vary."""
        return (self.a.nbytes + self.b.nbytes) * (self._steps + self._state)

    def blocks(self) -> list[tuple[int, int]]:
        """Return the blocks to work on, as ranges of steps; none where digests are all equal."""
        points, updates = self._points, self._updates
        steps = np.union1d(np.union1d(points.read, points.sketched), points.stated) // 2
        if updates is not None:
            steps = np.union1d(np.union1d(steps, updates.measured), updates.estimated)
        if not len(steps):
            return []
        size = max(1, BLOCK_BYTES // max(1, sum(one.nbytes for one in self._sources)))
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
        read, updates = _within(self._points.read, start, stop), self._updates
        if self._long:
            self._measure_long(read, start, stop)
        else:
            self._measure(read)
            if updates is not None:
                updates.measure(updates.within(start, stop), _room.take)
        self._estimate(_within(self._points.sketched, start, stop))
        self._bound(_within(self._points.stated, start, stop))
        if updates is not None:
            updates.estimate(start, stop)

    def _measure_long(self, here: slice, start: int, stop: int) -> None:
        """Measure values and updates, which have them in common."""
        points, updates = self._points.read[here], self._updates
        which = slice(0) if updates is None else updates.within(start, stop)
        steps = _NO_STEPS if updates is None else updates.measured[which]
        if not (len(points) or len(steps)):
            return
        self._cells[here], records, moves = measure_long(
            self.a,
            self.b,
            points,
            steps,
            inputs=_NO_INPUTS if updates is None else updates.inputs(which),
            other_bits=self._points.unequal[points],
            allocate=_room.take,
        )
        if updates is not None:
            updates.put(which, records, moves)

    def _measure(self, here: slice) -> None:
        points = self._points.read[here]
        if not len(points):
            return
        if self.a.implied or self.b.implied:
            found = (self.b if self.a.implied else self.a).read(points)
            ones = [np.ones_like(values) for values in found]
            sides = (ones, found) if self.a.implied else (found, ones)
        else:
            sides = self.a.read(points), self.b.read(points)
        other_bits = self._points.unequal[points] & self._points.same_encoding
        for start, (a, b) in side_by_side(*sides):
            rows = slice(here.start + start, here.start + start + len(a))
            if squeezed_shape(a.shape[1:]) != squeezed_shape(b.shape[1:]):
                self._cells[rows] = unknown_cells(len(a), reshaped=True)
                continue
            self._cells[rows] = measured_cells(
                rows_of(a), rows_of(b), other_bits=other_bits[start : start + len(a)]
            )

    def _estimate(self, here: slice) -> None:
        """Measure what sketches tell."""
        points = self._points.sketched[here]
        other_bits = self._points.unequal[points] & self._points.same_encoding
        for number, (point, other) in enumerate(
            zip(points.tolist(), other_bits.tolist(), strict=True), start=here.start
        ):
            cell = self._estimates[number : number + 1]
            estimate_point(cell, self.a, self.b, point, other_bits=other)

    def _bound(self, here: slice) -> None:
        """Measure what statistics tell, which is how far values are apart at least."""
        points = self._points.stated[here]
        if not len(points):
            return
        if of_one_shape(self.a, self.b):
            found = least_cells(self.a.moments(points), self.b.moments(points))
            self._bounds[here] = found
        else:
            self._bounds["reshaped"][here] = True

    def track(self) -> Track:
        """Return what was found, once all blocks are done."""
        points, updates = self._points, self._updates
        cells = equal_cells(points.present)
        cells[points.unknown] = unknown_cells(1)[0]
        cells[points.sketched] = self._estimates
        cells[points.stated] = self._bounds
        cells[points.measured] = self._cells[points.which]
        kinds = [one.tensor.dtype for one in (self.a, self.b) if one.tensor is not None]
        units = [eps_of(kind) for kind in kinds]
        return Track(
            pair=self.pair,
            before=cells[::2] if self._state else None,
            # What a step observes is there once: a view would keep twice as much.
            after=cells[1::2] if self._state else cells[1::2].copy(),
            update=None if updates is None else updates.records,
            floats=all(unit > 0.0 for unit in units),
            eps=max(units, default=0.0),
            moves=None if updates is None else updates.moves,
            mixed=len(set(units)) > 1 and min(units) > 0.0,
        )


_room = Room()
_NO_STEPS = np.zeros(0, np.int64)
_NO_INPUTS = Kept((), np.zeros((0, 0), bool), gradient=False)


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


def _within(points: NDArray[np.int64], start: int, stop: int) -> slice:
    """Return which of some points are of steps ``start`` to ``stop``."""
    first, last = np.searchsorted(points, [2 * start, 2 * stop])
    return slice(int(first), int(last))
