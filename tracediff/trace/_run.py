"""One run of a trace: what is known about it, and every recorded value, verified on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from tracediff.errors import NotKept, UnknownName, UnsupportedFormat, UsageError, did_you_mean
from tracediff.model import Moment
from tracediff.trace import _values
from tracediff.trace._cache import BlockCache
from tracediff.trace._fingerprint import fingerprint
from tracediff.trace._sketch import WIDTH, Sketch, sketch_of
from tracediff.trace._statistics import Statistics, from_row, statistics_of
from tracediff.trace._store import TraceFiles, as_object, damaged
from tracediff.trace._summaries import Summaries
from tracediff.trace._table import External, Table, read_external
from tracediff.trace._tensor import Tensor, parse_tensors
from tracediff.trace._values import (
    FixedValues,
    RaggedValues,
    SparseRows,
    ValueReader,
    row_digests_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATUSES = ("recording", "complete", "interrupted", "failed")

_MOMENTS: tuple[Moment, Moment] = ("before", "after")
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
# Under these keys stand names, and someone may call a layer "nan".
_NAMES = frozenset({"name", "framework_name", "class", "inputs", "label", "message"})


@dataclass(frozen=True, slots=True)
class ExternalChange:
    """A state tensor that something other than the optimizer changed before a step.

    Attributes:
        step: The step before which the change was found.
        tensor: The tensor.
    """

    step: int
    tensor: Tensor


class Run:
    """A recorded training run. Made by `open_trace`.

    Attributes:
        path: The run as a user would type it: ``a.zarr``, or ``a.zarr/run-1`` where there are more.
        steps: Number of complete steps.
        status: ``complete``, ``interrupted`` (by an exception or Ctrl-C), ``failed`` (the recorder
            gave up) or ``recording`` (still running, or killed).
        about: What was run: ``stack``, ``environment``, ``model``, ``optimizer``, ``compile``,
            ``fits``, ``capture``, ``events``, ``level``; see docs/trace-format.md.
        tensors: Everything that was recorded.

    Example:
        >>> import tracediff
        >>> run = tracediff.open_trace("a.zarr").runs[0]  # doctest: +SKIP
        >>> kernel = run.tensor("weight", "hidden/kernel")  # doctest: +SKIP
        >>> run.read(kernel, 3, "after") - run.read(kernel, 3)  # what step 3 did  # doctest: +SKIP
    """

    def __init__(self, files: TraceFiles, group: str, *, path: str, cache: BlockCache) -> None:
        where = f"{files.path}/{group}"
        attributes = as_object(files.attributes(group).get("run"), f"{where}: attribute run")
        self.path = path
        self.about: Mapping[str, Any] = MappingProxyType(
            {key: _finite(value) for key, value in attributes.items() if key != "tensors"}
        )
        self.status: str = attributes.get("status", "")
        if self.status not in STATUSES:
            raise damaged(f"{where} has the unknown status {self.status!r}")
        self.tensors = parse_tensors(attributes.get("tensors"), where)
        self._files = files
        self._group = group
        self._cache = cache
        self._by_key = {tensor.key: tensor for tensor in self.tensors}
        self._readers: dict[tuple[str, str], ValueReader] = {}
        self._verified: dict[tuple[str, str], NDArray[np.bool_]] = {}
        self.steps = self._read_progress()

    def __repr__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        status = "incomplete" if self.status == "recording" else self.status
        return f"Run({self.path!r}: {steps}, {status}, {len(self.tensors)} tensors)"

    @cached_property
    def fit(self) -> NDArray[np.int32]:
        """The number of the ``fit`` call that each step belongs to; int32 (steps,)."""
        return self._step_column("fit")

    @cached_property
    def epoch(self) -> NDArray[np.int32]:
        """The epoch of each step, counted within its ``fit`` call; int32 (steps,)."""
        return self._step_column("epoch")

    @cached_property
    def batch(self) -> NDArray[np.int32]:
        """The number of each step's batch within its epoch; int32 (steps,)."""
        return self._step_column("batch")

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds from the beginning of the run to the end of each step; float64 (steps,)."""
        return self._files.array(f"{self._group}/steps/seconds").read(0, self.steps)

    @cached_property
    def fingerprint(self) -> str:
        """What a replay names this run by: a hash of all digests of its tables, as hex."""
        parts = [
            self._files.array(f"{self._group}/{table}/digest").read(0, rows)
            for table, rows in (("state", self.steps + 1), ("observed", self.steps))
        ]
        low, high = _values.digest_of(*parts)
        return f"{high:016x}{low:016x}"

    def identity(self) -> str | None:
        """Return what tells this run from any other, and from itself once it has changed.

        None where that is not known: a trace behind a URL.
        """
        if "://" in self._files.path:
            return None
        folder = Path(self._files.path).resolve() / self._group
        found = fingerprint(folder)
        if found is None:
            return None
        # What was read when the run was opened counts, too: the files may have changed since.
        opened = repr((self.path, str(folder), self.steps, self.status, dict(self.about)))
        return f"{found} {xxhash.xxh3_128_hexdigest((opened + repr(self.tensors)).encode())}"

    def find(self, role: str, name: str) -> Tensor | None:
        """Return the tensor with this role and name, or None."""
        return self._by_key.get((role, name))

    def tensor(self, role: str, name: str) -> Tensor:
        """Return the tensor with this role and name.

        Raises:
            UnknownName: There is none; the hint names the nearest.
        """
        found = self.find(role, name)
        if found is not None:
            return found
        roles = sorted({tensor.role for tensor in self.tensors})
        if role not in roles:
            hint = did_you_mean(role, roles) or f"it has the roles {', '.join(roles)}"
            raise UnknownName(f"{self.path} has no tensor with the role {role}", hint=hint)
        names = [tensor.name for tensor in self.tensors if tensor.role == role]
        raise UnknownName(
            f"{self.path} has no {role} {name}",
            hint=did_you_mean(name, names) or f"it has {', '.join(names[:5])} ...",
        )

    def digests(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.uint64]:
        """Return the digest of the value at every step, zeros where nothing was observed.

        Equal digests mean equal bytes, in any run on any stack.

        Args:
            tensor: A tensor of this run, or one of another run with the same role and name.
            moment: For weights and slots, before or after the step's update.

        Returns:
            The low and the high half of each 128-bit XXH3 hash; uint64 (steps, 2).

        Raises:
            UnknownName: This run has no such tensor.
            DamagedTrace: The table cannot be read.
        """
        recorded = self._resolve(tensor)
        _check(moment)
        if not self.steps:
            return np.zeros((0, 2), np.uint64)
        digests = self._table(recorded).digests(_column(recorded))
        return self._at(moment, recorded, digests, self._external.digest)

    def observed(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """Say for every step whether a value was observed; bool (steps,)."""
        return np.asarray(self.digests(tensor, moment).any(axis=1))

    def kept(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """Say for every step whether the value itself can be read; bool (steps,)."""
        recorded = self._resolve(tensor)
        if recorded.path is None or not _values.is_readable(recorded.dtype):
            return np.zeros(self.steps, np.bool_)
        return (self._versions(tensor, moment) >= 0) & self.observed(tensor, moment)

    def read(self, tensor: Tensor, step: int, moment: Moment = "before") -> NDArray[Any]:
        """Return the value of a tensor at a step, verified against its digest.

        Sparse gradients come back dense, repeated rows added in order. ``bfloat16`` and 8-bit
        floats come back as float32, exactly. The array is the caller's own.

        Raises:
            UnknownName: This run has no such tensor or no such step.
            NotKept: The value was not observed at this step, or only its digest was kept.
            DamagedTrace: What is stored is not what was recorded.
            UnsupportedFormat: It has an element type that has no counterpart in numpy.
        """
        values, rows = self._value(tensor, step, moment)
        if rows is None:
            return values
        return self._sparse(tensor, step, values, rows).dense()

    def read_sparse(self, tensor: Tensor, step: int) -> SparseRows:
        """Return a sparse gradient as it came: the rows that it has, and which they are.

        Raises:
            UsageError: The tensor is not recorded with the layout ``sparse``.
            TracediffError: As for `read`.
        """
        values, rows = self._value(tensor, step, "before")
        if rows is None:
            raise UsageError(
                f"{self.path}: {tensor.role} {tensor.name} was recorded dense, not as sparse rows",
                hint="read it with Run.read",
            )
        return self._sparse(tensor, step, values, rows)

    def sketched(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """Say for every step whether `sketch` can tell the sketch; bool (steps,)."""
        recorded = self._resolve(tensor)
        real = not recorded.dtype.startswith("complex")
        there = self._places("sketch", recorded, moment) >= 0
        return (there | (self.kept(tensor, moment) & real)) & self.observed(tensor, moment)

    def sketch(self, tensor: Tensor, step: int, moment: Moment = "before") -> Sketch:
        """Return the sketch of a tensor's value: the recorded one, or that of the recorded value.

        Raises:
            NotKept: Neither was recorded at this step.
            TracediffError: As for `read`.
        """
        recorded = self._resolve(tensor)
        self._check_step(recorded, step, moment)
        places = self._places("sketch", recorded, moment)
        place = int(places[step])
        if place < 0:
            return sketch_of(self.read(tensor, step, moment))
        numbers = self._summaries.read(
            "sketches", recorded, place, count=self._count("sketch", recorded), dtype="float64"
        )
        found = self.statistics(tensor, step, moment)
        if found is None or len(numbers) != min(WIDTH, _dense_size(recorded, found)):
            raise damaged(
                f"{self.path}: {tensor.role} {tensor.name} at step {step} has a sketch of "
                f"{len(numbers)} numbers, which does not fit its size"
            )
        return Sketch(numbers=numbers, size=_dense_size(recorded, found))

    def statistics(self, tensor: Tensor, step: int, moment: Moment = "before") -> Statistics | None:
        """Return the statistics of a tensor's value: the recorded ones, or of the recorded value.

        Of a sparse gradient they are those of its rows. None where neither is there: of complex
        numbers, in traces of a recorder that knew no statistics, or where nothing was observed.

        Raises:
            TracediffError: As for `read`.
        """
        recorded = self._resolve(tensor)
        self._check_step(recorded, step, moment)
        if self.kept(tensor, moment)[step]:
            if recorded.dtype.startswith("complex"):
                return None
            return statistics_of(self._value(tensor, step, moment)[0])
        column = _column(recorded)
        if recorded.table == "state" and moment == "before":
            change = self._external.place(step, column)
            if change is not None:
                return from_row(self._external.statistics[change])
        row = step + 1 if recorded.table == "state" and moment == "after" else step
        return from_row(self._table(recorded).statistics(row, column))

    def row_digests(self, tensor: Tensor, step: int) -> NDArray[np.uint64]:
        """Return the 64-bit XXH3 hash of each row of a batch; uint64 (rows,).

        Two batches hold the same rows in another order if sorting makes these equal.

        Raises:
            NotKept: Neither they nor the batch were recorded.
            TracediffError: As for `read`.
        """
        recorded = self._resolve(tensor)
        self._check_step(recorded, step, "before")
        place = int(self._places("rows", recorded, "before")[step])
        if place < 0:
            self._value(tensor, step, "before")  # verified; decoding may have widened it
            version = int(self._versions(tensor, "before")[step])
            return row_digests_of(self._reader(recorded).read(version)[0])
        count = self._count("rows", recorded)
        return self._summaries.read("row_digests", recorded, place, count=count, dtype="uint64")

    def _places(self, name: str, tensor: Tensor, moment: Moment) -> NDArray[np.int32]:
        """Return which summary of a tensor belongs to each step, -1 where none does."""
        if not self.steps:
            return np.zeros(0, np.int32)
        places = self._table(tensor).places(name, _column(tensor))
        external = self._external.sketch
        return self._at(moment, tensor, places, external if name == "sketch" else external * 0 - 1)

    def _count(self, name: str, tensor: Tensor) -> int:
        """Return how many summaries of a tensor the complete steps refer to."""
        ends = [self._places(name, tensor, "before"), self._places(name, tensor, "after")]
        return 1 + max(int(places.max()) for places in ends)

    @cached_property
    def _summaries(self) -> Summaries:
        return Summaries(self._files, self._group, self._cache)

    def _check_step(self, tensor: Tensor, step: int, moment: Moment) -> None:
        _check(moment)
        if not 0 <= step < self.steps:
            there = f"has steps 0 to {self.steps - 1}" if self.steps else "has no complete step"
            raise UnknownName(
                f"{self.path}: {tensor.role} {tensor.name} at step {step} cannot be read: "
                f"the run {there}"
            )

    def versions(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.int32]:
        """Return which recorded value each step saw, -1 where it cannot be read; int32 (steps,)."""
        return np.where(self.kept(tensor, moment), self._versions(tensor, moment), np.int32(-1))

    def many(self, tensor: Tensor) -> bool:
        """Say whether `read_many` reads this tensor: whether it has one shape and is dense."""
        recorded = self._resolve(tensor)
        return recorded.layout == "fixed" and recorded.path is not None

    def read_many(
        self, tensor: Tensor, versions: NDArray[np.int32], digests: NDArray[np.uint64]
    ) -> list[NDArray[Any]]:
        """Return several values, many to an array: what `read` returns, for whole runs of steps.

        Each value is verified the first time that it is read this way.

        Args:
            tensor: A tensor that `many` is true of.
            versions: Which values, as `versions` numbers them.
            digests: Their digests; uint64 (values, 2).

        Returns:
            Read-only arrays of shape (n, *shape), which hold the values one after the other.

        Raises:
            DamagedTrace: What is stored is not what was recorded.
        """
        recorded = self._resolve(tensor)
        reader = self._reader(recorded)
        assert isinstance(reader, FixedValues), "the caller asks only for what `many` allows"
        verified = self._verified.setdefault(recorded.key, np.zeros(2 * self.steps + 2, bool))
        what = f"{self.path}: {tensor.role} {tensor.name}"
        found, start = [], 0
        for values in reader.runs(versions):
            if not _values.matches(values.dtype, recorded.dtype):
                raise damaged(f"{what} is stored as {values.dtype.name}, not as {recorded.dtype}")
            here = slice(start, start + len(values))
            start += len(values)
            if not verified[versions[here]].all():
                wrong = _values.first_unlike(values, digests[here])
                if wrong is not None:
                    step = self._step_of(tensor, int(versions[here][wrong]))
                    raise damaged(
                        f"{what} at step {step} is not what was recorded: "
                        "its bytes do not match their digest"
                    )
                verified[versions[here]] = True
            found.append(_values.decoded(values, recorded.dtype))
        return found

    def _step_of(self, tensor: Tensor, version: int) -> int:
        """Return the first step that saw a value."""
        steps = [
            int(np.argmax(seen))
            for moment in _MOMENTS
            if (seen := self._versions(tensor, moment) == version).any()
        ]
        return min(steps, default=0)

    def external_changes(self) -> tuple[ExternalChange, ...]:
        """Return what changed between steps by something other than the optimizer, in order."""
        if not self.steps:
            return ()
        by_column = {tensor.column: tensor for tensor in self.tensors if tensor.table == "state"}
        changes = []
        for step, column in zip(
            self._external.step.tolist(), self._external.column.tolist(), strict=True
        ):
            if column not in by_column:
                raise damaged(f"{self.path}: a change before step {step} is of no known tensor")
            changes.append(ExternalChange(step, by_column[column]))
        return tuple(changes)

    def bytes_on_disk(self, tensor: Tensor) -> int:
        """Return the size of the recorded values of a tensor; 0 for one that is another's alias."""
        path = self._mine(tensor).path
        if path is None or tensor.same_as is not None:
            return 0
        key = f"{self._group}/{path}"
        parts = {"fixed": ("",), "ragged": ("/data", "/shape")}.get(
            tensor.layout, ("/data", "/shape", "/rows")
        )
        # Where nothing was observed, nothing may have been made.
        there = [key + part for part in parts if self._files.has(key + part)]
        return sum(self._files.array(array).bytes_on_disk() for array in there)

    def _mine(self, tensor: Tensor) -> Tensor:
        return self.tensor(tensor.role, tensor.name)

    def _resolve(self, tensor: Tensor) -> Tensor:
        """Return this run's tensor of that role and name, or the one it is the same as."""
        mine = self._mine(tensor)
        return mine if mine.same_as is None else self.tensor(mine.same_as, mine.name)

    def _versions(self, tensor: Tensor, moment: Moment) -> NDArray[np.int32]:
        recorded = self._resolve(tensor)
        if not self.steps:
            return np.zeros(0, np.int32)
        versions = self._table(recorded).versions(_column(recorded))
        return self._at(moment, recorded, versions, self._external.version)

    def _at(
        self, moment: Moment, tensor: Tensor, cells: NDArray[Any], external: NDArray[Any]
    ) -> NDArray[Any]:
        """Return the cells, one a step, that stand at one end of the steps."""
        if tensor.table == "observed":
            return cells
        if moment == "after":
            return cells[1:]
        cells = cells[: self.steps]
        changes = np.flatnonzero(self._external.column == tensor.column)
        cells[self._external.step[changes]] = external[changes]
        return cells

    def _cell(self, tensor: Tensor, step: int, moment: Moment) -> tuple[int, int, int]:
        """Return the version and the two halves of the digest at one end of a step."""
        column = _column(tensor)
        if tensor.table == "state" and moment == "before":
            change = self._external.find(step, column)
            if change is not None:
                return change
        row = step + 1 if tensor.table == "state" and moment == "after" else step
        return self._table(tensor).cell(row, column)

    def _value(
        self, tensor: Tensor, step: int, moment: Moment
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        recorded = self._resolve(tensor)
        self._check_step(recorded, step, moment)
        what = f"{self.path}: {tensor.role} {tensor.name} at step {step}"
        version, low, high = self._cell(recorded, step, moment)
        if low == high == 0:
            if version >= 0:
                raise damaged(f"{what} has a value but no digest")
            raise NotKept(f"{what} was not observed")
        if version < 0:
            raise NotKept(f"{what}: its elements were not kept", hint='record with level="full"')
        if recorded.path is None:
            raise damaged(f"{what} has a value that is stored nowhere")
        if not _values.is_readable(recorded.dtype):
            raise UnsupportedFormat(f"{what} has the element type {recorded.dtype}")
        values, rows = self._reader(recorded).read(version)
        if not _values.matches(values.dtype, recorded.dtype):
            raise damaged(f"{what} is stored as {values.dtype.name}, not as {recorded.dtype}")
        found = (values,) if rows is None else (values, rows)
        if _values.digest_of(*found) != (low, high):
            raise damaged(f"{what} is not what was recorded: its bytes do not match their digest")
        return _values.decoded(values, recorded.dtype), rows

    def _sparse(
        self, tensor: Tensor, step: int, values: NDArray[Any], rows: NDArray[np.int64]
    ) -> SparseRows:
        shape = self._resolve(tensor).shape or ()
        if (
            values.shape[1:] != shape[1:]
            or values.ndim != len(shape)
            or (len(rows) and not 0 <= rows.min() <= rows.max() < shape[0])
        ):
            raise damaged(
                f"{self.path}: {tensor.role} {tensor.name} at step {step} has rows of shape "
                f"{values.shape} that do not fit into {shape}"
            )
        return SparseRows(values=values, rows=rows, shape=shape)

    def _reader(self, tensor: Tensor) -> ValueReader:
        reader = self._readers.get(tensor.key)
        if reader is None:
            key = f"{self._group}/{tensor.path}"
            if tensor.layout == "fixed":
                shape = tensor.shape or ()
                reader = FixedValues(self._files, key, shape=shape, cache=self._cache)
            else:
                reader = RaggedValues(
                    self._files,
                    key,
                    count=self._count_versions(tensor),
                    sparse=tensor.layout == "sparse",
                    cache=self._cache,
                )
            self._readers[tensor.key] = reader
        return reader

    def _count_versions(self, tensor: Tensor) -> int:
        """Return how many values of a tensor the complete steps refer to."""
        ends = [self._versions(tensor, "before"), self._versions(tensor, "after")]
        return 1 + max(int(versions.max()) for versions in ends)

    def _table(self, tensor: Tensor) -> Table:
        return self._state if tensor.table == "state" else self._observed

    @cached_property
    def _state(self) -> Table:
        return self._open_table("state", rows=self.steps + 1)

    @cached_property
    def _observed(self) -> Table:
        return self._open_table("observed", rows=self.steps)

    @cached_property
    def _external(self) -> External:
        return read_external(
            self._files,
            f"{self._group}/external",
            steps=self.steps,
            ended=self.status in {"complete", "interrupted"},
        )

    def _open_table(self, name: str, *, rows: int) -> Table:
        return Table(
            self._files,
            f"{self._group}/{name}",
            rows=rows,
            keeps_all=self.about.get("level") == "full",
            cache=self._cache,
        )

    def _step_column(self, name: str) -> NDArray[np.int32]:
        array = self._files.array(f"{self._group}/steps/{name}")
        column = array.read(0, self.steps)
        if column.ndim != 1 or column.dtype.kind != "i" or np.any(column < 0):
            raise damaged(f"{array.where} holds numbers that make no sense")
        return column

    def _read_progress(self) -> int:
        key = f"{self._group}/progress"
        if self.status == "recording" and not self._files.has(key):
            return 0  # Killed before anything else was written.
        array = self._files.array(key)
        found = array.read(0, 1)
        steps = int(found[0]) if found.shape == (1,) and found.dtype.kind == "i" else -1
        if steps == 0 and self.status == "recording":
            return 0
        recorded = self._files.array(f"{self._group}/steps/seconds").shape[0]
        # Ended runs with steps have flushed them, so a zero stands for a lost number.
        lost = steps == 0 and recorded > 0 and self.status != "failed"
        if not 0 <= steps <= recorded or lost:
            raise damaged(f"{array.where} says {steps} steps, {recorded} were recorded")
        return steps


def _column(tensor: Tensor) -> int:
    assert tensor.column is not None, "the parser lets no recorded tensor be without a column"
    return tensor.column


def _dense_size(tensor: Tensor, found: Statistics) -> int:
    """Return how many elements a value has; sparse rows stand for a whole dense tensor."""
    return found.size if tensor.layout == "ragged" else math.prod(tensor.shape or ())


def _check(moment: str) -> None:
    if moment not in {"before", "after"}:
        raise UsageError(f'moment is "before" or "after", not {moment!r}')


def _finite(value: Any, name: str = "") -> Any:
    """Turn the strings that stand for floats that JSON lacks back into floats."""
    if isinstance(value, dict):
        return {key: _finite(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, name) for item in value]
    if isinstance(value, str) and name not in _NAMES:
        return _NOT_FINITE.get(value, value)
    return value
