"""How the recorded values of one tensor are laid out in arrays: fixed, ragged or sparse."""

from typing import Any, List, Optional, Tuple

import numpy as np

from tracediff_hooks.arrays import ChunkedArray, InPlaceArray, put_group
from tracediff_hooks.digest import row_digests
from tracediff_hooks.files import Files, LocalFiles

CHUNK_BYTES = 4 << 20
"""Values of one tensor share a chunk up to about this size: fewer files, but a reader takes a chunk
as a whole."""
MAX_CHUNK_BYTES = 256 << 20
"""A single value larger than this is split along its first axis (Blosc cannot take 2 GiB)."""
LEAST_EXTENT = 4096
"""How many elements of values whose shape changes share a chunk at least: the first one may be
empty, or much smaller than those that follow."""
RAGGED_DIMENSIONS = 8
"""How many axes a ragged value may have; see `shape` in docs/trace-format.md."""


class Storage:
    """What the arrays of a run have in common.

    Args:
        files: where to write.
        codec: what compresses values, or None.
        expected: how many values of each tensor will come, about.
        chunk_bytes: the size of a chunk that holds several values.
    """

    def __init__(
        self, files: Files, *, codec: Optional[Any], expected: int, chunk_bytes: int
    ) -> None:
        self.files = files
        self.codec = codec
        self.expected = expected
        self.chunk_bytes = chunk_bytes

    def array(
        self,
        path: str,
        row_shape: Tuple[int, ...],
        dtype: Any,
        *,
        rows_per_chunk: int,
        expected: int,
        first: Optional[int] = None,
    ) -> Any:
        """Makes an array for values."""
        if self.codec is None and isinstance(self.files, LocalFiles):
            return InPlaceArray(
                self.files,
                path,
                row_shape,
                dtype,
                rows_per_chunk=rows_per_chunk,
                expected=expected,
                first=first,
            )
        return ChunkedArray(
            self.files,
            path,
            row_shape,
            dtype,
            rows_per_chunk=rows_per_chunk,
            expected=expected,
            codec=self.codec,
            first=first,
        )


class FixedValues:
    """Values of one shape."""

    def __init__(self, storage: Storage, path: str, shape: Tuple[int, ...], dtype: Any) -> None:
        nbytes = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        first = None
        if nbytes > MAX_CHUNK_BYTES and shape:
            first = max(1, shape[0] * MAX_CHUNK_BYTES // nbytes)
        self._array = storage.array(
            path,
            shape,
            dtype,
            rows_per_chunk=fixed_rows(nbytes, storage.expected, storage.chunk_bytes),
            expected=storage.expected,
            first=first,
        )

    def append(
        self,
        value: np.ndarray,
        shape: Tuple[int, ...],
        rows: Optional[np.ndarray],  # noqa: ARG002 - called as `RaggedValues`, which may have them
    ) -> None:
        """Takes the next value: its elements in C order, its shape."""
        self._array.append(value.reshape(1, *shape))

    def arrays(self) -> List[Any]:
        """The arrays it consists of."""
        return [self._array]


class RaggedValues:
    """Values whose shape changes, and sparse ones.

    Args:
        storage: where to put them.
        path: where they stand in the trace.
        dtype: their elements.
        sparse: whether each has row numbers.
        hashed: whether each has a hash of its own, for what no table has a digest of.
    """

    def __init__(
        self, storage: Storage, path: str, dtype: Any, *, sparse: bool, hashed: bool = False
    ) -> None:
        put_group(storage.files, path)
        self._storage = storage
        self._path = path
        self._dtype = np.dtype(dtype)
        self._sparse = sparse
        self._data: Optional[Any] = None
        self._rows: Optional[ChunkedArray] = None
        self._shape = ChunkedArray(
            storage.files,
            path + "/shape",
            (RAGGED_DIMENSIONS,),
            np.int64,
            rows_per_chunk=min(1024, storage.expected),
            expected=storage.expected,
            fill=-2,
        )
        self._hash: Optional[ChunkedArray] = None
        if hashed:
            self._hash = ChunkedArray(
                storage.files,
                path + "/hash",
                (),
                np.uint64,
                rows_per_chunk=min(1024, storage.expected),
                expected=storage.expected,
            )

    def append(self, value: np.ndarray, shape: Tuple[int, ...], rows: Optional[np.ndarray]) -> None:
        """Takes the next value: its elements in C order, its shape, and its row numbers."""
        if self._data is None:
            # The first value tells how much will come.
            extent = ragged_extent(
                value.size, self._dtype.itemsize, self._storage.expected, self._storage.chunk_bytes
            )
            self._data = self._storage.array(
                self._path + "/data", (), self._dtype, rows_per_chunk=extent, expected=extent
            )
            if self._sparse:
                extent = ragged_extent(
                    shape[0] if shape else 1, 8, self._storage.expected, self._storage.chunk_bytes
                )
                self._rows = ChunkedArray(
                    self._storage.files,
                    self._path + "/rows",
                    (),
                    np.int64,
                    rows_per_chunk=extent,
                    expected=extent,
                )
        padded = np.full((1, RAGGED_DIMENSIONS), -1, np.int64)
        padded[0, : len(shape)] = shape
        self._data.append(value.reshape(-1))
        self._shape.append(padded)
        if self._rows is not None and rows is not None:
            self._rows.append(rows)
        if self._hash is not None:
            self._hash.append(row_digests(value.reshape(1, -1)))

    def arrays(self) -> List[Any]:
        """The arrays it consists of, the data first."""
        parts = (self._data, self._rows, self._shape, self._hash)
        return [array for array in parts if array is not None]


def fixed_rows(nbytes: int, expected: int, chunk_bytes: int) -> int:
    """How many values of ``nbytes`` share a chunk."""
    return int(min(1024, expected, max(1, chunk_bytes // max(1, nbytes))))


def ragged_extent(size: int, itemsize: int, expected: int, chunk_bytes: int) -> int:
    """How many elements share a chunk where a value has about ``size``."""
    return max(1, min(chunk_bytes // itemsize, max(LEAST_EXTENT, size * expected)))


def chunk_bytes_within(limit: int, tensors: int) -> int:
    """The size of chunks in a trace of at most ``limit`` bytes: the first ones must fit well."""
    share = max(64 << 10, limit // (64 * (tensors + 1)))
    return int(min(CHUNK_BYTES, share))
