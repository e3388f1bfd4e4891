"""Measure what steps did to a weight, and what of the difference of both runs they inherited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift.cells import Series, equal_cells, moved_cells, sampled, unknown_cells
from tracediff.drift.long_steps import Kept
from tracediff.drift.measure import squeezed_shape, ulp_unit
from tracediff.drift.points import Points
from tracediff.drift.sketched import Fed, estimate_update
from tracediff.drift.source import Source, rows_of, side_by_side
from tracediff.drift.updates import UPDATE, update_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracediff.trace import Allocate

    Flags = NDArray[np.bool_]
    Steps = NDArray[np.int64]


class WeightUpdates:
    """The updates of one weight over all compared steps.

    Args:
        a: The values of A.
        b: The values of B.
        points: How far they can be compared.
        fed: What goes into the updates.

    Attributes:
        records: A record of `UPDATE` for each step.
        moves: For each step, how the changes as such differ: cells as of a tensor.
        measured: The steps whose updates differ, both ends of which were kept.
        estimated: Others, both ends of which have a sketch.
    """

    def __init__(self, a: Source, b: Source, points: Points, fed: Fed) -> None:
        self._a, self._b, self._fed, self._inputs = a, b, fed, fed.sources
        self.records = np.zeros(len(a.steps), UPDATE)
        present = points.present[::2] & points.present[1::2]
        # Where both ends agree, so does what lies between them.
        apart = present & (points.differ[::2] | points.differ[1::2])
        self.moves = equal_cells(present)
        self.moves[apart] = unknown_cells(1)[0]
        kept = (a.versions >= 0) & (b.versions >= 0)
        self.measured = np.flatnonzero(apart & kept[::2] & kept[1::2])
        sketched = a.sketched & b.sketched
        estimated = self.moves["differs"] & sketched[::2] & sketched[1::2]
        estimated[self.measured] = False
        self.estimated = np.flatnonzero(estimated)
        self._kept, self._missing = _kept_inputs(self._inputs, self.measured)

    def within(self, start: int, stop: int) -> slice:
        """Return which of the measured steps are among ``start`` to ``stop``."""
        first, last = np.searchsorted(self.measured, [start, stop])
        return slice(int(first), int(last))

    def inputs(self, here: slice) -> Kept:
        """Return what goes into some of the measured steps."""
        return Kept(self._inputs, self._kept[here], gradient=self._fed.gradient is not None)

    def put(self, here: slice, records: NDArray[np.void], moves: Series) -> None:
        """Take what was found of some of the measured steps."""
        steps = self.measured[here]
        self.records[steps], self.moves[steps] = records, moves
        self._allow_for_missing(here)

    def measure(self, here: slice, allocate: Allocate) -> None:
        """Measure some of the measured steps.

        Args:
            here: Which.
            allocate: Gives memory for values.

        Raises:
            DamagedTrace: A value cannot be read or does not match its digest.
        """
        steps = self.measured[here]
        if not len(steps):
            return
        # Steps that the same inputs were kept for and differ in go together.
        patterns, group = np.unique(self._kept[here], axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            self._measure_alike(
                steps[group.reshape(-1) == number],
                [pair for pair, used in zip(self._inputs, pattern, strict=True) if used],
                gradient=self._fed.gradient is not None and bool(pattern[0]),
                allocate=allocate,
            )
        self._allow_for_missing(here)

    def _allow_for_missing(self, here: slice) -> None:
        # What differs and was not kept may explain all of it.
        self.records["unexplained"][self.measured[here][self._missing[here]]] = 0.0

    def estimate(self, start: int, stop: int) -> None:
        """Fill in from sketches what steps ``start`` to ``stop`` did, where that is wanted."""
        first, last = np.searchsorted(self.estimated, [start, stop])
        for step in self.estimated[first:last].tolist():
            here = slice(step, step + 1)
            cells = self.moves[here], self.records[here]
            estimate_update(*cells, self._a, self._b, step, fed=self._fed)

    def _measure_alike(
        self,
        steps: Steps,
        inputs: Sequence[tuple[Source, Source]],
        *,
        gradient: bool,
        allocate: Allocate,
    ) -> None:
        ends = [
            (side, points) for side in (self._a, self._b) for points in (2 * steps, 2 * steps + 1)
        ]
        ends += [(side, 2 * steps) for pair in inputs for side in pair]
        lists = [side.read(points, allocate=allocate) for side, points in ends]
        for start, arrays in side_by_side(*lists):
            here = steps[start : start + len(arrays[0])]
            shapes = {squeezed_shape(array.shape[1:]) for array in arrays[:4]}
            if len(shapes) > 1:
                continue
            rows = [rows_of(array) for array in arrays]
            pairs = list(zip(rows[4::2], rows[5::2], strict=True))
            self.records[here], moves = update_rows(
                rows[:4],
                gradient=pairs[0] if gradient else None,
                slots=pairs[1:] if gradient else pairs,
                unit=ulp_unit(rows[0].dtype, rows[2].dtype),
            )
            samples = [sampled(values) for values in rows[:4]]
            self.moves[here] = moved_cells(samples, moves, size=rows[0].shape[1])


def _kept_inputs(inputs: Sequence[tuple[Source, Source]], steps: Steps) -> tuple[Flags, Flags]:
    """Say which inputs both runs kept at each step and differ in, and where one was not kept.

    Returns:
        Flags of shape (steps, inputs) and (steps,).
    """
    kept = np.zeros((len(steps), len(inputs)), bool)
    missing = np.zeros(len(steps), bool)
    points = 2 * steps
    for number, (a, b) in enumerate(inputs):
        readable = (a.versions[points] >= 0) & (b.versions[points] >= 0)
        unlike = (a.digests[points] != b.digests[points]).any(axis=1)
        kept[:, number] = readable & unlike
        observed = a.digests[points].any(axis=1) & b.digests[points].any(axis=1)
        missing |= unlike & observed & ~readable
    return kept, missing
