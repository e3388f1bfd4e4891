"""Turns what a hook saw at each step into a trace: stores what is new, points to what is known.

Works out versions and digests in the calling thread and hands all writing to one background thread.
Nothing here knows a framework, and `record_step` never raises.
"""

import atexit
import contextlib
import math
import os
import queue
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks._version import __version__
from tracediff_hooks.digest import ABSENT, Digest, digest_of
from tracediff_hooks.store import TraceStore, check_target, compressor, values_path

STATE_ROLES = ("weight", "slot")
LEVELS = ("auto", "full", "digest")
FLUSH_SECONDS = 5.0
"""A run killed at any moment loses at most about this much (and what the queue holds)."""
QUEUE_BYTES = 256 << 20
"""How far the writer may fall behind before training waits for it."""
AUTO_FULL_BYTES = 64 << 20
"""Level ``auto`` keeps every element while one step's values are at most this many bytes."""
UNKNOWN_STEPS = 64
"""Steps in a chunk of a small tensor where nobody knows how many will come."""
KNOWN_VERSIONS = 1024
"""How many distinct values of a tensor are remembered, to point to one that comes again."""

Key = Tuple[str, str]


class SparseRows(NamedTuple):
    """A gradient that came as indexed slices: some rows of a dense tensor.

    Rows that come repeatedly are to be added.
    """

    values: np.ndarray
    rows: np.ndarray


Value = Union[np.ndarray, SparseRows]


class TensorSpec(NamedTuple):
    """A line of the table of tensors, as the hook knows it."""

    name: str
    role: str
    dtype: str
    shape: Optional[Tuple[int, ...]] = None
    layer: Optional[str] = None
    order: int = 0
    trainable: Optional[bool] = None
    same_as: Optional[str] = None
    framework_name: Optional[str] = None
    ragged: bool = False
    sparse: bool = False

    @property
    def layout(self) -> str:
        """How its values are stored: ``fixed``, ``ragged`` or ``sparse``."""
        if self.sparse:
            return "sparse"
        return "ragged" if self.ragged else "fixed"


class _Column:
    """A tensor's place in its table, and the values of it that are already stored."""

    def __init__(self, spec: TensorSpec, table: str, *, number: int, keep: bool) -> None:
        self.spec = spec
        self.table = table
        self.number = number
        self.keep = keep
        self.path = values_path(spec.role, spec.name) if keep else None
        self.last = ABSENT  # type: Digest
        self._versions = {}  # type: Dict[Tuple[Digest, Tuple[int, ...]], int]
        self._next = 0

    def version_of(self, digest: Digest, shape: Tuple[int, ...]) -> Tuple[int, bool]:
        """The version that holds a value, and whether it is a new one."""
        if not self.keep:
            return -1, False
        # Zeros of shapes (2, 6) and (3, 4) have one digest and are not one value.
        content = (digest, shape)
        known = self._versions.get(content)
        if known is not None:
            return known, False
        if len(self._versions) >= KNOWN_VERSIONS:
            self._versions.pop(next(iter(self._versions)))
        version = self._next
        self._versions[content] = version
        self._next += 1
        return version, True


def _parts(value: Value) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    if isinstance(value, SparseRows):
        return np.asarray(value.values), np.asarray(value.rows, np.int64)
    return np.asarray(value), None


def _digest(value: np.ndarray, rows: Optional[np.ndarray]) -> Digest:
    return digest_of(value) if rows is None else digest_of(value, rows)


def _storable(value: np.ndarray) -> np.ndarray:
    """The value in a dtype that every numpy reads.

    What is not plain numpy, such as bfloat16, becomes integers of its width.
    """
    if _plain_numpy(value.dtype):
        return value
    return value.view(np.dtype(f"u{value.dtype.itemsize}"))


def _finite_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_json(item) for item in value]
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return "nan"
        if number in (float("inf"), float("-inf")):
            return "inf" if number > 0 else "-inf"
        return number
    if isinstance(value, np.ndarray):
        return _finite_json(value.tolist())
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return repr(value)


