"""Turns what a hook saw at each step into a trace: stores what is new, points to what is known.

Works out versions and digests in the calling thread and hands all writing to one background thread.
Nothing here knows a framework, and `record_step` never raises.
"""

import atexit
import os
import threading
import time
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks.budget import Budget, shown
from tracediff_hooks.digest import digest_of
from tracediff_hooks.levels import LEVELS, Level, Levels, Steps
from tracediff_hooks.placing import Step, cost_of_row
from tracediff_hooks.run import Run
from tracediff_hooks.store import check_target, compressor
from tracediff_hooks.tensors import Key, SparseRows, TensorSpec, Value, storage_dtype
from tracediff_hooks.values import chunk_bytes_within
from tracediff_hooks.writer import Writer

UNKNOWN_STEPS = 64
"""Steps in a chunk of a small tensor where nobody knows how many will come."""

__all__ = ["LEVELS", "Key", "Recorder", "SparseRows", "TensorSpec", "Value"]


class Recorder:
    """Writes one trace: runs, and the steps of each.

    Args:
        path: where the trace is to be written.
        level: ``"full"`` keeps every element, ``"sketch"`` a random projection of each tensor,
            ``"digest"`` only digests and statistics (and scalars), ``"auto"`` chooses full where
            one step is small enough, else sketch, and says so. Or a dictionary with a level for
            each role.
        steps: at which steps elements and sketches are kept, see `levels.schedule`.
        tensors: patterns of the names of which elements are kept; of others a sketch is.
        budget: what the trace may take on disk, in bytes or as ``"2GB"``. Where it is used up the
            level is lowered.
        overwrite: replace a trace that is there already.
        compression: None, ``"lz4"`` or ``"zstd"`` for values.

    Raises:
        TraceExistsError: something stands at ``path``.
        ValueError: an option that does not exist.
    """

    def __init__(
        self,
        path: Union[str, "os.PathLike[str]"],
        *,
        level: Level = "auto",
        steps: Steps = None,
        tensors: Union[str, Sequence[str], None] = None,
        budget: Union[int, str, None] = None,
        overwrite: bool = False,
        compression: Optional[str] = None,
    ) -> None:
        self._levels = Levels(level, steps=steps, tensors=tensors)
        compressor(compression)
        self.path = os.fspath(path)
        self._budget = Budget(budget, self.path)
        check_target(self.path, overwrite=overwrite)
        self._overwrite = overwrite
        self._compression = compression
        self._run: Optional[Run] = None
        self._writer: Optional[Writer] = None
        self._expected = UNKNOWN_STEPS
        self._announced = False
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
        self._levels.settle(bytes_per_step)
        self._run = run = Run(about, self._levels)
        self._expected = max(1, expected_steps or 0) + 1 if expected_steps else UNKNOWN_STEPS
        if self._writer is None:
            self._budget.settle()
            self._writer = Writer(self.path, self._compression, overwrite=self._overwrite)
            _at_exit(self.close, "interrupted")
        run.about["budget"] = self._budget.limit
        run.expected = self._expected
        run.chunk_bytes = chunk_bytes_within(self._budget.limit, len(tensors))
        self._writer.put(("run", run.attributes(), run.expected, run.chunk_bytes))
        if self._levels.lowered:
            self.event(
                "level",
                f"a step is about {bytes_per_step >> 20} MiB, so only sketches are kept; "
                "level='full' keeps every element",
                say=True,
            )
        for spec in tensors:
            self.declare(spec)

    def announce(self) -> None:
        """Says once what the trace may take on disk, if somebody set a limit."""
        if self._announced or not self._budget.given:
            return
        self._announced = True
        limit, free = self._budget.limit, self._budget.free()
        message = f"recording to {self.path}, at most {shown(limit)} of disk"
        if free is not None and free < limit:
            message += f", of which only {shown(free)} are free"
        tell(message + "; where they are used up, less is kept and training goes on")

    def declare(self, spec: TensorSpec) -> None:
        """Adds a tensor to the current run."""
        if self._run is None or self._writer is None:
            return
        column = self._run.declare(spec)
        if column is not None and column.path is not None:
            dtype = np.dtype(storage_dtype(spec.dtype))
            self._writer.put(("values", column.path, spec.layout, spec.shape, dtype))

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
        found: Dict[Key, np.ndarray] = {}
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

        What the arrays hold is copied where it is kept: they need not outlive the call.

        Args:
            before: the state before the step; from the second step on only what `changed` found.
            observed: what the step consumed and produced.
            after: the state after the step.
            epoch: the epoch of the fit in which the step stands, from 0.
            batch: where in that epoch it stands, from 0.
        """
        run, writer = self._run, self._writer
        if run is None or writer is None or writer.failure is not None or run.ceiling == "none":
            return
        step = Step(run)
        if run.steps == 0:
            step.take("state", before)
        else:
            step.take_external(before)
        step.take("observed", observed)
        step.take("state", after)
        charge = self._fit_into_budget(run, writer, step)
        if run.ceiling == "none":
            return
        placed = step.place()
        for kind, message in placed.events:
            self.event(kind, message, say=True)
        writer.reserve(placed.nbytes)
        work = placed.copied(writer.pool)
        run.steps += 1
        attributes = None
        if run.attributes_changed:
            attributes = run.attributes()
            run.attributes_changed = False
        position = (max(0, len(run.fits) - 1), epoch, batch, time.time() - run.started)
        writer.put(
            ("step", *work, position, run.steps, attributes), size=placed.nbytes, charge=charge
        )

    def _fit_into_budget(self, run: Run, writer: Writer, step: Step) -> int:
        """Lowers the level of the run until a step fits; returns what it takes on disk."""
        used = writer.used
        while True:
            level, cost = step.cost()
            cost += cost_of_row(run)
            if self._budget.allows(level, used + cost):
                return cost
            lower = {"full": "sketch", "sketch": "digest", "digest": "none"}[level]
            run.ceiling = lower
            what = {
                "sketch": "from this step on only sketches of new values are kept",
                "digest": "from this step on only digests and statistics are kept",
                "none": "no further step is recorded",
            }[lower]
            self.event(
                "budget",
                f"step {run.steps}: {shown(used)} of the {shown(self._budget.limit)} of disk that "
                f"{self.path} may take are used, so {what}; training goes on",
                say=True,
            )
            if lower == "none":
                run.status = "failed"
                writer.put(("flush", run.attributes()))
                return 0

    def end_run(self, status: str) -> None:
        """Ends the current run with ``complete``, ``interrupted`` or ``failed`` and flushes it."""
        if self._run is None or self._writer is None:
            return
        if self._run.ceiling != "none":
            self._run.status = status
        self._writer.put(("end", self._run.attributes()))
        self._run = None

    def flush(self) -> None:
        """Waits until everything recorded so far is on disk."""
        if self._writer is not None and os.getpid() == self._pid:
            attributes = self._run.attributes() if self._run else None
            self._writer.put(("flush", attributes))
            self._writer.wait()

    def pause(self, status: str) -> None:
        """Flushes and marks the run with ``status`` without ending it.

        A later fit may continue it.
        """
        if self._run is not None:
            if self._run.ceiling != "none":
                self._run.status = status
            self.flush()

    def resume(self) -> None:
        """Marks the current run as being recorded again."""
        if self._run is not None and self._run.ceiling != "none":
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
