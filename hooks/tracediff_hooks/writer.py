"""The background thread that writes a trace, and what happens when it cannot."""

import contextlib
import queue
import threading
import time
from typing import Any, Dict, Optional, Tuple

from tracediff_hooks._tell import tell
from tracediff_hooks._version import __version__
from tracediff_hooks.store import RunGroup, TraceStore

FLUSH_SECONDS = 5.0
"""A run killed at any moment loses at most about this much (and what the queue holds)."""
QUEUE_BYTES = 256 << 20
"""How far the writer may fall behind before training waits for it."""


class Writer:
    """The background thread that owns the store."""

    def __init__(self, path: str, compression: Optional[str], *, overwrite: bool) -> None:
        self.failure: Optional[str] = None
        self._path = path
        self._compression = compression
        self._overwrite = overwrite
        self._queue: queue.Queue[Any] = queue.Queue()
        self._room = threading.Condition()
        self._bytes = 0
        self._thread = threading.Thread(target=self._work, name="tracediff-writer", daemon=True)
        self._thread.start()

    def put(self, item: Tuple[Any, ...], size: int) -> None:
        """Hands over work that holds ``size`` bytes; waits while the writer is too far behind."""
        with self._room:
            while self._bytes and self._bytes + size > QUEUE_BYTES:
                self._room.wait()
            self._bytes += size
        self._queue.put((item, size))

    def wait(self) -> None:
        """Waits until all that was handed over has been done."""
        self._queue.join()

    def stop(self) -> None:
        """Lets the writer finish and ends its thread."""
        self._queue.put((None, 0))
        self._thread.join()

    def _work(self) -> None:
        state = WriterState(self._path, self._compression, overwrite=self._overwrite)
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


class WriterState:
    """What the writer thread knows; used by that thread only."""

    def __init__(self, path: str, compression: Optional[str], *, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._path = path
        self._compression = compression
        self._store: Optional[TraceStore] = None
        self._run: Optional[RunGroup] = None
        self._attributes: Dict[str, Any] = {}
        self._steps = 0
        self._flushed = 0
        self._flush_at = 0.0

    def handle(self, item: Tuple[Any, ...]) -> None:
        """Does one piece of work: its first part names the method, the others are arguments."""
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