class _Run:
    """The main thread's half of a run: which values are known, which row comes next."""

    def __init__(self, about: Mapping[str, Any], level: str) -> None:
        self.about = dict(about)
        self.level = level
        self.columns = {}  # type: Dict[Key, _Column]
        self.aliases = []  # type: List[TensorSpec]
        self.counts = {"state": 0, "observed": 0}
        self.fits = []  # type: List[Dict[str, Any]]
        self.events = []  # type: List[Dict[str, Any]]
        self.steps = 0
        self.status = "recording"
        self.started = time.time()
        self.attributes_changed = True

    def declare(self, spec: TensorSpec) -> Optional[_Column]:
        """Adds a line to the table of tensors; None where it is there already or is an alias."""
        self.attributes_changed = True
        if spec.same_as is not None:
            self.aliases.append(spec)
            return None
        table = "state" if spec.role in STATE_ROLES else "observed"
        # Scalars cost nothing and carry the run's story: they are kept at every level.
        keep = self.level == "full" or spec.shape == ()
        column = _Column(spec, table, number=self.counts[table], keep=keep)
        self.counts[table] += 1
        self.columns[spec.role, spec.name] = column
        return column

    def attributes(self) -> Dict[str, Any]:
        tensors = [
            self._line(column.spec, column.table, column.number, column.path)
            for column in self.columns.values()
        ]
        for spec in self.aliases:
            target = self.columns.get((str(spec.same_as), spec.name))
            path = target.path if target else None
            tensors.append(self._line(spec, "observed", None, path))
        result = dict(self.about)
        result.update(
            status=self.status,
            level=self.level,
            fits=self.fits,
            tensors=tensors,
            events=list(self.events),
            started=self.started,
        )
        return dict(_finite_json(result))

    @staticmethod
    def _line(
        spec: TensorSpec, table: str, number: Optional[int], path: Optional[str]
    ) -> Dict[str, Any]:
        return {
            "name": spec.name,
            "role": spec.role,
            "table": table,
            "column": number,
            "layer": spec.layer,
            "order": spec.order,
            "dtype": spec.dtype,
            "shape": None if spec.ragged else list(spec.shape or ()),
            "layout": spec.layout,
            "path": path,
            "trainable": spec.trainable,
            "same_as": spec.same_as,
            "framework_name": spec.framework_name,
        }


