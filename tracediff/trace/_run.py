"""One run of a trace: what is known about it, and every recorded value of every tensor."""

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

from tracediff.errors import UnknownName, UsageError, did_you_mean
from tracediff.model import Moment
from tracediff.trace._about import with_floats
from tracediff.trace._cache import BlockCache
from tracediff.trace._cells import Cells
from tracediff.trace._damage import as_object, damaged
from tracediff.trace._digests import digest_of, row_digests_of
from tracediff.trace._element_types import is_readable
from tracediff.trace._fingerprint import fingerprint
from tracediff.trace._progress import complete_steps, counted
from tracediff.trace._sketch import WIDTH, Sketch, sketch_of
from tracediff.trace._statistics import Statistics, from_row, statistics_of
from tracediff.trace._store import TraceFiles
from tracediff.trace._summaries import Summaries
from tracediff.trace._tensor import Tensor, parse_tensors
from tracediff.trace._values import Allocate, SparseRows
from tracediff.trace._verified import VerifiedValues, sparse_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATUSES = ("recording", "complete", "interrupted", "failed")


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
            {key: with_floats(value) for key, value in attributes.items() if key != "tensors"}
        )
        self.status: str = attributes.get("status", "")
        if self.status not in STATUSES:
            raise damaged(f"{where} has the unknown status {self.status!r}")
        self.tensors = parse_tensors(attributes.get("tensors"), where)
        self.steps = complete_steps(files, group, self.status)
        self._files = files
        self._group = group
        self._by_key = {tensor.key: tensor for tensor in self.tensors}
        self._cells = Cells(
            files,
            group,
            steps=self.steps,
            keeps_all=self.about.get("level") == "full",
            ended=self.status in {"complete", "interrupted"},
            cache=cache,
        )
        self._values = VerifiedValues(files, group, self._cells, steps=self.steps, cache=cache)
        self._summaries = Summaries(files, group, cache)

    def __repr__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        status = "incomplete" if self.status == "recording" else self.status
        return f"Run({self.path!r}: {steps}, {status}, {len(self.tensors)} tensors)"

    @cached_property
    def fit(self) -> NDArray[np.int32]:
        """The number of the ``fit`` call that each step belongs to; int32 (steps,)."""
        return counted(self._files, self._group, "fit", self.steps)

    @cached_property
    def epoch(self) -> NDArray[np.int32]:
        """The epoch of each step, counted within its ``fit`` call; int32 (steps,)."""
        return counted(self._files, self._group, "epoch", self.steps)

    @cached_property
    def batch(self) -> NDArray[np.int32]:
        """The number of each step's batch within its epoch; int32 (steps,)."""
        return counted(self._files, self._group, "batch", self.steps)

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
        low, high = digest_of(*parts)
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
        return self._cells.digests(recorded, moment)

    def observed(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """Say for every step whether a value was observed; bool (steps,)."""
        return np.asarray(self.digests(tensor, moment).any(axis=1))

    def kept(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """Say for every step whether the value itself can be read; bool (steps,)."""
        recorded = self._resolve(tensor)
        if recorded.path is None or not is_readable(recorded.dtype):
            return np.zeros(self.steps, np.bool_)
        return (self._cells.versions(recorded, moment) >= 0) & self.observed(tensor, moment)

    def _is_kept(self, recorded: Tensor, step: int, moment: Moment) -> bool:
        """Say of one step what `kept` says of all."""
        if recorded.path is None or not is_readable(recorded.dtype):
            return False
        version, low, high = self._cells.cell(recorded, step, moment)
        return version >= 0 and (low, high) != (0, 0)

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
        there = self._cells.places("sketch", recorded, moment) >= 0
        return (there | (self.kept(tensor, moment) & real)) & self.observed(tensor, moment)

    def sketch(self, tensor: Tensor, step: int, moment: Moment = "before") -> Sketch:
        """Return the sketch of a tensor's value: the recorded one, or that of the recorded value.

        Raises:
            NotKept: Neither was recorded at this step.
            TracediffError: As for `read`.
        """
        recorded = self._resolve(tensor)
        self._check_step(recorded, step, moment)
        place = self._cells.place("sketch", recorded, step, moment)
        if place < 0:
            return sketch_of(self.read(tensor, step, moment))
        numbers = self._summaries.read(
            "sketches",
            recorded,
            place,
            count=self._cells.count_summaries("sketch", recorded),
            dtype="float64",
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
        if self._is_kept(recorded, step, moment):
            if recorded.dtype.startswith("complex"):
                return None
            return statistics_of(self._value(tensor, step, moment)[0])
        return from_row(self._cells.statistics(recorded, step, moment))

    def recorded_statistics(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.float64]:
        """Return the statistics that were recorded of a tensor, of all steps at once.

        Values that were kept have none here; `statistics` computes theirs.

        Returns:
            The numbers of `Statistics` in their order, NaN at steps without; float64 (steps, 8).

        Raises:
            UnknownName: This run has no such tensor.
            DamagedTrace: The table cannot be read.
        """
        _check(moment)
        return self._cells.all_statistics(self._resolve(tensor), moment)

    def row_digests(self, tensor: Tensor, step: int) -> NDArray[np.uint64]:
        """Return the 64-bit XXH3 hash of each row of a batch; uint64 (rows,).

        Two batches hold the same rows in another order if sorting makes these equal.

        Raises:
            NotKept: Neither they nor the batch were recorded.
            TracediffError: As for `read`.
        """
        recorded = self._resolve(tensor)
        self._check_step(recorded, step, "before")
        place = self._cells.place("rows", recorded, step, "before")
        if place < 0:
            what = self._what(tensor, step)
            return row_digests_of(self._values.read_as_stored(recorded, step, "before", what))
        count = self._cells.count_summaries("rows", recorded)
        return self._summaries.read("row_digests", recorded, place, count=count, dtype="uint64")

    def versions(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.int32]:
        """Return which recorded value each step saw, -1 where it cannot be read; int32 (steps,)."""
        return np.where(
            self.kept(tensor, moment),
            self._cells.versions(self._resolve(tensor), moment),
            np.int32(-1),
        )

    def many(self, tensor: Tensor) -> bool:
        """Say whether `read_many` reads this tensor: whether it has one shape and is dense."""
        recorded = self._resolve(tensor)
        return recorded.layout == "fixed" and recorded.path is not None

    def read_many(
        self,
        tensor: Tensor,
        versions: NDArray[np.int32],
        digests: NDArray[np.uint64],
        *,
        allocate: Allocate | None = None,
    ) -> list[NDArray[Any]]:
        """Return several values, many to an array: what `read` returns, for whole runs of steps.

        Each value is verified the first time that it is read this way.

        Args:
            tensor: A tensor that `many` is true of.
            versions: Which values, as `versions` numbers them.
            digests: Their digests; uint64 (values, 2).
            allocate: Gives memory for large values that are not kept in the cache then.

        Returns:
            Arrays of shape (n, *shape), which hold the values one after the other and are not to
            be written to.

        Raises:
            DamagedTrace: What is stored is not what was recorded.
        """
        what = f"{self.path}: {tensor.role} {tensor.name}"
        return self._values.read_many(self._resolve(tensor), versions, digests, what, allocate)

    def external_changes(self) -> tuple[ExternalChange, ...]:
        """Return what changed between steps by something other than the optimizer, in order."""
        if not self.steps:
            return ()
        by_column = {tensor.column: tensor for tensor in self.tensors if tensor.table == "state"}
        external, changes = self._cells.external, []
        for step, column in zip(external.step.tolist(), external.column.tolist(), strict=True):
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

    def _check_step(self, tensor: Tensor, step: int, moment: Moment) -> None:
        _check(moment)
        if not 0 <= step < self.steps:
            there = f"has steps 0 to {self.steps - 1}" if self.steps else "has no complete step"
            raise UnknownName(
                f"{self.path}: {tensor.role} {tensor.name} at step {step} cannot be read: "
                f"the run {there}"
            )

    def _value(
        self, tensor: Tensor, step: int, moment: Moment
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        recorded = self._resolve(tensor)
        self._check_step(recorded, step, moment)
        return self._values.read(recorded, step, moment, self._what(tensor, step))

    def _sparse(
        self, tensor: Tensor, step: int, values: NDArray[Any], rows: NDArray[np.int64]
    ) -> SparseRows:
        shape = self._resolve(tensor).shape or ()
        return sparse_rows(values, rows, shape, self._what(tensor, step))

    def _what(self, tensor: Tensor, step: int) -> str:
        """Return what errors call a value."""
        return f"{self.path}: {tensor.role} {tensor.name} at step {step}"


def _dense_size(tensor: Tensor, found: Statistics) -> int:
    """Return how many elements a value has; sparse rows stand for a whole dense tensor."""
    return found.size if tensor.layout == "ragged" else math.prod(tensor.shape or ())


def _check(moment: str) -> None:
    if moment not in {"before", "after"}:
        raise UsageError(f'moment is "before" or "after", not {moment!r}')
