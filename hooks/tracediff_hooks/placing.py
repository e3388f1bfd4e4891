"""Decides for every tensor of a step what is stored of it, and what that takes on disk."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from tracediff_hooks.digest import ABSENT, Digest, row_digests
from tracediff_hooks.measuring import TOGETHER_BYTES, Measurand, Measured, measured
from tracediff_hooks.moments import FIELDS, Statistics, Sums, of_sums, statistics_of
from tracediff_hooks.run import Column, Run, Summary
from tracediff_hooks.sketch import sketch
from tracediff_hooks.tensors import Key, Value, parts, storable, stored_at
from tracediff_hooks.values import fixed_rows

BATCH_ROLES = ("input", "label", "sample_weight")
"""Roles whose values are rows that may come in another order."""
RANK = {"none": 0, "digest": 1, "sketch": 2, "full": 3}
ARRAY_BYTES = 1 << 10
"""What an array takes besides its chunks."""


class Kept(NamedTuple):
    """A value to be stored."""

    path: str
    value: np.ndarray
    rows: Optional[np.ndarray]


class Summarized(NamedTuple):
    """What is stored of a value that is not kept: sketch and row digests, where there are any."""

    summary: Summary
    sketch_path: Optional[str]
    sketch: Optional[np.ndarray]
    rows_path: Optional[str]
    rows: Optional[np.ndarray]


class _Described(NamedTuple):
    """What was worked out of a value that is not kept."""

    statistics: Optional[Statistics]
    sketch: Optional[np.ndarray]
    rows: Optional[np.ndarray]


class Row(NamedTuple):
    """A row of one of the tables."""

    table: str
    versions: List[int]
    digests: List[Digest]
    summaries: List[Tuple[int, Summary]]


class _Entry:
    """A value that was seen, and how much of it is wanted."""

    def __init__(self, column: Column, item: Value, *, wanted: Any) -> None:
        value, rows = parts(item)
        self.column = column
        self.shape, self.size, self.dtype = value.shape, value.size, value.dtype
        self.digest = ABSENT
        self.content: Tuple[Digest, Tuple[int, ...]] = (ABSENT, self.shape)
        self.misfit = column.misfit(value)
        self._level = column.level if wanted or column.spec.shape == () else "digest"
        if self._level == "full" and self.misfit is not None:
            self._level = "digest"
        self.value: Optional[np.ndarray] = value
        self.rows = rows
        self._described: Optional[_Described] = None

    def measurand(self, ceiling: str) -> Measurand:
        """What is to be read of it; sums where it will be new, as the one before was."""
        assert self.value is not None
        summed = self.column.renewed and self.level(ceiling) != "full"
        return Measurand(self.value, self.rows, summed)

    def take(self, found: Measured, ceiling: str) -> None:
        """Takes what was read.

        What is not kept of it is worked out at once, so that nobody holds its memory for long: the
        framework is about to write there.
        """
        self.digest = found.digest
        # What makes it another value.
        self.content = self.digest, self.shape
        level = self.level(ceiling)
        if level != "full":
            if self.column.is_new(self.content, level) and self.value is not None:
                self._described = self._summarize(self.value, level, found.sums)
            self.value = self.rows = None

    @property
    def dense_size(self) -> int:
        """How many elements it has, with the rows that a sparse one leaves out."""
        spec = self.column.spec
        return int(np.prod(spec.shape or (), dtype=np.int64)) if spec.sparse else self.size

    def level(self, ceiling: str) -> str:
        """How much of it is kept where the budget allows no more than ``ceiling``."""
        if ceiling == "full" or self.column.spec.shape == ():
            return self._level
        return min(self._level, ceiling, key=RANK.__getitem__)

    def _summarize(
        self, value: np.ndarray, level: str, sums: Optional[Sums] = None
    ) -> "_Described":
        spec = self.column.spec
        statistics = numbers = digests = None
        if value.dtype.kind != "c":
            statistics = statistics_of(value) if sums is None else of_sums(self.size, *sums)
            if level == "sketch":
                numbers = sketch(value, self.rows, self.dense_size)
        if spec.role in BATCH_ROLES and value.ndim:
            digests = row_digests(value)
        return _Described(statistics, numbers, digests)

    def summarized(self, summary: Summary, level: str) -> Summarized:
        """What is stored in place of it, numbered in ``summary``."""
        found, spec = self._described, self.column.spec
        if found is None:
            assert self.value is not None
            found = self._summarize(self.value, level)
        summary.statistics = found.statistics
        sketched = level == "sketch" and found.sketch is not None
        return Summarized(
            summary,
            stored_at("sketches", spec.role, spec.name) if sketched else None,
            found.sketch,
            stored_at("row_digests", spec.role, spec.name) if found.rows is not None else None,
            found.rows,
        )

    def kept(self) -> Kept:
        """What is stored of it in full; it lets go of that."""
        value, rows = self.value, self.rows
        self.value = self.rows = None
        assert value is not None
        assert self.column.path is not None
        return Kept(self.column.path, storable(value), rows)


class Placed(NamedTuple):
    """What is to be written of a step.

    Attributes:
        kept: values.
        summarized: values of which a summary is kept.
        rows: the rows of the tables.
        external: changes of the state between the steps.
        events: kind and message of what is out of the ordinary.
    """

    kept: List[Kept]
    summarized: List[Summarized]
    rows: List[Row]
    external: List[Tuple[int, int, int, Digest, Optional[Summary]]]
    events: List[Tuple[str, str]]


class Step:
    """The values of one step on their way into the trace.

    Args:
        run: the run; it knows them when `place` has returned.
        before: the state before the step: all of it for the first, else what was changed.
        observed: what the step consumed and produced.
        after: the state after the step.

    All three are emptied.
    """

    def __init__(
        self,
        run: Run,
        before: Dict[Key, np.ndarray],
        observed: Dict[Key, Value],
        after: Dict[Key, np.ndarray],
    ) -> None:
        self._run = run
        levels, number = run.levels, run.steps
        here = levels.at(number)
        self._before = self._take("state", before, wanted=here)
        # The state after a step is the state before the next. The framework writes there first.
        self._after = self._take("state", after, wanted=here or levels.at(number + 1))
        self._observed = self._take("observed", observed, wanted=here)
        if number:
            self._before = [e for e in self._before if e.digest != e.column.last]

    def _take(self, table: str, given: Dict[Key, Any], *, wanted: bool) -> List[_Entry]:
        entries: List[_Entry] = []
        waiting: List[_Entry] = []
        size = 0
        for key in list(given):
            item = given.pop(key)
            column = self._run.columns.get(key)
            if column is None or column.table != table:
                continue
            entry = _Entry(column, item, wanted=wanted)
            entries.append(entry)
            waiting.append(entry)
            size += entry.size * entry.dtype.itemsize
            if size >= TOGETHER_BYTES:
                self._measure(waiting)
                waiting, size = [], 0
        self._measure(waiting)
        return entries

    def _measure(self, entries: Sequence[_Entry]) -> None:
        ceiling = self._run.ceiling
        values = [entry.measurand(ceiling) for entry in entries]
        for entry, found in zip(entries, measured(values)):
            entry.take(found, ceiling)

    def updates_nothing(self) -> bool:
        """Whether no trained weight has another value after the step than before it.

        Asked before `place`.
        """
        before = {entry.column.number: entry.digest for entry in self._before}
        return all(
            entry.digest == before.get(entry.column.number, entry.column.last)
            for entry in self._after
            if entry.column.spec.trainable
        )

    def cost(self) -> Tuple[str, int]:
        """The highest level at which something is new, and the bytes that all of it takes."""
        highest, total = "digest", 0
        seen: Set[Any] = set()
        for entry in (*self._before, *self._observed, *self._after):
            level = entry.level(self._run.ceiling)
            place = (entry.column.number, entry.column.table, entry.content)
            if place in seen or not entry.column.is_new(entry.content, level):
                continue
            seen.add(place)
            if RANK[level] > RANK[highest] and entry.column.spec.shape != ():
                highest = level
            total += self._value_bytes(entry, level)
        return highest, total

    def _value_bytes(self, entry: _Entry, level: str) -> int:
        column, run = entry.column, self._run
        if level == "full":
            size, fresh = entry.size * entry.dtype.itemsize, column.version == 0
            if column.spec.layout == "fixed":
                rows = fixed_rows(size, run.expected, run.chunk_bytes)
                return rows * size if column.version % rows == 0 else 0
            itemsize = max(1, entry.dtype.itemsize)
            return column.fill_chunks(entry.size, itemsize, run) + ARRAY_BYTES * fresh
        total = ARRAY_BYTES * 2 if column.summarized == 0 else 0
        if column.spec.role in BATCH_ROLES and entry.shape:
            total += 8 * entry.shape[0] + 64
        if level == "sketch":
            total += column.sketch_chunks(entry.dense_size, run) + 64
        return total

    def place(self) -> Placed:
        """Gives every value its place; after this the run knows them."""
        placed = Placed([], [], [], [], [])
        number = self._run.steps
        if number:
            for entry in self._before:
                version, summary = self._put(entry, placed)
                change = (number, entry.column.number, version, entry.digest, summary)
                placed.external.append(change)
        else:
            self._put_row("state", self._before, placed)
        self._put_row("observed", self._observed, placed)
        self._put_row("state", self._after, placed)
        return placed

    def _put_row(self, table: str, entries: List[_Entry], placed: Placed) -> None:
        count = self._run.counts[table]
        row = Row(table, [-1] * count, [ABSENT] * count, [])
        for entry in entries:
            version, summary = self._put(entry, placed)
            row.versions[entry.column.number] = version
            row.digests[entry.column.number] = entry.digest
            if summary is not None:
                row.summaries.append((entry.column.number, summary))
        placed.rows.append(row)

    def _put(self, entry: _Entry, placed: Placed) -> Tuple[int, Optional[Summary]]:
        column = entry.column
        column.last = entry.digest
        level = entry.level(self._run.ceiling)
        size = entry.size if level == "full" else entry.dense_size
        version, summary, new = column.place(entry.content, level, size=size)
        if entry.misfit is not None and not column.misfit_said:
            column.misfit_said = True
            message = (
                f"{column.spec.role} {column.spec.name} is {entry.misfit}, at step "
                f"{self._run.steps}: of such values only digests are kept"
            )
            placed.events.append(("misfit", message))
        if new and summary is None:
            placed.kept.append(entry.kept())
        elif new and summary is not None:
            placed.summarized.append(entry.summarized(summary, level))
        entry.value = entry.rows = None
        return version, summary


def cost_of_row(run: Run) -> int:
    """What a step's rows of the tables take on disk, at most."""
    cell = 4 + 16 + 8 * len(FIELDS) + 4 + 4
    return 32 + cell * sum(run.counts.values())
