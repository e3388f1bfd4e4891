"""Decides for every tensor of a step what is stored of it, and what that takes on disk."""

from typing import Any, List, Mapping, NamedTuple, Optional, Set, Tuple

import numpy as np

from tracediff_hooks.digest import Digest
from tracediff_hooks.moments import FIELDS
from tracediff_hooks.run import Column, Run, Summary
from tracediff_hooks.sketch import WIDTH
from tracediff_hooks.tensors import Key, Value, digest_value, parts, storable, stored_at
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
    """A value of which only a summary is stored."""

    summary: Summary
    value: np.ndarray
    rows: Optional[np.ndarray]
    size: int
    sketch_path: Optional[str]
    rows_path: Optional[str]


class Row(NamedTuple):
    """A row of one of the tables."""

    table: str
    versions: np.ndarray
    digests: np.ndarray
    summaries: List[Tuple[int, Summary]]


class _Entry(NamedTuple):
    """A value that was seen, and how much of it is wanted."""

    column: Column
    value: np.ndarray
    rows: Optional[np.ndarray]
    digest: Digest
    level: str

    @property
    def content(self) -> Tuple[Digest, Tuple[int, ...]]:
        """What makes it another value."""
        return self.digest, self.value.shape


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
    """The values of one step on their way into the trace."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tables: List[Tuple[str, List[_Entry]]] = []
        self._external: List[_Entry] = []
        here = run.levels.at(run.steps)
        # The state after a step is the state before the next.
        self._wanted = {"observed": here, "state": here or run.levels.at(run.steps + 1)}

    def take(self, table: str, given: Mapping[Key, Value]) -> None:
        """Takes a row of a table; only reads what it is given."""
        first = table == "state" and self._run.steps == 0 and not self._tables
        wanted = self._run.levels.at(0) if first else self._wanted[table]
        entries = []
        for key, item in given.items():
            column = self._run.columns.get(key)
            if column is not None and column.table == table:
                entries.append(self._entry(column, item, wanted))
        self._tables.append((table, entries))

    def take_external(self, given: Mapping[Key, Value]) -> None:
        """Takes state that was changed since the step before."""
        for key, item in given.items():
            column = self._run.columns.get(key)
            if column is None or column.table != "state":
                continue
            entry = self._entry(column, item, self._wanted["observed"])
            if entry.digest != column.last:
                self._external.append(entry)

    @staticmethod
    def _entry(column: Column, item: Value, wanted: Any) -> _Entry:
        value, rows = parts(item)
        digest = digest_value(value, rows)
        level = column.level if wanted or column.spec.shape == () else "digest"
        if level == "full" and column.misfit(value) is not None:
            level = "digest"
        return _Entry(column, value, rows, digest, level)

    def updates_nothing(self) -> bool:
        """Whether no trained weight has another value after the step than before it.

        Asked before `place`.
        """
        before = {entry.column.number: entry.digest for entry in self._external}
        if self._run.steps == 0 and self._tables and self._tables[0][0] == "state":
            before = {entry.column.number: entry.digest for entry in self._tables[0][1]}
        table, entries = self._tables[-1]
        return table == "state" and all(
            entry.digest == before.get(entry.column.number, entry.column.last)
            for entry in entries
            if entry.column.spec.trainable
        )

    def _entries(self) -> List[_Entry]:
        return self._external + [entry for _, entries in self._tables for entry in entries]

    def _level(self, entry: _Entry) -> str:
        if entry.column.spec.shape == ():
            return entry.level
        return min(entry.level, self._run.ceiling, key=RANK.__getitem__)

    def cost(self) -> Tuple[str, int]:
        """The highest level at which something is new, and the bytes that all of it takes."""
        highest, total = "digest", 0
        seen: Set[Any] = set()
        for entry in self._entries():
            level = self._level(entry)
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
            size, fresh = entry.value.nbytes, column.version == 0
            if column.spec.layout == "fixed":
                rows = fixed_rows(size, run.expected, run.chunk_bytes)
                return rows * size if column.version % rows == 0 else 0
            itemsize = max(1, entry.value.dtype.itemsize)
            return column.fill_chunks(entry.value.size, itemsize, run) + ARRAY_BYTES * fresh
        total = ARRAY_BYTES * 2 if column.summarized == 0 else 0
        if column.spec.role in BATCH_ROLES and entry.value.ndim:
            total += 8 * entry.value.shape[0] + 64
        if level == "sketch":
            total += 8 * WIDTH + 64
            if column.summarized == 0:
                total += 8 * WIDTH * run.expected
        return total

    def place(self) -> Placed:
        """Gives every value its place; after this the run knows them."""
        placed = Placed([], [], [], [], [])
        for entry in self._external:
            version, summary = self._put(entry, placed)
            placed.external.append(
                (self._run.steps, entry.column.number, version, entry.digest, summary)
            )
        for table, entries in self._tables:
            count = self._run.counts[table]
            row = Row(table, np.full(count, -1, np.int32), np.zeros((count, 2), np.uint64), [])
            for entry in entries:
                version, summary = self._put(entry, placed)
                row.versions[entry.column.number] = version
                row.digests[entry.column.number] = entry.digest
                if summary is not None:
                    row.summaries.append((entry.column.number, summary))
            placed.rows.append(row)
        return placed

    def _put(self, entry: _Entry, placed: Placed) -> Tuple[int, Optional[Summary]]:
        column = entry.column
        column.last = entry.digest
        level = self._level(entry)
        version, summary, new = column.place(entry.content, level, size=entry.value.size)
        misfit = column.misfit(entry.value)
        if misfit is not None and not column.misfit_said:
            column.misfit_said = True
            message = (
                f"{column.spec.role} {column.spec.name} is {misfit}, at step {self._run.steps}: "
                "of such values only digests are kept"
            )
            placed.events.append(("misfit", message))
        if new and summary is None:
            assert column.path is not None
            placed.kept.append(Kept(column.path, storable(entry.value), entry.rows))
        elif new and summary is not None:
            placed.summarized.append(self._summarized(entry, summary, level))
        return version, summary

    @staticmethod
    def _summarized(entry: _Entry, summary: Summary, level: str) -> Summarized:
        spec, value = entry.column.spec, entry.value
        size = value.size if entry.rows is None else int(np.prod(spec.shape or (), dtype=np.int64))
        wanted = level == "sketch" and value.dtype.kind != "c"
        return Summarized(
            summary,
            value,
            entry.rows,
            size,
            stored_at("sketches", spec.role, spec.name) if wanted else None,
            stored_at("row_digests", spec.role, spec.name)
            if spec.role in BATCH_ROLES and value.ndim
            else None,
        )


def cost_of_row(run: Run) -> int:
    """What a step's rows of the tables take on disk, at most."""
    cell = 4 + 16 + 8 * len(FIELDS) + 4 + 4
    return 32 + cell * sum(run.counts.values())
