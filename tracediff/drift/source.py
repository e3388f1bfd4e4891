"""One run's values of one tensor at the compared steps, read many at a time and verified once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracediff.drift.least import Moments, moments, sparse_moments
from tracediff.model import Moment
from tracediff.trace import Allocate, Run, Sketch, Tensor, statistics_of

Values = NDArray[Any]
MOMENTS: tuple[Moment, Moment] = ("before", "after")


def nbytes(tensor: Tensor | None) -> int:
    """Return the bytes of one value of a tensor; 0 for none, and where values vary in shape."""
    if tensor is None or tensor.shape is None:
        return 0
    try:
        width = np.dtype(tensor.dtype).itemsize
    except TypeError:
        width = 4
    return math.prod(tensor.shape) * width


class Source:
    """One run's values of one tensor; without a tensor, ones in the shape of the other side's.

    Points in time are numbered 2 k for before and 2 k + 1 for after the k-th compared step.

    Args:
        run: The run.
        tensor: Its tensor, or None for implied ones.
        steps: The run's step that each compared step is; int (steps,).
        adapt: Brings values of shape (n, ...) into the layout of the other side, or None.
    """

    def __init__(
        self,
        run: Run,
        tensor: Tensor | None,
        steps: NDArray[np.int64],
        *,
        adapt: Callable[[Values], Values] | None = None,
    ) -> None:
        self.run, self.tensor, self.steps, self.adapt = run, tensor, steps, adapt
        self.digests = np.zeros((2 * len(steps), 2), np.uint64)
        self.versions = np.full(2 * len(steps), -1, np.int32)
        self.sketched = np.zeros(2 * len(steps), bool)
        self.many = tensor is not None and run.many(tensor)
        if tensor is None:
            return
        for number, moment in enumerate(MOMENTS if tensor.table == "state" else MOMENTS[:1]):
            self.digests[number::2] = run.digests(tensor, moment)[steps]
            self.versions[number::2] = run.versions(tensor, moment)[steps]
            self.sketched[number::2] = run.sketched(tensor, moment)[steps]
        if tensor.table != "state":
            self.digests[1::2], self.versions[1::2] = self.digests[::2], self.versions[::2]
            self.sketched[1::2] = self.sketched[::2]

    @property
    def implied(self) -> bool:
        """Whether ones stand for what this run does not have."""
        return self.tensor is None

    @property
    def nbytes(self) -> int:
        """The bytes of one value; 0 where values vary in shape."""
        return nbytes(self.tensor)

    def sketch(self, point: int) -> Sketch:
        """Return the sketch of the value at a point where there is one."""
        assert self.tensor is not None, "implied values have no sketch"
        moment = MOMENTS[point % 2 if self.tensor.table == "state" else 0]
        return self.run.sketch(self.tensor, int(self.steps[point // 2]), moment)

    def peak(self, point: int) -> float:
        """Return the largest magnitude of the value at a point; NaN where it is not known."""
        assert self.tensor is not None, "implied values have no sketch"
        moment = MOMENTS[point % 2 if self.tensor.table == "state" else 0]
        found = self.run.statistics(self.tensor, int(self.steps[point // 2]), moment)
        return math.nan if found is None else max(abs(found.min), abs(found.max))

    def moments(self, points: NDArray[np.int64]) -> Moments:
        """Return what is known of the values at some points by their statistics.

        Raises:
            DamagedTrace: A value that was kept cannot be read or does not match its digest.
        """
        assert self.tensor is not None, "implied values have no statistics"
        rows = np.full((len(points), 8), np.nan)
        kept = self.versions[points] >= 0
        for number, moment in enumerate(MOMENTS):
            here = (points % 2 == number) & ~kept
            if here.any():
                end = moment if self.tensor.table == "state" else MOMENTS[0]
                table = self.run.recorded_statistics(self.tensor, end)
                rows[here] = table[self.steps[points[here] // 2]]
        recorded = self.tensor
        if recorded.same_as is not None:
            recorded = self.run.find(recorded.same_as, recorded.name) or recorded
        if recorded.layout == "sparse":
            found = sparse_moments(rows, shape=self.tensor.shape or ())
        else:
            found = moments(rows)
        if kept.any():
            values = [one for some in self.read(points[kept]) for one in some]
            rows[kept] = [astuple(statistics_of(one)) for one in values]
            found = found.but(moments(rows, error=0.0), where=kept)
        return found

    def read(self, points: NDArray[np.int64], *, allocate: Allocate | None = None) -> list[Values]:
        """Return the values at some points, in few arrays of shape (n, ...).

        Args:
            points: Which.
            allocate: Gives memory for large values.

        Raises:
            DamagedTrace: A value cannot be read or does not match its digest.
        """
        assert self.tensor is not None, "implied values have no shape of their own"
        if self.many:
            versions, digests = self.versions[points], self.digests[points]
            found = self.run.read_many(self.tensor, versions, digests, allocate=allocate)
        else:
            found = [
                self.run.read(self.tensor, int(self.steps[point // 2]), MOMENTS[point % 2])[None]
                for point in points.tolist()
            ]
        return found if self.adapt is None else [self.adapt(values) for values in found]


def rows_of(values: Values) -> Values:
    """Return values of shape (n, ...) as n rows."""
    return values.reshape(len(values), -1)


def side_by_side(*sides: Sequence[Values]) -> Iterator[tuple[int, tuple[Values, ...]]]:
    """Cut several lists of arrays, which hold equally many values, at the same places.

    Yields:
        The number of the first value, and one array of shape (n, ...) a side. Long values are not
        copied; short ones are, where that saves many small pieces.
    """
    ends = [np.cumsum([len(values) for values in side]) for side in sides]
    cuts = np.unique(np.concatenate(ends)).tolist()
    count = cuts[-1] if cuts else 0
    uniform = all(len({values.shape[1:] for values in side}) == 1 for side in sides)
    if len(cuts) > 1 and uniform and sides[0][0][0].size * count <= _COPIED:
        yield 0, tuple(np.concatenate(side) if len(side) > 1 else side[0] for side in sides)
        return
    start = 0
    for stop in cuts:
        pieces = []
        for side, end in zip(sides, ends, strict=True):
            which = int(np.searchsorted(end, start, side="right"))
            offset = int(end[which]) - len(side[which])
            pieces.append(side[which][start - offset : stop - offset])
        yield start, tuple(pieces)
        start = stop


_COPIED = 1 << 18
