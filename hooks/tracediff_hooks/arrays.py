"""Arrays of a zarr store of format 2 that grow along their first axis.

https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html. `InPlaceArray` writes each row where it
belongs as it comes, `ChunkedArray` gathers rows and writes compressed chunks.
"""

import itertools
import json
import math
import zlib
from typing import Any, Dict, Optional, Tuple

import numpy as np

from tracediff_hooks.files import GROUP, Files, LocalFiles


class GZip:
    """The codec ``gzip`` of numcodecs, from the standard library; checks itself when decoded."""

    config = {"id": "gzip", "level": 1}  # noqa: RUF012 - it is never written to

    @staticmethod
    def encode(data: Any) -> bytes:
        """Compresses the bytes of an array."""
        deflate = zlib.compressobj(
            1, zlib.DEFLATED, 31
        )  # 31: with the header of gzip, no time in it
        return deflate.compress(data) + deflate.flush()

    @classmethod
    def get_config(cls) -> Dict[str, Any]:
        """What ``.zarray`` says of it."""
        return cls.config


def put_group(files: Files, path: str) -> None:
    """Makes a group, and those above it."""
    if path and path not in files.groups:
        put_group(files, path.rpartition("/")[0])
        files.put(path + "/.zgroup", GROUP)
        files.groups.add(path)


def put_attributes(files: Files, path: str, attributes: Dict[str, Any]) -> None:
    """Writes the attributes of a group in place of those it had."""
    key = (path + "/" if path else "") + ".zattrs"
    files.put(key, json.dumps(attributes, allow_nan=False).encode())


