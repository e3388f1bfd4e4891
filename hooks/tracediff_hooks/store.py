"""Writes a trace through the zarr library of this environment, in format 2.

The layout is that of docs/trace-format.md. Knows zarr 2.10 and later and zarr 3, and nothing of
training.
"""

import os
import shutil
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import quote

import numcodecs
import numpy as np
import zarr

FORMAT = 1
CHUNK_BYTES = 4 << 20
"""Values of one tensor are gathered until they fill a chunk of about this size: zarr's work is per
chunk, so chunks should be large; a chunk that is not full still takes its whole size on disk, so
not too large."""
MAX_CHUNK_BYTES = 256 << 20
"""A single value larger than this is split along its first axis (Blosc cannot take 2 GiB)."""
TABLE_CHUNK_BYTES = 256 << 10
RAGGED_DIMENSIONS = 8

_ZARR_3 = int(zarr.__version__.split(".")[0]) >= 3


class TraceExistsError(FileExistsError):
    """The store to be written is there already."""


def check_target(path: str, *, overwrite: bool) -> None:
    """Refuses a path that holds something a new trace would destroy.

    Raises:
        TraceExistsError: something is there; with ``overwrite`` only if it is not a trace.
    """
    if not os.path.lexists(path):
        return
    if os.path.isdir(path) and not os.listdir(path):
        return
    if not overwrite:
        raise TraceExistsError(
            f"{path} exists already; pass overwrite=True (tracediff-record: --overwrite) "
            "to replace it, or record to another path"
        )
    if not _is_trace(path):
        raise TraceExistsError(
            f"{path} exists and is not a trace, so overwrite=True does not delete it; "
            "record to another path"
        )


def _is_trace(path: str) -> bool:
    try:
        return "tracediff" in zarr.open_group(path, mode="r").attrs
    except Exception:  # whatever zarr raises here means: not one of ours
        return False


def compressor(name: Optional[str]) -> Optional[Any]:
    """The codec for values: None, or Blosc with ``"lz4"`` or ``"zstd"``.

    Raises:
        ValueError: for another name.
    """
    if name is None:
        return None
    if name not in ("lz4", "zstd"):
        raise ValueError(f"compression must be None, 'lz4' or 'zstd', not {name!r}")
    return numcodecs.Blosc(cname=name, clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)


class TraceStore:
    """The root group of a trace on disk."""

    def __init__(
        self, path: str, *, writer: str, compression: Optional[str], overwrite: bool = False
    ) -> None:
        # Again, for training may begin long after the callback was made.
        check_target(path, overwrite=overwrite)
        if overwrite and os.path.lexists(path):
            shutil.rmtree(path)
        if "://" not in path:
            os.makedirs(path, exist_ok=True)  # where that fails, it says better why than zarr does
        options = {"zarr_format": 2} if _ZARR_3 else {}
        self._root = zarr.open_group(path, mode="w", **options)
        self._root.attrs.update({"tracediff": {"format": FORMAT, "writer": writer}})
        self._codec = compressor(compression)
        self._runs = 0

    def create_run(self, attributes: Dict[str, Any]) -> "RunGroup":
        """Makes the group of the next run."""
        group = self._root.create_group(f"run-{self._runs}")
        self._runs += 1
        return RunGroup(group, attributes, self._codec)


def _create_array(
    group: Any,
    name: str,
    shape: Tuple[int, ...],
    chunks: Tuple[int, ...],
    dtype: Any,
    fill: Any,
    codec: Optional[Any],
) -> Any:
    if _ZARR_3:
        return group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=fill,
            compressors=codec,
            filters=None,
        )
    return group.create_dataset(
        name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, compressor=codec
    )


