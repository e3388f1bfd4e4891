"""Recorded values: how each layout is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from tracediff.trace._cache import BlockCache
from tracediff.trace._damage import damaged
from tracediff.trace._store import StoredArray, TraceFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGE = 16 << 10
"""Bytes of a row from which on no more of an uncompressed chunk is read than the rows wanted."""
_AT_ONCE = 1 << 20
"""Bytes of values that are read before they are verified."""

Allocate: TypeAlias = "Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]"
"""Gives memory for an array of some shape and dtype."""


@dataclass(frozen=True, slots=True)
class SparseRows:
    """A gradient that came as indexed slices: some rows of a dense tensor.

    Attributes:
        values: The rows; shape (n, ...).
        rows: The row of the dense tensor that each belongs to; int64 (n,). Repeated ones add up.
        shape: The shape of the dense tensor.
    """

    values: NDArray[Any]
    rows: NDArray[np.int64]
    shape: tuple[int, ...]

    def dense(self) -> NDArray[Any]:
        """Return the dense tensor; repeated rows are added in the order in which they stand.

        Example:
            >>> SparseRows(np.array([[1.0], [2.0]]), np.array([2, 2]), (3, 1)).dense().tolist()
            [[0.0], [0.0], [3.0]]
        """
        result = np.zeros(self.shape, self.values.dtype)
        np.add.at(result, self.rows, self.values)
        return result


class ValueReader(Protocol):
    """Reads the recorded values of one tensor as they are stored."""

    def read(self, version: int) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return a value and, for a sparse one, its row numbers."""
        ...

    def beside(self, version: int) -> tuple[int, int, int]:
        """Return the chunk of a value (the first, of several), and which values it holds.

        Returns:
            The number of the chunk, and the first and the last value that lies in it at all.
        """
        ...


def _apart(array: StoredArray) -> bool:
    """Say whether to read rows by themselves and not the whole of their chunk."""
    size = math.prod(array.shape[1:]) * array.dtype.itemsize
    return array.chunk_files is not None and size >= _LARGE


