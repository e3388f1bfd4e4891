"""The background thread that makes a trace of what it is handed.

Hashing, counting and writing let go of the interpreter lock, so that training goes on beside them.
"""

import contextlib
import queue
import threading
from typing import Any, Optional, Tuple

from tracediff_hooks.budget import Budget
from tracediff_hooks.writer import WriterState

QUEUE_BYTES = 256 << 20
"""How far the writer may fall behind before training waits for it. What the recorder holds is
bounded by this, or by one step's values where they are more."""


class Writer:
    """The background thread that owns the store."""

    def __init__(
        self, path: str, compression: Optional[str], *, overwrite: bool, budget: Budget
    ) -> None:
        self.failure: Optional[str] = None
        self._state = WriterState(path, compression, overwrite=overwrite, budget=budget)
        self._queue: queue.Queue[Any] = queue.Queue()
        self._room = threading.Condition()
        self._bytes = 0
        self._thread = threading.Thread(target=self._work, name="tracediff-writer", daemon=True)
        self._thread.start()

    def reserve(self, size: int) -> None:
        """Waits while the writer is too far behind for another ``size`` bytes."""
        with self._room:
            # Ctrl-C may have left room reserved for work that never came, which nothing gives back.
            while self._bytes + size > QUEUE_BYTES and self._queue.unfinished_tasks:
                self._room.wait()
            self._bytes += size

    def put(self, item: Tuple[Any, ...], *, size: int = 0) -> None:
        """Hands over work.

        Args:
            item: names what is to be done, and its arguments.
            size: the bytes that `reserve` was called for.
        """
        self._queue.put((item, size))

    def wait(self) -> None:
        """Waits until all that was handed over has been done."""
        self._queue.join()

    def stop(self) -> None:
        """Lets the writer finish and ends its thread."""
        self._queue.put((None, 0))
        self._thread.join()

    def _work(self) -> None:
        state = self._state
        while True:
            # After a failure nothing is ever flushed, so there is nothing to be in time for.
            timeout = None if self.failure is not None else state.idle_seconds
            try:
                item, size = self._queue.get(timeout=timeout)
            except queue.Empty:
                self._attempt(state.flush_late)
                continue
            try:
                if item is None:
                    state.close()
                    return
                self._attempt(state.handle, item)
            finally:
                item = None  # nobody waits for the next step while this one is held
                self._queue.task_done()
                with self._room:
                    self._bytes -= size
                    self._room.notify_all()

    def _attempt(self, action: Any, *args: Any) -> None:
        if self.failure is not None:
            return
        try:
            action(*args)
        except Exception as error:  # training must go on whatever the disk does
            cause = self._state.cause_of(error)
            self.failure = f"{type(cause).__name__}: {cause}"
            with contextlib.suppress(Exception):  # without its thread, whoever waits would for ever
                self._state.give_up(self.failure, cause)
