"""The background thread that writes a trace, and what happens when it cannot."""

import contextlib
import queue
import threading
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks._version import __version__
from tracediff_hooks.buffers import BufferPool
from tracediff_hooks.digest import row_digests
from tracediff_hooks.moments import statistics_of
from tracediff_hooks.run import Summary
from tracediff_hooks.sketch import sketch
from tracediff_hooks.store import RunGroup, TraceStore

FLUSH_SECONDS = 5.0
"""A run killed at any moment loses at most about this much (and what the queue holds)."""
QUEUE_BYTES = 256 << 20
"""How far the writer may fall behind before training waits for it. What the recorder holds is
bounded by this, or by one step's values where they are more."""


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


class Writer:
    """The background thread that owns the store."""

    def __init__(self, path: str, compression: Optional[str], *, overwrite: bool) -> None:
        self.failure: Optional[str] = None
        self.pool = BufferPool(limit=QUEUE_BYTES)
        self._state = WriterState(path, compression, self.pool, overwrite=overwrite)
        self._queue: queue.Queue[Any] = queue.Queue()
        self._room = threading.Condition()
        self._bytes = 0
        self._charged = 0
        self._thread = threading.Thread(target=self._work, name="tracediff-writer", daemon=True)
        self._thread.start()

    @property
    def used(self) -> int:
        """What the trace takes on disk, at most, when all that was handed over is done; bytes."""
        with self._room:
            return self._state.used + self._charged

    def reserve(self, size: int) -> None:
        """Waits while the writer is too far behind for another ``size`` bytes."""
        with self._room:
            while self._bytes and self._bytes + size > QUEUE_BYTES:
                self._room.wait()
            self._bytes += size

    def put(self, item: Tuple[Any, ...], *, size: int = 0, charge: int = 0) -> None:
        """Hands over work.

        Args:
            item: names what is to be done, and its arguments.
            size: the bytes that `reserve` was called for.
            charge: the bytes that it will take on disk.
        """
        with self._room:
            self._charged += charge
        self._queue.put((item, size, charge))

    def wait(self) -> None:
        """Waits until all that was handed over has been done."""
        self._queue.join()

    def stop(self) -> None:
        """Lets the writer finish and ends its thread."""
        self._queue.put((None, 0, 0))
        self._thread.join()

    def _work(self) -> None:
        state = self._state
        while True:
            try:
                item, size, charge = self._queue.get(timeout=state.idle_seconds)
            except queue.Empty:
                self._attempt(state.flush_late)
                continue
            try:
                if item is None:
                    state.close()
                    return
                self._attempt(state.handle, item)
            finally:
                with self._room:
                    self._bytes -= size
                    self._charged -= charge
                    self._room.notify_all()
                self._queue.task_done()

    def _attempt(self, action: Any, *args: Any) -> None:
        if self.failure is not None:
            return
        try:
            action(*args)
        except Exception as error:  # training must go on whatever the disk does
            cause = self._state.cause_of(error)
            self.failure = f"{type(cause).__name__}: {cause}"
            self._state.give_up(self.failure, disk=isinstance(cause, OSError))


class WriterState:
    """What the writer thread knows; used by that thread only."""

    def __init__(
        self, path: str, compression: Optional[str], pool: BufferPool, *, overwrite: bool
    ) -> None:
        self._overwrite = overwrite
        self._path = path
        self._compression = compression
        self._pool = pool
        self._store: Optional[TraceStore] = None
        self._run: Optional[RunGroup] = None
        self._attributes: Dict[str, Any] = {}
        self._steps = 0
        self._flushed = 0
        self._flush_at = 0.0

    @property
    def used(self) -> int:
        """What the trace takes on disk, in bytes."""
        return self._store.files.used if self._store is not None else 0

    @property
    def idle_seconds(self) -> Optional[float]:
        """How long to wait for work before `flush_late` is due; None for ever."""
        if self._run is None or self._steps == self._flushed:
            return None
        return max(0.0, self._flush_at - time.monotonic())

    def flush_late(self) -> None:
        """Flushes what has waited for long, though no further step has come."""
        if self._run is not None and self._steps != self._flushed:
            self._flush()

    def close(self) -> None:
        """Closes the files; nothing more will come."""
        if self._store is not None:
            self._store.close()

    def handle(self, item: Tuple[Any, ...]) -> None:
        """Does one piece of work: its first part names the method, the others are arguments."""
        getattr(self, "_on_" + item[0])(*item[1:])

    def _on_run(self, attributes: Dict[str, Any], expected: int, chunk_bytes: int) -> None:
        if self._store is None:
            writer = f"tracediff-hooks {__version__}"
            self._store = TraceStore(
                self._path, writer=writer, compression=self._compression, overwrite=self._overwrite
            )
        self._attributes = attributes
        self._run = self._store.create_run(attributes, expected=expected, chunk_bytes=chunk_bytes)
        self._steps = self._flushed = 0
        self._flush_at = time.monotonic() + FLUSH_SECONDS

    def _on_values(self, path: str, layout: str, shape: Any, dtype: Any) -> None:
        assert self._run is not None
        self._run.create_values(path, layout, shape, dtype)

    def _on_step(
        self,
        kept: List[Kept],
        summarized: List[Summarized],
        rows: List[Row],
        external: List[Tuple[int, int, int, Tuple[int, int], Optional[Summary]]],
        position: Any,
        steps: int,
        attributes: Optional[Dict[str, Any]],
    ) -> None:
        run = self._run
        assert run is not None
        for value in kept:
            run.append_value(value.path, value.value, value.value.shape, value.rows)
            self._pool.give_back(value.value)
        for job in summarized:
            self._summarize(run, job)
            self._pool.give_back(job.value)
        for row in rows:
            run.append_row(*row)
        for change in external:
            run.append_external(*change)
        run.append_step(*position)
        self._steps = steps
        if attributes is not None:
            self._attributes = attributes
            run.write_attributes(attributes)
        if time.monotonic() >= self._flush_at:
            self._flush()

    @staticmethod
    def _summarize(run: RunGroup, job: Summarized) -> None:
        if job.summary.statistics is None and job.value.dtype.kind != "c":
            job.summary.statistics = statistics_of(job.value)
        if job.sketch_path is not None:
            numbers = sketch(job.value, job.rows, job.size)
            job.summary.sketch = run.append_sketch(job.sketch_path, numbers)
        if job.rows_path is not None:
            job.summary.rows = run.append_rows(job.rows_path, row_digests(job.value))

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

    def cause_of(self, error: Exception) -> Exception:
        """What is behind an error: that the store is gone, if it is, or the error itself."""
        try:
            if self._store is not None:
                self._store.files.check()
        except Exception as other:
            return other
        return error

    def give_up(self, failure: str, *, disk: bool) -> None:
        """Says once that recording has ended.

        On stderr and, if it can still be written, in the trace, with the steps that are whole.
        """
        with contextlib.suppress(Exception):  # the disk that failed may refuse this too
            self.flush_late()
        kept = "before anything was kept"
        if self._flushed:
            kept = f"after step {self._flushed - 1}, up to which the trace is readable"
        hint = " Check the disk's space and permissions." if disk else ""
        tell(f"recording to {self._path} stopped {kept} ({failure}); training goes on.{hint}")
        if self._run is None:
            return
        events = self._attributes.get("events", [])
        events.append({"step": self._flushed, "kind": "failure", "message": failure})
        self._attributes["events"] = events
        self._attributes["status"] = "failed"
        with contextlib.suppress(Exception):  # the disk that failed may refuse this too
            self._run.write_attributes(self._attributes)