class Recorder:
    """Writes one trace: runs, and the steps of each.

    Args:
        path: where the trace is to be written.
        level: ``"full"`` keeps every element, ``"digest"`` only digests (and scalars), ``"auto"``
            chooses full where one step is small enough and says so where it is not.
        overwrite: replace a trace that is there already.
        compression: None, ``"lz4"`` or ``"zstd"`` for values.

    Raises:
        TraceExistsError: something stands at ``path``.
        ValueError: another level or compression.
    """

    def __init__(
        self,
        path: Union[str, "os.PathLike[str]"],
        *,
        level: str = "auto",
        overwrite: bool = False,
        compression: Optional[str] = None,
    ) -> None:
        if level not in LEVELS:
            raise ValueError("level must be one of {}, not {!r}".format(", ".join(LEVELS), level))
        compressor(compression)
        self.path = os.fspath(path)
        check_target(self.path, overwrite=overwrite)
        self._overwrite = overwrite
        self._level = level
        self._compression = compression
        self._run = None  # type: Optional[_Run]
        self._writer = None  # type: Optional[_Writer]
        self._expected = UNKNOWN_STEPS
        self._pid = os.getpid()

    @property
    def failed(self) -> bool:
        """Whether recording has been given up; training goes on."""
        return self._writer is not None and self._writer.failure is not None

    @property
    def steps(self) -> int:
        """How many steps of the current run were recorded."""
        return self._run.steps if self._run else 0

    def begin_run(
        self,
        about: Mapping[str, Any],
        tensors: Sequence[TensorSpec],
        *,
        bytes_per_step: int = 0,
        expected_steps: Optional[int] = None,
    ) -> None:
        """Starts a run.

        Args:
            about: the run's attributes, see docs/trace-format.md.
            tensors: the tensors known so far; `declare` adds others.
            bytes_per_step: the size of one step's values, from which level ``auto`` chooses.
            expected_steps: how many steps will come, where known: chunks are made no longer than
                that.
        """
        self.end_run("complete")
        level = self._level
        if level == "auto":
            level = "full" if bytes_per_step <= AUTO_FULL_BYTES else "digest"
        self._run = _Run(about, level)
        self._expected = max(1, expected_steps or 0) + 1 if expected_steps else UNKNOWN_STEPS
        if self._writer is None:
            self._writer = _Writer(self.path, self._compression, overwrite=self._overwrite)
            _at_exit(self.close, "interrupted")
        self._writer.put(("run", self._run.attributes()), 0)
        if level == "digest" and self._level == "auto":
            self.event(
                "level",
                f"a step is about {bytes_per_step >> 20} MiB, so only digests are kept; "
                "level='full' keeps every element",
                say=True,
            )
        for spec in tensors:
            self.declare(spec)

    def declare(self, spec: TensorSpec) -> None:
        """Adds a tensor to the current run."""
        if self._run is None or self._writer is None:
            return
        column = self._run.declare(spec)
        if column is not None and column.path is not None:
            dtype = np.dtype(_storage_dtype(spec.dtype))
            self._writer.put(
                ("values", column.path, spec.layout, spec.shape, dtype, self._expected), 0
            )

    def declared(self, role: str, name: str) -> bool:
        """Whether the current run has such a tensor."""
        return self._run is not None and (
            (role, name) in self._run.columns
            or any((spec.role, spec.name) == (role, name) for spec in self._run.aliases)
        )

    def begin_fit(self, about: Mapping[str, Any]) -> None:
        """Notes that a ``fit`` call starts; the steps that follow belong to it."""
        if self._run is not None:
            fit = dict(about)
            fit["first_step"] = self._run.steps
            self._run.fits.append(fit)
            self._run.attributes_changed = True

    def event(self, kind: str, message: str, *, say: bool = False) -> None:
        """Writes something out of the ordinary into the trace, and with ``say`` to stderr."""
        if self._run is not None:
            self._run.events.append({"step": self._run.steps, "kind": kind, "message": message})
            self._run.attributes_changed = True
        if say:
            tell(message)

    def changed(self, state: Mapping[Key, np.ndarray]) -> Dict[Key, np.ndarray]:
        """Compares the state with what was recorded last, before a step may overwrite it.

        Args:
            state: tensors of the state; only read during this call.

        Returns:
            Copies of those whose value is not the recorded one; of all of them while nothing was
            recorded.
        """
        run = self._run
        found = {}  # type: Dict[Key, np.ndarray]
        for key, value in state.items():
            column = run.columns.get(key) if run is not None and run.steps else None
            if column is None or digest_of(np.asarray(value)) != column.last:
                found[key] = np.array(value)
        return found

    def record_step(
        self,
        *,
        before: Mapping[Key, np.ndarray],
        observed: Mapping[Key, Value],
        after: Mapping[Key, np.ndarray],
        epoch: int = 0,
        batch: int = 0,
    ) -> None:
        """Records one step. Tensors must have been declared; all other keys are ignored.

        Args:
            before: the state before the step. Must not change afterwards; from the second step on
                only what `changed` found.
            observed: what the step consumed and produced. Must not change afterwards.
            after: the state after the step. Must not change afterwards.
            epoch: the epoch of the fit in which the step stands, from 0.
            batch: where in that epoch it stands, from 0.
        """
        run, writer = self._run, self._writer
        if run is None or writer is None or writer.failure is not None:
            return
        values = []  # type: List[Tuple[str, np.ndarray, Optional[np.ndarray]]]
        rows = []  # type: List[Tuple[str, np.ndarray, np.ndarray]]
        external = []  # type: List[Tuple[int, int, int, Digest]]
        if run.steps == 0:
            rows.append(self._row("state", before, values))
        else:
            self._notice_external(before, values, external)
        rows.append(self._row("observed", observed, values))
        rows.append(self._row("state", after, values))
        run.steps += 1
        attributes = None
        if run.attributes_changed:
            attributes = run.attributes()
            run.attributes_changed = False
        position = (max(0, len(run.fits) - 1), epoch, batch, time.time() - run.started)
        size = sum(value.nbytes for _, value, _ in values)
        writer.put(("step", values, rows, external, position, run.steps, attributes), size)

    def _row(
        self,
        table: str,
        given: Mapping[Key, Value],
        values: List[Tuple[str, np.ndarray, Optional[np.ndarray]]],
    ) -> Tuple[str, np.ndarray, np.ndarray]:
        assert self._run is not None
        count = self._run.counts[table]
        versions = np.full(count, -1, np.int32)
        digests = np.zeros((count, 2), np.uint64)
        for key, item in given.items():
            column = self._run.columns.get(key)
            if column is None or column.table != table:
                continue
            value, sparse_rows = _parts(item)
            digest = _digest(value, sparse_rows)
            version, new = column.version_of(digest, value.shape)
            if new:
                assert column.path is not None
                values.append((column.path, _storable(value), sparse_rows))
            column.last = digest
            versions[column.number] = version
            digests[column.number] = digest
        return table, versions, digests

    def _notice_external(
        self,
        before: Mapping[Key, np.ndarray],
        values: List[Tuple[str, np.ndarray, Optional[np.ndarray]]],
        external: List[Tuple[int, int, int, Digest]],
    ) -> None:
        assert self._run is not None
        for key, value in before.items():
            column = self._run.columns.get(key)
            if column is None or column.table != "state":
                continue
            digest = digest_of(np.asarray(value))
            if digest == column.last:
                continue
            version, new = column.version_of(digest, np.shape(value))
            if new:
                assert column.path is not None
                values.append((column.path, _storable(value), None))
            column.last = digest
            external.append((self._run.steps, column.number, version, digest))

    def end_run(self, status: str) -> None:
        """Ends the current run with ``complete``, ``interrupted`` or ``failed`` and flushes it."""
        if self._run is None or self._writer is None:
            return
        self._run.status = status
        self._writer.put(("end", self._run.attributes()), 0)
        self._run = None

    def flush(self) -> None:
        """Waits until everything recorded so far is on disk."""
        if self._writer is not None and os.getpid() == self._pid:
            attributes = self._run.attributes() if self._run else None
            self._writer.put(("flush", attributes), 0)
            self._writer.wait()

    def pause(self, status: str) -> None:
        """Flushes and marks the run with ``status`` without ending it.

        A later fit may continue it.
        """
        if self._run is not None:
            self._run.status = status
            self.flush()

    def resume(self) -> None:
        """Marks the current run as being recorded again."""
        if self._run is not None:
            self._run.status = "recording"
            self._run.attributes_changed = True

    def close(self, status: str = "complete") -> None:
        """Ends the run and waits for the writer."""
        if os.getpid() != self._pid:  # a forked worker must not touch its parent's trace
            return
        if self._run is not None and self._run.status != "recording":
            self._run = None  # `pause` has brought everything to disk
        self.end_run(status)
        if self._writer is not None:
            self._writer.stop()
            self._writer = None