class _Array:
    """What both kinds share: an array that is longer than what was written, until `trim`."""

    def __init__(
        self,
        files: Files,
        path: str,
        row_shape: Tuple[int, ...],
        dtype: Any,
        *,
        chunks: Tuple[int, ...],
        expected: int,
        fill: Any,
        codec: Optional[Any],
    ) -> None:
        self._files = files
        self._path = path
        self._row_shape = row_shape
        self._dtype = np.dtype(dtype)
        self._chunks = tuple(max(1, int(extent)) for extent in chunks)
        self._fill = fill
        self._codec = codec
        self._length = expected
        self._rows = 0
        self._stale = True
        put_group(files, path.rpartition("/")[0])
        self._describe()

    def _describe(self) -> None:
        fill = self._fill
        if self._dtype.kind == "c":
            fill = [0.0, 0.0]
        elif self._dtype.kind == "b":
            fill = bool(fill)
        elif self._dtype.kind == "f":
            fill = "NaN" if math.isnan(fill) else float(fill)
        about = {
            "chunks": self._chunks,
            "compressor": None if self._codec is None else self._codec.get_config(),
            "dtype": self._dtype.newbyteorder("<").str,
            "fill_value": fill,
            "filters": None,
            "order": "C",
            "shape": (self._length, *map(int, self._row_shape)),
            "zarr_format": 2,
        }
        self._stale = True
        self._files.put(self._path + "/.zarray", json.dumps(about).encode())
        self._stale = False

    @property
    def rows(self) -> int:
        """How many rows were taken."""
        return self._rows

    def _grow(self, rows: int) -> None:
        if rows > self._length:
            self._length = max(rows, 2 * self._length)
            self._describe()

    def _grid(self) -> Tuple[int, ...]:
        """How many chunks lie along each axis but the first."""
        return tuple(-(-n // chunk) for n, chunk in zip(self._row_shape, self._chunks[1:]))

    def _chunk(self, *place: int) -> str:
        return self._path + "/" + ".".join(map(str, place))

    def flush(self) -> None:
        """Brings to disk what waits, a description that the disk has refused before included."""
        if self._stale:
            self._describe()

    def trim(self) -> None:
        """Flushes and makes the array as long as what was written."""
        self.flush()
        if self._length != self._rows:
            self._length = self._rows
            self._describe()


class InPlaceArray(_Array):
    """Uncompressed rows, each written where it belongs: nothing waits, and nothing is copied.

    A chunk's file has its full size from the beginning, with a hole where no row is yet.
    """

    def __init__(
        self,
        files: LocalFiles,
        path: str,
        row_shape: Tuple[int, ...],
        dtype: Any,
        *,
        rows_per_chunk: int,
        expected: int,
        first: Optional[int] = None,
    ) -> None:
        # Extents of a row's part that one chunk holds: a large row is split along its first axis.
        inner = row_shape if first is None else (first, *row_shape[1:])
        chunks = (rows_per_chunk, *inner)
        super().__init__(
            files, path, row_shape, dtype, chunks=chunks, expected=expected, fill=0, codec=None
        )
        self._local = files
        self._part_bytes = int(np.prod(inner, dtype=np.int64)) * self._dtype.itemsize
        self._size = int(np.prod(self._chunks, dtype=np.int64)) * self._dtype.itemsize

    def append(self, rows: np.ndarray) -> None:
        """Writes rows, contiguous, shape (n, ``*row_shape``)."""
        self._grow(self._rows + len(rows))
        done, count = 0, len(rows)
        # Any, for the types of numpy know no buffers.
        flat: Any = rows.reshape(-1).view(np.uint8)
        data = memoryview(flat) if rows.size else None
        row_bytes = data.nbytes // count if data is not None else 0
        while done < count and data is not None:
            chunk, inside = divmod(self._rows + done, self._chunks[0])
            fitting = min(count - done, self._chunks[0] - inside)
            part = data[done * row_bytes : (done + fitting) * row_bytes]
            self._write(chunk, inside, part)
            done += fitting
            if inside + fitting == self._chunks[0]:
                for place in itertools.product(*map(range, self._grid())):
                    self._local.done_with(self._chunk(chunk, *place))
        self._rows += count

    def _write(self, chunk: int, inside: int, data: memoryview) -> None:
        grid = self._grid()
        if not grid or grid[0] == 1:
            key = self._chunk(chunk, *(0 for _ in grid))
            self._local.put_at(key, inside * self._part_bytes, data, size=self._size)
            return
        # A chunk holds a part of one row.
        for number in range(grid[0]):
            key = self._chunk(chunk, number, *(0 for _ in grid[1:]))
            part = data[number * self._part_bytes : (number + 1) * self._part_bytes]
            self._local.put_at(key, 0, part, size=self._size)


class ChunkedArray(_Array):
    """Rows that are gathered in memory, one chunk of them, and written compressed.

    The chunk being filled is written at each flush as far as it is, and again when it is full.

    Args:
        files: where to write.
        path: where the array stands in the store.
        row_shape: the shape of a row.
        dtype: the element type.
        rows_per_chunk: how many rows are gathered.
        expected: how long the array is made at first.
        fill: what stands where nothing was written.
        codec: what compresses a chunk, or None.
        first: how many elements along the first axis of a row a chunk holds, where not all.
        start: rows that hold the fill value and are not written.
    """

    def __init__(
        self,
        files: Files,
        path: str,
        row_shape: Tuple[int, ...],
        dtype: Any,
        *,
        rows_per_chunk: int,
        expected: int = 1,
        fill: Any = 0,
        codec: Optional[Any] = GZip,
        first: Optional[int] = None,
        start: int = 0,
    ) -> None:
        inner = row_shape if first is None else (first, *row_shape[1:])
        super().__init__(
            files,
            path,
            row_shape,
            dtype,
            chunks=(rows_per_chunk, *inner),
            expected=max(expected, start),
            fill=fill,
            codec=codec,
        )
        self._rows = self._written = start
        self._buffer = self._empty()

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self._row_shape, dtype=np.int64) * self._dtype.itemsize)

    def _empty(self) -> np.ndarray:
        shape = (self._chunks[0], *self._row_shape)
        if self._fill == 0:
            return np.zeros(shape, self._dtype)  # pages that nothing is written to cost nothing
        return np.full(shape, self._fill, self._dtype)

    def append(self, rows: np.ndarray) -> None:
        """Takes rows, shape (n, ``*row_shape``)."""
        done, count = 0, len(rows)
        while done < count:
            inside = self._rows % self._chunks[0]
            fitting = min(count - done, self._chunks[0] - inside)
            self._buffer[inside : inside + fitting] = rows[done : done + fitting]
            done += fitting
            self._rows += fitting
            self._files.waiting += fitting * self._row_bytes
            if inside + fitting == self._chunks[0]:
                self.flush()
                self._buffer = self._empty()

    def flush(self) -> None:
        """Writes the rows that wait."""
        super().flush()
        if self._written == self._rows:
            return
        self._grow(self._rows)
        number = (self._rows - 1) // self._chunks[0]
        for place in itertools.product(*map(range, self._grid())):
            chunk = np.full(self._chunks, self._fill, self._dtype)
            source = [
                slice(at * extent, (at + 1) * extent) for at, extent in zip(place, self._chunks[1:])
            ]
            part = self._buffer[(slice(None), *source)]
            chunk[tuple(slice(0, extent) for extent in part.shape)] = part
            data = chunk.tobytes() if self._codec is None else self._codec.encode(chunk)
            self._files.put(self._chunk(number, *place), data)
        self._files.waiting -= (self._rows - self._written) * self._row_bytes
        self._written = self._rows

    def widen(self, columns: int) -> None:
        """Makes room for more columns; existing rows hold the fill value there."""
        old, bytes_before = self._buffer, self._row_bytes
        self._row_shape = (columns, *self._row_shape[1:])
        self._files.waiting += (self._rows - self._written) * (self._row_bytes - bytes_before)
        self._buffer = self._empty()
        self._buffer[:, : old.shape[1]] = old
        self._describe()
