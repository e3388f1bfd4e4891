"""What is made of a trace on disk, when, and what happens when that fails."""

import contextlib
import time
from typing import Any, Dict, Optional, Tuple

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks._version import __version__
from tracediff_hooks.budget import Budget, shown
from tracediff_hooks.files import StoreReplacedError
from tracediff_hooks.placing import Step, Summarized, cost_of_row
from tracediff_hooks.run import Run
from tracediff_hooks.store import RunGroup, TraceStore
from tracediff_hooks.tensors import Key, TensorSpec, Value, storage_dtype

FLUSH_SECONDS = 5.0
"""A run killed at any moment loses at most about this much (and what the queue holds)."""


class WriterState:
    """What the writer thread knows; used by that thread only."""

    def __init__(
        self, path: str, compression: Optional[str], *, overwrite: bool, budget: Budget
    ) -> None:
        self._overwrite = overwrite
        self._path = path
        self._compression = compression
        self._budget = budget
        self._store: Optional[TraceStore] = None
        self._about: Optional[Run] = None
        self._run: Optional[RunGroup] = None
        self._no_update_said = False
        self._ending: Optional[str] = None
        self._steps = 0
        self._flushed = 0
        self._flush_at = 0.0

    @property
    def used(self) -> int:
        """What the trace takes on disk, in bytes."""
        return self._store.files.used if self._store is not None else 0

    @property
    def _waiting(self) -> int:
        """What is still to be written of steps that are recorded, in bytes."""
        return self._store.files.waiting if self._store is not None else 0

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

    def _on_run(self, about: Run) -> None:
        if self._store is None:
            writer = f"tracediff-hooks {__version__}"
            self._store = TraceStore(
                self._path, writer=writer, compression=self._compression, overwrite=self._overwrite
            )
        self._about, self._run = about, None
        self._steps = self._flushed = 0
        self._create_run()
        self._flush_at = time.monotonic() + FLUSH_SECONDS

    def _create_run(self) -> None:
        if self._run is None and self._store is not None and self._about is not None:
            about = self._about
            self._run = self._store.create_run(
                about.attributes(), expected=about.expected, chunk_bytes=about.chunk_bytes
            )

    def _on_declare(self, spec: TensorSpec) -> None:
        assert self._run is not None
        assert self._about is not None
        column = self._about.declare(spec)
        if column is not None and column.path is not None:
            dtype = np.dtype(storage_dtype(spec.dtype))
            self._run.create_values(column.path, spec.layout, spec.shape, dtype)

    def _on_fit(self, about: Dict[str, Any]) -> None:
        assert self._about is not None
        self._about.fits.append(about)
        self._about.attributes_changed = True

    def _on_event(self, step: int, kind: str, message: str) -> None:
        if self._about is not None:
            self._about.note(step, kind, message)

    def _on_status(self, status: str) -> None:
        if status == "recording" and self._store is not None:
            self._store.files.reserve()
        if self._about is None or self._about.ceiling == "none":
            return
        if status != "recording":
            # Of a process that is killed while the last steps are being written, the trace must
            # not say that they are all there.
            self._ending = status
        elif self._about.status != status:
            # For the same reason it says that there are to be more before the first of them.
            self._ending = None
            self._about.status = status
            self._write_attributes()

    def _on_step(
        self,
        before: Dict[Key, np.ndarray],
        observed: Dict[Key, Value],
        after: Dict[Key, np.ndarray],
        moment: Tuple[int, int, float],
        may_skip: Optional[str],
    ) -> None:
        run, about = self._run, self._about
        assert run is not None
        assert about is not None
        if about.ceiling == "none":
            return
        step = Step(about, before, observed, after)
        self._fit_into_budget(about, step)
        if about.ceiling == "none":
            return
        if may_skip and step.updates_nothing():
            self._note_no_update(about, may_skip)
        placed = step.place()
        for kind, message in placed.events:
            about.note(about.steps, kind, message)
            tell(message)
        placed.kept.reverse()
        while placed.kept:
            value = placed.kept.pop()
            run.append_value(value.path, value.value, value.value.shape, value.rows)
        for found in placed.summarized:
            self._append_summary(run, found)
        for row in placed.rows:
            run.append_row(*row)
        for change in placed.external:
            run.append_external(*change)
        run.append_step(max(0, len(about.fits) - 1), *moment)
        about.steps += 1
        self._steps = about.steps
        if time.monotonic() >= self._flush_at:
            self._flush()

    def _write_attributes(self) -> None:
        if self._run is not None and self._about is not None:
            self._run.write_attributes(self._about.attributes())
            self._about.attributes_changed = False

    def _note_no_update(self, about: Run, may_skip: str) -> None:
        # At each such step, unlike other events.
        about.note(about.steps, "no-update", f"the step updates no weight: {may_skip}")
        if not self._no_update_said:
            self._no_update_said = True
            tell(f"some steps update no weight: {may_skip}")

    def _fit_into_budget(self, run: Run, step: Step) -> None:
        """Lowers the level of the run until a step fits."""
        flushed = False
        while True:
            level, cost = step.cost()
            cost += cost_of_row(run)
            if self._budget.allows(level, self.used + self._waiting + cost):
                return
            if not flushed:
                flushed = True
                # It takes less when it is compressed, and how much less shows when it is written.
                self._flush()
                continue
            run.ceiling = {"full": "sketch", "sketch": "digest", "digest": "none"}[level]
            what = {
                "sketch": "from this step on only sketches of new values are kept",
                "digest": "from this step on only digests and statistics are kept",
                "none": "no further step is recorded",
            }[run.ceiling]
            message = (
                f"step {run.steps}: {shown(self.used)} of the {shown(self._budget.limit)} of disk "
                f"that {self._path} may take are used and up to {shown(cost)} more would be, so "
                f"{what}; training goes on"
            )
            run.note(run.steps, "budget", message)
            tell(message)
            if run.ceiling == "none":
                self._ending = "failed"
                self._on_flush()
                return

    @staticmethod
    def _append_summary(run: RunGroup, found: Summarized) -> None:
        if found.sketch_path is not None and found.sketch is not None:
            found.summary.sketch = run.append_sketch(found.sketch_path, found.sketch)
        if found.rows_path is not None and found.rows is not None:
            found.summary.rows = run.append_rows(found.rows_path, found.rows)

    def _on_flush(self) -> None:
        if self._run is not None and self._about is not None:
            self._flush()
            self._run.trim()
            if self._ending is not None:
                self._about.status, self._ending = self._ending, None
                self._write_attributes()
            if self._about.status != "recording" and self._store is not None:
                # The process may live on for long, and the trace be copied meanwhile.
                self._store.files.release()

    def _on_end(self, status: str) -> None:
        if self._run is not None:
            self._on_status(status)
            self._on_flush()
            self._run = self._about = self._ending = None

    def _flush(self) -> None:
        assert self._run is not None
        assert self._about is not None
        # Not at each step: where each of them adds an event, they would all be written every time.
        if self._about.attributes_changed:
            self._write_attributes()
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

    def give_up(self, failure: str, cause: Exception) -> None:
        """Says once that recording has ended.

        On stderr and, if it can still be written, in the trace, with the steps that are whole.
        """
        if self._store is not None:
            self._store.files.release()
        about, begun = self._about, self._flushed
        with contextlib.suppress(Exception):  # the disk that failed may refuse this too
            self._create_run()
            if about is not None:
                about.note(begun, "failure", failure)
                about.status = "failed"
                # First of all, for what still waits may need more than was reserved.
                self._write_attributes()
        with contextlib.suppress(Exception):
            self.flush_late()
        if about is not None and self._flushed != begun:
            about.events[-1]["step"] = self._flushed
            with contextlib.suppress(Exception):
                self._write_attributes()
        kept = " before anything was kept"
        if isinstance(cause, StoreReplacedError):
            kept = ""  # where it was, nothing of it can be read
        elif self._flushed:
            kept = f" after step {self._flushed - 1}, up to which the trace is readable"
        hint = " Check the disk's space and permissions." if isinstance(cause, OSError) else ""
        tell(f"recording to {self._path} stopped{kept} ({failure}); training goes on.{hint}")