def _at_exit(action: Callable[..., None], *args: Any) -> None:
    """Calls an action when the process ends, while zarr can still write.

    zarr 3 works through thread pools, and Python shuts those down before it runs what `atexit`
    holds.
    """
    register = getattr(threading, "_register_atexit", None) or atexit.register
    register(action, *args)


def _plain_numpy(dtype: np.dtype) -> bool:
    """Whether every numpy knows a dtype, also one without ml_dtypes."""
    return dtype.kind in "biufc" and dtype.isbuiltin == 1


def recordable(value: np.ndarray) -> bool:
    """Whether an array holds numbers; texts and objects do not fit into a trace."""
    return value.dtype.kind in "biufc" or (value.dtype.kind == "V" and value.dtype.names is None)


def _storage_dtype(name: str) -> str:
    try:
        dtype = np.dtype(name)
    except TypeError:
        return {"bfloat16": "u2"}.get(name, "u1")
    return name if _plain_numpy(dtype) else f"u{dtype.itemsize}"


class _Writer:
    """The background thread that owns the store."""

    def __init__(self, path: str, compression: Optional[str], *, overwrite: bool) -> None:
        self.failure = None  # type: Optional[str]
        self._path = path
        self._compression = compression
        self._overwrite = overwrite
        self._queue = queue.Queue()  # type: queue.Queue[Any]
        self._room = threading.Condition()
        self._bytes = 0
        self._thread = threading.Thread(target=self._work, name="tracediff-writer", daemon=True)
        self._thread.start()

    def put(self, item: Tuple[Any, ...], size: int) -> None:
        with self._room:
            while self._bytes and self._bytes + size > QUEUE_BYTES:
                self._room.wait()
            self._bytes += size
        self._queue.put((item, size))

    def wait(self) -> None:
        self._queue.join()

    def stop(self) -> None:
        self._queue.put((None, 0))
        self._thread.join()

    def _work(self) -> None:
        state = _WriterState(self._path, self._compression, overwrite=self._overwrite)
        while True:
            item, size = self._queue.get()
            try:
                if item is None:
                    return
                if self.failure is None:
                    state.handle(item)
            except Exception as error:  # training must go on whatever the disk does
                self.failure = f"{type(error).__name__}: {error}"
                state.give_up(self.failure)
            finally:
                with self._room:
                    self._bytes -= size
                    self._room.notify_all()
                self._queue.task_done()


