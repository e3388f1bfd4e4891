"""The recorded values of a run, each verified against its digest when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.errors import DamagedTrace, NotKept, UnsupportedFormat
from tracediff.model import Moment
from tracediff.trace._cache import BlockCache
from tracediff.trace._cells import MOMENTS, Cells
from tracediff.trace._damage import damaged
from tracediff.trace._digests import digest_of, first_unlike
from tracediff.trace._element_types import decoded, is_readable, matches
from tracediff.trace._store import TraceFiles
from tracediff.trace._tensor import Tensor
from tracediff.trace._values import Allocate, FixedValues, RaggedValues, SparseRows, ValueReader

if TYPE_CHECKING:
    from numpy.typing import NDArray


class VerifiedValues:
    """The values of one run.

    The tensors are those that have a column: none that is the same as another. What an error calls
    a value is said by the caller, who may have asked for the other.

    Args:
        files: The trace.
        group: Path of the run in the trace.
        cells: Which value each step saw.
        steps: How many steps are complete.
        cache: Where decoded chunks are kept.
    """

    def __init__(
        self, files: TraceFiles, group: str, cells: Cells, *, steps: int, cache: BlockCache
    ) -> None:
        self._files = files
        self._group = group
        self._cells = cells
        self._steps = steps
        self._cache = cache
        self._readers: dict[tuple[str, str], ValueReader] = {}
        self._verified: dict[tuple[str, str], NDArray[np.bool_]] = {}

    def read(
        self, tensor: Tensor, step: int, moment: Moment, what: str
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return the value at one end of a step and, for a sparse one, its row numbers.

        Raises:
            NotKept: The value was not observed at this step, or only its digest was kept.
            DamagedTrace: What is stored is not what was recorded.
            UnsupportedFormat: It has an element type that has no counterpart in numpy.
        """
        version, low, high = self._cells.cell(tensor, step, moment)
        if low == high == 0:
            if version >= 0:
                raise damaged(f"{what} has a value but no digest")
            raise NotKept(f"{what} was not observed")
        if version < 0:
            raise NotKept(f"{what}: its elements were not kept", hint='record with level="full"')
        if tensor.path is None:
            raise damaged(f"{what} has a value that is stored nowhere")
        if not is_readable(tensor.dtype):
            raise UnsupportedFormat(f"{what} has the element type {tensor.dtype}")
        reader = self._reader(tensor)
        try:
            values, rows = reader.read(version)
        except DamagedTrace as error:
            raise self._with_steps(tensor, reader, version, what, error) from error
        if not matches(values.dtype, tensor.dtype):
            raise damaged(f"{what} is stored as {values.dtype.name}, not as {tensor.dtype}")
        found = (values,) if rows is None else (values, rows)
        if digest_of(*found) != (low, high):
            raise damaged(f"{what} is not what was recorded: its bytes do not match their digest")
        return decoded(values, tensor.dtype), rows

    def read_as_stored(self, tensor: Tensor, step: int, moment: Moment, what: str) -> NDArray[Any]:
        """Return the value as `read` does, but in the element type in which it is stored."""
        self.read(tensor, step, moment, what)  # verified; decoding may have widened it
        version, _, _ = self._cells.cell(tensor, step, moment)
        return self._reader(tensor).read(version)[0]

    def read_many(
        self,
        tensor: Tensor,
        versions: NDArray[np.int32],
        digests: NDArray[np.uint64],
        what: str,
        allocate: Allocate | None = None,
    ) -> list[NDArray[Any]]:
        """Return several values of a tensor of one shape, many to an array, as `Run.read_many`."""
        reader = self._reader(tensor)
        assert isinstance(reader, FixedValues), "the caller asks only for what `many` allows"
        verified = self._verified.setdefault(tensor.key, np.zeros(2 * self._steps + 2, bool))
        found, start = [], 0
        for values in self._runs(tensor, reader, versions, what, allocate):
            if not matches(values.dtype, tensor.dtype):
                raise damaged(f"{what} is stored as {values.dtype.name}, not as {tensor.dtype}")
            here = slice(start, start + len(values))
            start += len(values)
            if not verified[versions[here]].all():
                wrong = first_unlike(values, digests[here])
                if wrong is not None:
                    step = self._step_of(tensor, int(versions[here][wrong]))
                    raise damaged(
                        f"{what} at step {step} is not what was recorded: "
                        "its bytes do not match their digest"
                    )
                verified[versions[here]] = True
            found.append(decoded(values, tensor.dtype))
        return found

    def _runs(
        self,
        tensor: Tensor,
        reader: FixedValues,
        versions: NDArray[np.int32],
        what: str,
        allocate: Allocate | None,
    ) -> Iterator[NDArray[Any]]:
        try:
            yield from reader.runs(versions, allocate)
        except DamagedTrace as error:
            version = _first_damaged(reader, versions)
            raise self._with_steps(tensor, reader, version, what, error) from error

    def _with_steps(
        self, tensor: Tensor, reader: ValueReader, version: int, what: str, error: DamagedTrace
    ) -> DamagedTrace:
        """Return the error of a chunk that cannot be read, with the steps whose values it holds."""
        chunk, first, last = reader.beside(version)
        seen = np.zeros(self._steps, bool)
        for moment in MOMENTS:
            versions = self._cells.versions(tensor, moment)
            seen |= (versions >= first) & (versions <= last)
        steps = np.flatnonzero(seen)
        if not len(steps):
            return error
        span = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
        return damaged(f"{what} (chunk {chunk} holds {span}): {error}")

    def _step_of(self, tensor: Tensor, version: int) -> int:
        """Return the first step that saw a value."""
        steps = [
            int(np.argmax(seen))
            for moment in MOMENTS
            if (seen := self._cells.versions(tensor, moment) == version).any()
        ]
        return min(steps, default=0)

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
                    count=self._cells.count_values(tensor),
                    sparse=tensor.layout == "sparse",
                    cache=self._cache,
                )
            self._readers[tensor.key] = reader
        return reader


def _first_damaged(reader: ValueReader, versions: NDArray[np.int32]) -> int:
    """Return the first of some values, one of which cannot be read, that cannot."""
    for version in versions.tolist():
        try:
            reader.read(version)
        except DamagedTrace:
            return int(version)
    return int(versions[0])


def sparse_rows(
    values: NDArray[Any], rows: NDArray[np.int64], shape: tuple[int, ...], what: str
) -> SparseRows:
    """Return rows of a dense tensor of a shape.

    Raises:
        DamagedTrace: They do not fit into it.
    """
    if (
        values.shape[1:] != shape[1:]
        or values.ndim != len(shape)
        or (len(rows) and not 0 <= rows.min() <= rows.max() < shape[0])
    ):
        raise damaged(f"{what} has rows of shape {values.shape} that do not fit into {shape}")
    return SparseRows(values=values, rows=rows, shape=shape)