def _rows_of(array: StoredArray, start: int, stop: int, cache: BlockCache) -> NDArray[Any]:
    """Return a copy of rows ``start`` to ``stop``, through the cache of decoded chunks."""
    if stop > array.shape[0]:
        raise damaged(f"{array.where} ends at {array.shape[0]}, a value reaches to {stop}")
    result = np.empty((stop - start, *array.shape[1:]), array.dtype)
    for block in range(start // array.chunk_rows, math.ceil(stop / array.chunk_rows)):
        first = block * array.chunk_rows
        last = min(first + array.chunk_rows, array.shape[0])

        def load(first: int = first, last: int = last) -> NDArray[Any]:
            return array.read(first, last)

        inside = slice(max(start, first), min(stop, last))
        key = (array.where, block)
        if _apart(array) and key not in cache:
            result[inside.start - start : inside.stop - start] = array.read(
                inside.start, inside.stop
            )
            continue
        rows = cache.get(key, load)
        result[inside.start - start : inside.stop - start] = rows[
            inside.start - first : inside.stop - first
        ]
    return result


class FixedValues:
    """Layout ``fixed``: an array with one value a row."""

    def __init__(
        self, files: TraceFiles, key: str, *, shape: tuple[int, ...], cache: BlockCache
    ) -> None:
        self._array = files.array(key)
        self._cache = cache
        if self._array.shape[1:] != shape or not self._array.shape:
            raise damaged(
                f"{self._array.where} holds values of shape {self._array.shape[1:]}, "
                f"the table of tensors says {shape}"
            )

    def read(self, version: int) -> tuple[NDArray[Any], None]:
        """Return value number ``version``."""
        return _rows_of(self._array, version, version + 1, self._cache)[0, ...], None

    def beside(self, version: int) -> tuple[int, int, int]:
        """Return the chunk of a value, and the first and the last value that it holds."""
        rows = self._array.chunk_rows
        chunk = version // rows
        return chunk, chunk * rows, (chunk + 1) * rows - 1

    def runs(
        self, versions: NDArray[np.int32], allocate: Allocate | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield values in few arrays, one after the other.

        Args:
            versions: Which values.
            allocate: Gives memory for large values that can be read as they are; without it, they
                are read-only parts of decoded chunks.
        """
        array = self._array
        if len(versions) and int(versions.max()) >= array.shape[0]:
            raise damaged(
                f"{array.where} ends at {array.shape[0]}, a value is number {versions.max()}"
            )
        size = math.prod(array.shape[1:]) * array.dtype.itemsize
        for part in _consecutive(versions, array.chunk_rows):
            key = (array.where, int(part[0]) // array.chunk_rows)
            if allocate is None or size < _LARGE or key in self._cache:
                yield self._decoded(part, key)
                continue
            # What is verified right after it was read is in the cache of a core then.
            count = max(1, _AT_ONCE // size)
            for piece in np.split(part, range(count, len(part), count)):
                found = allocate((len(piece), *array.shape[1:]), array.dtype)
                yield found if array.read_into(int(piece[0]), found) else self._decoded(piece, key)

    def _decoded(self, versions: NDArray[np.int32], key: tuple[str, int]) -> NDArray[Any]:
        """Return consecutive values of one chunk."""
        array, start, stop = self._array, int(versions[0]), int(versions[-1]) + 1
        first = start // array.chunk_rows * array.chunk_rows
        last = min(first + array.chunk_rows, array.shape[0])
        if _apart(array) and key not in self._cache:
            return array.read(start, stop)
        rows = self._cache.get(key, lambda: array.read(first, last))
        return rows[start - first : stop - first]


def _consecutive(versions: NDArray[np.int32], chunk_rows: int) -> Iterator[NDArray[np.int32]]:
    """Cut versions where one does not follow the other within a chunk."""
    chunks = versions // chunk_rows
    breaks = np.flatnonzero((np.diff(versions) != 1) | (np.diff(chunks) != 0)) + 1
    yield from (part for part in np.split(versions, breaks) if len(part))


class RaggedValues:
    """Layouts ``ragged`` and ``sparse``: all values flattened one after the other.

    Args:
        files: The trace.
        key: Path of the tensor's group in the trace.
        count: How many values count; more may have been on the way when the run was killed.
        sparse: Whether there are row numbers too.
        cache: Where decoded chunks are kept.
    """

    def __init__(
        self, files: TraceFiles, key: str, *, count: int, sparse: bool, cache: BlockCache
    ) -> None:
        self._cache = cache
        self._data = files.array(f"{key}/data")
        self._rows = files.array(f"{key}/rows") if sparse else None
        shapes = files.array(f"{key}/shape", complete=True)
        if len(shapes.shape) != 2 or len(self._data.shape) != 1:
            raise damaged(f"{files.path}/{key} has data of shape {self._data.shape}")
        self._shapes = shapes.read(0, count).astype(np.int64, copy=False)
        known = self._shapes >= 0
        if np.any(known[:, 1:] & ~known[:, :-1]):
            raise damaged(f"{shapes.where} holds shapes that make no sense")
        sizes = np.where(known, self._shapes, 1).prod(axis=1)
        self._ends = np.cumsum(sizes)
        self._sizes = sizes
        self._row_ends = np.cumsum(np.where(known[:, 0], self._shapes[:, 0], 1))

    def read(self, version: int) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return value number ``version`` and its row numbers, if it has any."""
        shape = tuple(int(extent) for extent in self._shapes[version] if extent >= 0)
        end = int(self._ends[version])
        flat = _rows_of(self._data, end - math.prod(shape), end, self._cache)
        if self._rows is None:
            return flat.reshape(shape), None
        end = int(self._row_ends[version])
        rows = _rows_of(self._rows, end - (shape[0] if shape else 1), end, self._cache)
        return flat.reshape(shape), rows.astype(np.int64, copy=False)

    def beside(self, version: int) -> tuple[int, int, int]:
        """Return the first chunk of a value, and the first and the last value that it holds."""
        extent, starts = self._data.chunk_rows, self._ends - self._sizes
        chunk = int(starts[version]) // extent
        inside = (starts < (chunk + 1) * extent) & (self._ends > chunk * extent)
        inside[version] = True
        found = np.flatnonzero(inside)
        return chunk, int(found[0]), int(found[-1])