class GrowingArray:
    """An array that grows along its first axis and is written in whole chunks where possible.

    Rows given to `append` wait until a chunk is full or `flush` is called. The array on disk is
    made longer well ahead of what is written, because every change of its length rewrites its
    metadata file; `trim` ends that.
    """

    def __init__(
        self,
        group: Any,
        name: str,
        row_shape: Tuple[int, ...],
        dtype: Any,
        *,
        rows_per_chunk: int,
        expected: int = 1,
        fill: Any = 0,
        codec: Optional[Any] = None,
        inner_chunks: Optional[Tuple[int, ...]] = None,
    ) -> None:
        chunks = (rows_per_chunk,) + (inner_chunks or row_shape)
        chunks = tuple(max(1, extent) for extent in chunks)
        self._array = _create_array(group, name, (expected, *row_shape), chunks, dtype, fill, codec)
        self._row_shape = row_shape
        self._length = expected
        self._rows_per_chunk = rows_per_chunk
        self._pending: List[np.ndarray] = []
        self._pending_rows = 0
        self._written = 0

    def append(self, rows: np.ndarray) -> None:
        """Takes rows, shape (n, ``*row_shape``); they must not change afterwards."""
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._written % self._rows_per_chunk + self._pending_rows >= self._rows_per_chunk:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait."""
        if not self._pending_rows:
            return
        rows = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        end = self._written + len(rows)
        if end > self._length:
            self._resize(max(end, 2 * self._length))
        self._array[self._written : end] = rows
        self._written = end
        self._pending = []
        self._pending_rows = 0

    def trim(self) -> None:
        """Flushes and makes the array as long as what was written."""
        self.flush()
        if self._length != self._written:
            self._resize(self._written)

    def widen(self, columns: int) -> None:
        """Makes room for more columns; existing rows hold the fill value there."""
        self.flush()
        self._row_shape = (columns, *self._row_shape[1:])
        self._resize(self._length)

    def _resize(self, length: int) -> None:
        self._length = length
        self._array.resize((length, *self._row_shape))


class _FixedValues:
    def __init__(
        self,
        group: Any,
        path: str,
        shape: Tuple[int, ...],
        dtype: Any,
        codec: Optional[Any],
        expected: int,
    ) -> None:
        nbytes = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        inner = shape
        if nbytes > MAX_CHUNK_BYTES and shape:
            first = max(1, shape[0] * MAX_CHUNK_BYTES // nbytes)
            inner = (first, *shape[1:])
        rows = int(min(1024, expected, max(1, CHUNK_BYTES // nbytes)))
        self._values = GrowingArray(
            group,
            path,
            shape,
            dtype,
            rows_per_chunk=rows,
            expected=expected,
            codec=codec,
            inner_chunks=inner,
        )

    def append(
        self,
        value: np.ndarray,
        rows: Optional[np.ndarray],  # noqa: ARG002 - called as `_RaggedValues`, which may have them
    ) -> None:
        self._values.append(value[np.newaxis])

    def flush(self) -> None:
        self._values.flush()

    def trim(self) -> None:
        self._values.trim()


class _RaggedValues:
    def __init__(
        self,
        group: Any,
        path: str,
        dtype: Any,
        codec: Optional[Any],
        *,
        sparse: bool,
        expected: int,
    ) -> None:
        self._group = group.create_group(path)
        self._dtype = np.dtype(dtype)
        self._codec = codec
        self._sparse = sparse
        self._expected = expected
        self._data: Optional[GrowingArray] = None
        self._rows: Optional[GrowingArray] = None
        self._shape = GrowingArray(
            self._group,
            "shape",
            (RAGGED_DIMENSIONS,),
            np.int64,
            rows_per_chunk=min(1024, expected),
            expected=expected,
            fill=-2,
            codec=numcodecs.GZip(1),
        )

    def append(self, value: np.ndarray, rows: Optional[np.ndarray]) -> None:
        if self._data is None:
            # The first value tells how much will come.
            self._data = self._flat("data", self._dtype, value.size, self._codec)
            if self._sparse:
                self._rows = self._flat("rows", np.dtype(np.int64), len(value), numcodecs.GZip(1))
        shape = np.full((1, RAGGED_DIMENSIONS), -1, np.int64)
        shape[0, : value.ndim] = value.shape
        self._data.append(value.reshape(-1))
        self._shape.append(shape)
        if self._rows is not None and rows is not None:
            self._rows.append(rows)

    def _flat(self, name: str, dtype: Any, size: int, codec: Optional[Any]) -> GrowingArray:
        extent = max(1, min(CHUNK_BYTES // dtype.itemsize, size * self._expected))
        return GrowingArray(
            self._group, name, (), dtype, rows_per_chunk=extent, expected=extent, codec=codec
        )

    def _arrays(self) -> List[GrowingArray]:
        return [array for array in (self._data, self._rows, self._shape) if array is not None]

    def flush(self) -> None:
        for array in self._arrays():
            array.flush()

    def trim(self) -> None:
        for array in self._arrays():
            array.trim()


class _Table:
    """Versions and digests of a family of tensors, one column each."""

    def __init__(self, group: Any, name: str, columns: int) -> None:
        table = group.create_group(name)
        rows = int(min(4096, max(16, TABLE_CHUNK_BYTES // (16 * max(1, columns)))))
        gzip = numcodecs.GZip(1)
        self._columns = columns
        self._version = GrowingArray(
            table, "version", (columns,), np.int32, rows_per_chunk=rows, fill=-1, codec=gzip
        )
        self._digest = GrowingArray(
            table, "digest", (columns, 2), np.uint64, rows_per_chunk=rows, codec=gzip
        )

    def append(self, versions: np.ndarray, digests: np.ndarray) -> None:
        if len(versions) > self._columns:
            self._columns = len(versions)
            self._version.widen(self._columns)
            self._digest.widen(self._columns)
        self._version.append(versions[np.newaxis])
        self._digest.append(digests[np.newaxis])

    def flush(self) -> None:
        self._version.flush()
        self._digest.flush()

    def trim(self) -> None:
        self._version.trim()
        self._digest.trim()


class RunGroup:
    """One run on disk. Nothing is promised to be there before `flush` returns."""

    def __init__(self, group: Any, attributes: Dict[str, Any], codec: Optional[Any]) -> None:
        self._group = group
        self._codec = codec
        self._values: Dict[str, Any] = {}
        self._tables: Dict[str, _Table] = {}
        self._steps: Dict[str, GrowingArray] = {}
        self._external: Dict[str, GrowingArray] = {}
        self.write_attributes(attributes)
        self._progress = _create_array(
            group, "progress", (1,), (1,), np.int64, 0, numcodecs.GZip(1)
        )
        self._progress[0] = 0
        steps = group.create_group("steps")
        for name in ("fit", "epoch", "batch"):
            self._steps[name] = self._column(steps, name, np.int32, -1)
        self._steps["seconds"] = self._column(steps, "seconds", np.float64, float("nan"))
        external = group.create_group("external")
        for name, dtype in (("step", np.int64), ("column", np.int32), ("version", np.int32)):
            self._external[name] = self._column(external, name, dtype, -1)
        self._external["digest"] = GrowingArray(
            external, "digest", (2,), np.uint64, rows_per_chunk=1024, codec=numcodecs.GZip(1)
        )

    @staticmethod
    def _column(group: Any, name: str, dtype: Any, fill: Any) -> GrowingArray:
        # A value that never occurs as fill: zarr leaves out chunks that hold nothing else, and one
        # that was lost must not look like that.
        return GrowingArray(
            group, name, (), dtype, rows_per_chunk=4096, fill=fill, codec=numcodecs.GZip(1)
        )

    def write_attributes(self, attributes: Dict[str, Any]) -> None:
        """Writes what the run is described by, in place of what stood there."""
        self._group.attrs.update({"run": attributes})

    def create_values(
        self, path: str, layout: str, shape: Optional[Tuple[int, ...]], dtype: Any, expected: int
    ) -> None:
        """Makes room for a tensor of which about ``expected`` values will come."""
        if layout == "fixed":
            self._values[path] = _FixedValues(
                self._group, path, tuple(shape or ()), dtype, self._codec, expected
            )
        else:
            self._values[path] = _RaggedValues(
                self._group,
                path,
                dtype,
                self._codec,
                sparse=layout == "sparse",
                expected=expected,
            )

    def append_value(self, path: str, value: np.ndarray, rows: Optional[np.ndarray]) -> None:
        """Takes the next value of a tensor; ``rows`` where it is sparse."""
        self._values[path].append(value, rows)

    def append_row(self, table: str, versions: np.ndarray, digests: np.ndarray) -> None:
        """Takes the next row of a table: which version each tensor has, and its digest."""
        if table not in self._tables:
            self._tables[table] = _Table(self._group, table, len(versions))
        self._tables[table].append(versions, digests)

    def append_external(
        self, step: int, column: int, version: int, digest: Tuple[int, int]
    ) -> None:
        """Takes a state tensor that changed between the step before ``step`` and ``step``."""
        self._external["step"].append(np.array([step], np.int64))
        self._external["column"].append(np.array([column], np.int32))
        self._external["version"].append(np.array([version], np.int32))
        self._external["digest"].append(np.array([digest], np.uint64))

    def append_step(self, fit: int, epoch: int, batch: int, seconds: float) -> None:
        """Takes where a step stands, and when it ended in seconds since its run began."""
        for name, number in (("fit", fit), ("epoch", epoch), ("batch", batch)):
            self._steps[name].append(np.array([number], np.int32))
        self._steps["seconds"].append(np.array([seconds], np.float64))

    def _parts(self) -> List[Any]:
        parts = list(self._values.values())
        for family in (self._tables, self._external, self._steps):
            parts.extend(family.values())
        return parts

    def flush(self, steps: int) -> None:
        """Brings everything to disk, the number of complete steps last."""
        for part in self._parts():
            part.flush()
        self._progress[0] = steps

    def trim(self) -> None:
        """Makes every array as long as what was written: nothing more is to come for now."""
        for part in self._parts():
            part.trim()


def values_path(role: str, name: str) -> str:
    """Where the values of a tensor stand in its run."""
    return "values/{}/{}".format(role, quote(name, safe="/-_."))
