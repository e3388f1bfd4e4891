"""The trace on disk, as docs/trace-format.md lays it out; knows nothing of training."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.arrays import ChunkedArray, GZip, put_attributes, put_group
from tracediff_hooks.digest import Digest
from tracediff_hooks.files import Files, LocalFiles, RemoteFiles
from tracediff_hooks.moments import FIELDS
from tracediff_hooks.run import Summary
from tracediff_hooks.target import check_target, where
from tracediff_hooks.values import FixedValues, RaggedValues, Storage

FORMAT = 1
TABLE_CHUNK_BYTES = 256 << 10
_NO_STATISTICS = (float("nan"),) * len(FIELDS)


def compressor(name: Optional[str]) -> Optional[Any]:
    """The codec for values: None, or Blosc with ``"lz4"`` or ``"zstd"``.

    Raises:
        ValueError: for another name.
    """
    if name is None:
        return None
    if name not in ("lz4", "zstd"):
        raise ValueError(f"compression must be None, 'lz4' or 'zstd', not {name!r}")
    import numcodecs  # comes with zarr; most traces are not compressed and need not wait for it

    return numcodecs.Blosc(cname=name, clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)


class TraceStore:
    """The root group of a trace on disk."""

    def __init__(
        self, path: str, *, writer: str, compression: Optional[str], overwrite: bool = False
    ) -> None:
        # Again, for training may begin long after the callback was made.
        check_target(path, overwrite=overwrite)
        self._codec = compressor(compression)
        self.files: Files = (
            RemoteFiles(path, overwrite=overwrite)
            if "://" in path
            else LocalFiles(where(path), overwrite=overwrite)
        )
        try:
            self.files.reserve()
            put_attributes(self.files, "", {"tracediff": {"format": FORMAT, "writer": writer}})
        except OSError:
            self.files.abandon()
            raise
        self._runs = 0

    def create_run(
        self, attributes: Dict[str, Any], *, expected: int, chunk_bytes: int
    ) -> "RunGroup":
        """Makes the group of the next run, of which about ``expected`` steps will come."""
        storage = Storage(
            self.files,
            codec=self._codec,
            expected=expected,
            chunk_bytes=chunk_bytes,
        )
        run = RunGroup(storage, f"run-{self._runs}", attributes)
        self._runs += 1
        return run

    def close(self) -> None:
        """Closes every file."""
        self.files.close()


class _Table:
    """Versions and digests of a family of tensors, one column each."""

    def __init__(self, files: Files, path: str, columns: int) -> None:
        put_group(files, path)
        self._files = files
        self._path = path
        self._columns = columns
        self._rows = 0
        self._rows_per_chunk = int(min(4096, max(16, TABLE_CHUNK_BYTES // (16 * max(1, columns)))))
        self._arrays: Dict[str, ChunkedArray] = {}
        self._make("version", np.int32, fill=-1)
        self._make("digest", np.uint64, 2)

    def _make(self, name: str, dtype: Any, *inner: int, fill: Any = 0) -> None:
        self._arrays[name] = ChunkedArray(
            self._files,
            f"{self._path}/{name}",
            (self._columns, *inner),
            dtype,
            rows_per_chunk=self._rows_per_chunk,
            fill=fill,
            start=self._rows,
        )

    def append(
        self,
        versions: Sequence[int],
        digests: Sequence[Digest],
        summaries: Sequence[Tuple[int, "Summary"]],
    ) -> None:
        """Takes the next row; ``summaries`` of the columns that have one."""
        if len(versions) > self._columns:
            self._columns = len(versions)
            for array in self._arrays.values():
                array.widen(self._columns)
        if summaries and "statistics" not in self._arrays:
            self._make("statistics", np.float64, len(FIELDS), fill=float("nan"))
            self._make("sketch", np.int32, fill=-1)
            self._make("rows", np.int32, fill=-1)
        self._arrays["version"].append(np.array([versions], np.int32))
        pairs = np.array(digests, np.uint64).reshape(1, len(digests), 2)
        self._arrays["digest"].append(pairs)
        if "statistics" in self._arrays:
            self._append_summaries(summaries)
        self._rows += 1

    def _append_summaries(self, summaries: Sequence[Tuple[int, "Summary"]]) -> None:
        statistics = [_NO_STATISTICS] * self._columns
        sketches, rows = [-1] * self._columns, [-1] * self._columns
        for column, summary in summaries:
            statistics[column] = summary.statistics or _NO_STATISTICS
            sketches[column], rows[column] = summary.sketch, summary.rows
        self._arrays["statistics"].append(np.array([statistics], np.float64))
        self._arrays["sketch"].append(np.array([sketches], np.int32))
        self._arrays["rows"].append(np.array([rows], np.int32))

    def arrays(self) -> List[ChunkedArray]:
        """The arrays it consists of."""
        return list(self._arrays.values())


class RunGroup:
    """One run on disk. Nothing is promised to be there before `flush` returns."""

    def __init__(self, storage: Storage, path: str, attributes: Dict[str, Any]) -> None:
        self._storage = storage
        self._files = files = storage.files
        self._path = path
        self._values: Dict[str, Any] = {}
        self._numbers: Dict[str, int] = {}
        self._tables: Dict[str, _Table] = {}
        # What makes a run of the folder comes last: a process that is killed while it makes one
        # leaves no half of it.
        files.groups.add(path)
        self.write_attributes(attributes)
        self._progress = ChunkedArray(files, f"{path}/progress", (), np.int64, rows_per_chunk=1)
        self._put_progress(0)
        put_group(files, f"{path}/steps")
        self._steps = {
            name: self._column(f"steps/{name}", np.int32, -1) for name in ("fit", "epoch", "batch")
        }
        self._steps["seconds"] = self._column("steps/seconds", np.float64, float("nan"))
        put_group(files, f"{path}/external")
        self._external = {
            name: self._column(f"external/{name}", dtype, -1)
            for name, dtype in (("step", np.int64), ("column", np.int32), ("version", np.int32))
        }
        self._external["digest"] = ChunkedArray(
            files, f"{path}/external/digest", (2,), np.uint64, rows_per_chunk=1024
        )
        files.groups.discard(path)
        put_group(files, path)

    def _column(self, name: str, dtype: Any, fill: Any) -> ChunkedArray:
        # A value that never occurs as fill: a reader takes a chunk that is not there for one that
        # holds nothing else, and one that was lost must not look like that.
        return ChunkedArray(
            self._files, f"{self._path}/{name}", (), dtype, rows_per_chunk=4096, fill=fill
        )

    def _put_progress(self, steps: int) -> None:
        data = GZip.encode(np.array([steps], "<i8"))
        self._files.put(f"{self._path}/progress/0", data)

    def write_attributes(self, attributes: Dict[str, Any]) -> None:
        """Writes what the run is described by, in place of what stood there."""
        put_attributes(self._files, self._path, {"run": attributes})

    def create_values(
        self, path: str, layout: str, shape: Optional[Tuple[int, ...]], dtype: Any
    ) -> None:
        """Makes room for the values of a tensor."""
        at = f"{self._path}/{path}"
        if layout == "fixed":
            self._values[path] = FixedValues(self._storage, at, tuple(shape or ()), dtype)
        else:
            self._values[path] = RaggedValues(
                self._storage, at, dtype, sparse=layout == "sparse", hashed=layout == "summary"
            )

    def append_value(
        self, path: str, value: np.ndarray, shape: Tuple[int, ...], rows: Optional[np.ndarray]
    ) -> None:
        """Takes the next value of a tensor; ``rows`` where it is sparse."""
        self._values[path].append(value, shape, rows)

    def append_row(
        self,
        table: str,
        versions: Sequence[int],
        digests: Sequence[Digest],
        summaries: Sequence[Tuple[int, "Summary"]],
    ) -> None:
        """Takes the next row of a table: which version each tensor has, and its digest."""
        if table not in self._tables:
            self._tables[table] = _Table(self._files, f"{self._path}/{table}", len(versions))
        self._tables[table].append(versions, digests, summaries)

    def append_sketch(self, path: str, numbers: np.ndarray) -> int:
        """Takes the next sketch of a tensor and returns its position."""
        if path not in self._values:
            self.create_values(path, "summary", None, np.float64)
        return self._append_numbered(path, numbers)

    def append_rows(self, path: str, digests: np.ndarray) -> int:
        """Takes the next row digests of a tensor and returns their position."""
        if path not in self._values:
            self.create_values(path, "summary", None, np.uint64)
        return self._append_numbered(path, digests)

    def _append_numbered(self, path: str, numbers: np.ndarray) -> int:
        self._values[path].append(numbers, numbers.shape, None)
        position = self._numbers.get(path, 0)
        self._numbers[path] = position + 1
        return position

    def append_external(
        self,
        step: int,
        column: int,
        version: int,
        digest: Tuple[int, int],
        summary: Optional["Summary"],
    ) -> None:
        """Takes a state tensor that changed between the step before ``step`` and ``step``."""
        external = self._external
        if summary is not None and "statistics" not in external:
            for name, dtype, inner, fill in (
                ("statistics", np.float64, (len(FIELDS),), float("nan")),
                ("sketch", np.int32, (), -1),
            ):
                external[name] = ChunkedArray(
                    self._files,
                    f"{self._path}/external/{name}",
                    inner,
                    dtype,
                    rows_per_chunk=1024,
                    fill=fill,
                    start=external["step"].rows,
                )
        external["step"].append(np.array([step], np.int64))
        external["column"].append(np.array([column], np.int32))
        external["version"].append(np.array([version], np.int32))
        external["digest"].append(np.array([digest], np.uint64))
        if "statistics" in external:
            row = np.full((1, len(FIELDS)), np.nan)
            if summary is not None and summary.statistics is not None:
                row[0] = summary.statistics
            external["statistics"].append(row)
            place = -1 if summary is None else summary.sketch
            external["sketch"].append(np.array([place], np.int32))

    def append_step(self, fit: int, epoch: int, batch: int, seconds: float) -> None:
        """Takes where a step stands, and when it ended in seconds since its run began."""
        for name, number in (("fit", fit), ("epoch", epoch), ("batch", batch)):
            self._steps[name].append(np.array([number], np.int32))
        self._steps["seconds"].append(np.array([seconds], np.float64))

    def _arrays(self) -> List[Any]:
        parts = [*self._values.values(), *self._tables.values()]
        arrays = [array for part in parts for array in part.arrays()]
        return [*arrays, *self._external.values(), *self._steps.values()]

    def flush(self, steps: int) -> None:
        """Brings everything to disk, the number of complete steps last."""
        self._files.check()
        for array in self._arrays():
            array.flush()
        self._put_progress(steps)

    def trim(self) -> None:
        """Makes every array as long as what was written: nothing more is to come for now."""
        for array in self._arrays():
            array.trim()