class _WriterState:
    """What the writer thread knows; used by that thread only."""

    def __init__(self, path: str, compression: Optional[str], *, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._path = path
        self._compression = compression
        self._store = None  # type: Optional[TraceStore]
        self._run = None  # type: Optional[RunGroup]
        self._attributes = {}  # type: Dict[str, Any]
        self._steps = 0
        self._flushed = 0
        self._flush_at = 0.0

    def handle(self, item: Tuple[Any, ...]) -> None:
        getattr(self, "_on_" + item[0])(*item[1:])

    def _on_run(self, attributes: Dict[str, Any]) -> None:
        if self._store is None:
            writer = f"tracediff-hooks {__version__}"
            self._store = TraceStore(
                self._path, writer=writer, compression=self._compression, overwrite=self._overwrite
            )
        self._attributes = attributes
        self._run = self._store.create_run(attributes)
        self._steps = self._flushed = 0
        self._flush_at = time.monotonic() + FLUSH_SECONDS

    def _on_values(self, path: str, layout: str, shape: Any, dtype: Any, expected: int) -> None:
        assert self._run is not None
        self._run.create_values(path, layout, shape, dtype, expected)

    def _on_step(
        self,
        values: Any,
        rows: Any,
        external: Any,
        position: Any,
        steps: int,
        attributes: Optional[Dict[str, Any]],
    ) -> None:
        assert self._run is not None
        for path, value, sparse_rows in values:
            self._run.append_value(path, value, sparse_rows)
        for table, versions, digests in rows:
            self._run.append_row(table, versions, digests)
        for change in external:
            self._run.append_external(*change)
        self._run.append_step(*position)
        self._steps = steps
        if attributes is not None:
            self._attributes = attributes
            self._run.write_attributes(attributes)
        if time.monotonic() >= self._flush_at:
            self._flush()

    def _on_flush(self, attributes: Optional[Dict[str, Any]]) -> None:
        if self._run is not None:
            self._flush()
            self._run.trim()
            if attributes is not None and attributes != self._attributes:
                self._attributes = attributes
                self._run.write_attributes(attributes)

    def _on_end(self, attributes: Dict[str, Any]) -> None:
        if self._run is not None:
            self._flush()
            self._run.trim()
            self._run.write_attributes(attributes)
            self._run = None

    def _flush(self) -> None:
        assert self._run is not None
        self._run.flush(self._steps)
        self._flushed = self._steps
        self._flush_at = time.monotonic() + FLUSH_SECONDS

    def give_up(self, failure: str) -> None:
        """Says once that recording has ended.

        On stderr and, if it can still be written, in the trace.
        """
        kept = "before anything was kept"
        if self._flushed:
            kept = f"after step {self._flushed - 1}, up to which the trace is readable"
        tell(
            f"recording to {self._path} stopped {kept} ({failure}); training goes on. "
            "Check the disk's space and permissions."
        )
        if self._run is None:
            return
        events = self._attributes.get("events", [])
        events.append({"step": self._flushed, "kind": "failure", "message": failure})
        self._attributes["events"] = events
        self._attributes["status"] = "failed"
        with contextlib.suppress(Exception):  # the disk that failed may refuse this too
            self._run.write_attributes(self._attributes)
