"""Which rows of which batch of A are the rows of a batch of B: to the byte, or transformed.

Hashes are kept of every row that is looked at, values of one batch at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from tracediff.drift import squeezed
from tracediff.errors import NotKept
from tracediff.trace import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

READ_STEPS = 512
"""Batches of A in which the rows of a batch of B are looked for."""
_READ_ROWS = 4096
"""Rows of A that are compared by value, for rows that were transformed."""
_SAME_DIRECTION = 0.99999
"""Correlation from which on two rows are one but for scale and offset."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of a batch of B that stand in one batch of A, one after the other.

    Attributes:
        step_b: The step of B.
        first_b: The first of its rows.
        step_a: The step of A.
        first_a: The row of A that this first row is.
        count: How many rows there are.
        stride: 1 where they run the same way, -1 where A has them the other way round.
    """

    step_b: int
    first_b: int
    step_a: int
    first_a: int
    count: int
    stride: int = 1

    @property
    def words(self) -> str:
        """The segment as a sentence.

        Example:
            >>> Segment(3, 0, 4, 0, 16).words
            'rows 0 to 15 of step 4 in A are rows 0 to 15 of step 3 in B'
        """
        last_a = self.first_a + self.stride * (self.count - 1)
        last_b = self.first_b + self.count - 1
        if self.count == 1:
            return (
                f"row {self.first_a} of step {self.step_a} in A is row {self.first_b} of step "
                f"{self.step_b} in B"
            )
        return (
            f"rows {self.first_a} to {last_a} of step {self.step_a} in A are rows {self.first_b} "
            f"to {last_b} of step {self.step_b} in B"
        )


@dataclass(frozen=True, slots=True)
class Located:
    """Where the rows of one batch of B stand in A.

    Attributes:
        step: The step of B.
        rows: How many rows it has.
        segments: Its rows as far as A has them, in B's order.
        missing: Rows that none of the batches looked at has.
        scale: What the rows of A are multiplied by, 1 where they are equal.
        offset: What is added to them, 0 where they are equal.
    """

    step: int
    rows: int
    segments: tuple[Segment, ...]
    missing: tuple[int, ...]
    scale: float = 1.0
    offset: float = 0.0

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of A in which the rows stand."""
        return tuple(dict.fromkeys(segment.step_a for segment in self.segments))

    @property
    def moved(self) -> bool:
        """Whether some row stands elsewhere in A."""
        return any(
            (one.step_a, one.first_a) != (self.step, one.first_b) for one in self.segments
        ) or any(one.stride < 0 for one in self.segments)

    @property
    def transformed(self) -> bool:
        """Whether the rows are scaled or moved by more than rounding."""
        return abs(self.scale - 1.0) > 1e-5 or abs(self.offset) > 1e-5

    def words(self, *, limit: int = 3, step_b: int | None = None) -> tuple[str, ...]:
        """Return in sentences which rows are which, the first few of them.

        Args:
            limit: How many segments to spell out.
            step_b: B's own number of its step, where that is seen by another.
        """
        step = self.step if step_b is None else step_b
        lines = [replace(one, step_b=step).words for one in self.segments[:limit]]
        left = self.segments[limit:]
        if left:
            rows = sum(segment.count for segment in left)
            steps = tuple(dict.fromkeys(segment.step_a for segment in left))
            where = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps"
            lines.append(f"its other {rows} rows stand in {where} of A")
        if self.missing:
            shown = ", ".join(map(str, self.missing[:5]))
            more = " ..." if len(self.missing) > 5 else ""
            rows_word = "row" if len(self.missing) == 1 else "rows"
            lines.append(f"{rows_word} {shown}{more} of step {step} in B: nowhere in A")
        if (self.scale, self.offset) != (1.0, 0.0):
            lines.append(f"b = {self.scale:.4g} * a + {self.offset:.4g} in all of these rows")
        return tuple(lines)


class RowIndex:
    """Where each row of some batches of a run stands.

    Args:
        run: The run.
        names: Role and name of the tensors that make up a sample.
        steps: Which of its batches to look at, the likeliest first; at most `READ_STEPS` are.
        exact: Whether to go by the recorded digests of rows, which digest capture keeps too; the
            same sample in another dtype is another row then.
    """

    def __init__(
        self,
        run: Run,
        names: Sequence[tuple[str, str]],
        steps: Iterable[int] | None = None,
        *,
        exact: bool = False,
    ) -> None:
        self._run = run
        self._exact = exact
        self._names = tuple(names)
        self._places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._steps: list[int] = []
        for step in list(range(run.steps) if steps is None else steps)[:READ_STEPS]:
            hashes = self._hashes(run, self._names, step)
            if hashes is None:
                continue
            self._steps.append(step)
            for row, digest in enumerate(hashes):
                self._places[digest].append((step, row))

    def locate(self, other: Run, names: Sequence[tuple[str, str]], step: int) -> Located | None:
        """Return where the rows of a batch of another run stand here; None where it was not kept.

        A row that stands in several places is taken beside its neighbour, else where it stands in
        this batch, else in the first of the steps looked at.
        """
        hashes = self._hashes(other, names, step)
        if hashes is None:
            return None
        found: list[tuple[int, int] | None] = []
        for row, digest in enumerate(hashes):
            before = found[-1] if found else None
            found.append(_nearest(self._places.get(digest, []), before, (step, row)))
        return Located(
            step,
            len(hashes),
            tuple(_segments(step, found)),
            tuple(row for row, place in enumerate(found) if place is None),
        )

    def _hashes(
        self, run: Run, names: Sequence[tuple[str, str]], step: int
    ) -> tuple[int, ...] | None:
        if self._exact:
            return exact_rows(run, names, step)
        values = read_rows(run, names, step)
        return None if values is None else hash_rows(*values)

    def locate_transformed(
        self, other: Run, names: Sequence[tuple[str, str]], step: int
    ) -> Located | None:
        """As `locate`, for rows that were all multiplied by one number and moved by another.

        Returns:
            None where most rows are not to be found so, or not all by the same two numbers.
        """
        batch = read_rows(other, names, step)
        if batch is None:
            return None
        theirs = _flat(batch)
        best = np.full(len(theirs), -1.0)
        place = np.full((len(theirs), 2), -1)
        matched = np.zeros_like(theirs)
        turned, sizes = _centred(theirs)
        seen = 0
        for here in self._steps:
            own = read_rows(self._run, self._names, here)
            if own is None or seen > _READ_ROWS:
                break
            ours = _flat(own)
            seen += len(ours)
            if ours.shape[1] != theirs.shape[1]:
                continue
            unit, lengths = _centred(ours)
            likeness = np.abs(turned @ unit.T)
            likeness[:, lengths == 0.0] = 0.0
            nearest = likeness.argmax(axis=1)
            value = likeness[np.arange(len(theirs)), nearest]
            better = (value > best) & (sizes > 0.0)
            best[better] = value[better]
            place[better, 0], place[better, 1] = here, nearest[better]
            matched[better] = ours[nearest[better]]
        same = best >= _SAME_DIRECTION
        if theirs.shape[1] < 3 or same.mean() < 0.5:
            return None
        x, y = matched[same].reshape(-1), theirs[same].reshape(-1)
        scale, offset = np.polyfit(x, y, 1)
        left = float(np.linalg.norm(y - scale * x - offset))
        if left > 1e-5 * float(np.linalg.norm(y)):
            return None
        found = [
            (int(place[row, 0]), int(place[row, 1])) if same[row] else None
            for row in range(len(theirs))
        ]
        missing = tuple(row for row, one in enumerate(found) if one is None)
        segments = tuple(_segments(step, found))
        return Located(step, len(theirs), segments, missing, float(scale), float(offset))


def read_rows(
    run: Run, names: Sequence[tuple[str, str]], step: int
) -> list[NDArray[np.generic]] | None:
    """Return the values of some tensors of a step, or None where one was not kept."""
    values = []
    for role, name in names:
        tensor = run.find(role, name)
        if tensor is None or not 0 <= step < run.steps or not run.kept(tensor)[step]:
            return None
        values.append(run.read(tensor, step))
    return values


def exact_rows(run: Run, names: Sequence[tuple[str, str]], step: int) -> tuple[int, ...] | None:
    """Return what tells the rows of a step apart to the byte; None where no digest was kept."""
    columns = []
    for role, name in names:
        tensor = run.find(role, name)
        if tensor is None or not 0 <= step < run.steps:
            return None
        try:
            columns.append(run.row_digests(tensor, step))
        except NotKept:
            return None
    if not columns or len({len(column) for column in columns}) > 1:
        return None
    rows = np.stack(columns, axis=1)
    return tuple(xxhash.xxh3_64_intdigest(row.tobytes()) for row in rows)


def hash_rows(*arrays: NDArray[np.generic]) -> tuple[int, ...]:
    """Return a hash for each row (first axis) over all arrays together.

    Values are brought to float64 first, so that the same sample in another dtype hashes alike.
    """
    columns = [np.ascontiguousarray(_comparable(array)) for array in arrays]
    count = min((len(column) for column in columns), default=0)
    return tuple(
        xxhash.xxh3_64_intdigest(b"".join(column[row].tobytes() for column in columns))
        for row in range(count)
    )


def _comparable(array: NDArray[np.generic]) -> NDArray[np.float64]:
    values = squeezed(array) if array.ndim > 1 else array
    # Adding zero makes -0.0 and 0.0 one.
    return np.atleast_1d(values.astype(np.float64)) + 0.0


def _nearest(
    places: Sequence[tuple[int, int]], before: tuple[int, int] | None, own: tuple[int, int]
) -> tuple[int, int] | None:
    if not places:
        return None
    if before is not None:
        for stride in (1, -1):
            if (before[0], before[1] + stride) in places:
                return before[0], before[1] + stride
    return own if own in places else places[0]


def _segments(step: int, found: Sequence[tuple[int, int] | None]) -> Iterator[Segment]:
    row = 0
    while row < len(found):
        place = found[row]
        if place is None:
            row += 1
            continue
        count, stride = 1, 1
        following = found[row + 1] if row + 1 < len(found) else None
        if following is not None and following[0] == place[0]:
            stride = -1 if following[1] < place[1] else 1
        while row + count < len(found) and found[row + count] == (
            place[0],
            place[1] + stride * count,
        ):
            count += 1
        yield Segment(step, row, place[0], place[1], count, stride if count > 1 else 1)
        row += count


def _flat(arrays: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([one.astype(np.float64).reshape(len(one), -1) for one in arrays], axis=1)


def _centred(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows less their means, of length 1, and how long they were."""
    moved = rows - rows.mean(axis=1, keepdims=True)
    sizes = np.linalg.norm(moved, axis=1)
    there = sizes[:, None] > 0.0
    return np.divide(moved, sizes[:, None], out=np.zeros_like(moved), where=there), sizes
