"""Takes what a hook saw at each step and hands it to the thread that makes a trace of it.

All work on values is the writer's: training waits only where that is too far behind. Nothing here
knows a framework, and `record_step` never raises.
"""

import atexit
import os
import threading
import time
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Set, Union

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks.background import Writer
from tracediff_hooks.budget import Budget, shown
from tracediff_hooks.levels import LEVELS, Level, Levels, Steps
from tracediff_hooks.memory import keep_freed_memory
from tracediff_hooks.run import Run
from tracediff_hooks.store import compressor
from tracediff_hooks.target import check_target
from tracediff_hooks.tensors import Key, SparseRows, TensorSpec, Value, same_value, size_of
from tracediff_hooks.values import chunk_bytes_within

LEAST_BYTES = 2 << 20
"""What a step counts for at least, however small its values: so few steps wait for the writer that
a killed run loses hardly more than what was not flushed."""
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
        ValueError: an option that does not exist, or a URL that nothing installed can write to.
    """

    def __init__(
        self,
        path: Union[str, "os.PathLike[str]"],
        *,
        level: Level = "auto",
        steps: Steps = None,
        tensors: Union[str, Sequence[str], None] = None,
        budget: Union[float, str, None] = None,
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
        self._declared: Set[Key] = set()
        self._steps = 0
        self._after: Dict[Key, np.ndarray] = {}
        self._announced = False
        self._pid = os.getpid()

    @property
    def failed(self) -> bool:
        """Whether recording has been given up; training goes on.

        So it has in a process that was forked while this one recorded: the trace, and the thread
        that writes it, are this one's.
        """
        return self._writer is not None and (
            self._writer.failure is not None or os.getpid() != self._pid
        )

    @property
    def steps(self) -> int:
        """How many steps of the current run were recorded."""
        return self._steps if self._run else 0

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
        if self._writer is None:
            self._budget.settle()
            keep_freed_memory()
            self._writer = Writer(
                self.path, self._compression, overwrite=self._overwrite, budget=self._budget
            )
            self._pid = os.getpid()
            _at_exit(self.close, "interrupted")
        self._writer.wait()  # the run before this one goes by the same levels
        self._levels.settle(bytes_per_step)
        self._run = run = Run(about, self._levels)
        run.about["budget"] = self._budget.limit
        run.expected = max(1, expected_steps) + 1 if expected_steps else UNKNOWN_STEPS
        run.chunk_bytes = chunk_bytes_within(self._budget.limit, len(tensors))
        self._declared = set()
        self._steps = 0
        self._after = {}
        self._writer.put(("run", run))
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
        """Says once what the trace may take on disk, or that it is another process's."""
        if self._writer is not None and self._writer.failure is None and self.failed:
            tell(f"nothing is recorded: {self.path} is the trace of the process that forked this")
            return
        if self._announced:
            return
        self._announced = True
        self._budget.settle()
        limit, free = self._budget.limit, self._budget.free()
        message = f"recording to {self.path}, at most {shown(limit)} of disk"
        if free is not None and free < limit:
            message += f", of which only {shown(free)} are free"
        tell(message + "; where they are used up, less is kept and training goes on")

    def declare(self, spec: TensorSpec) -> None:
        """Adds a tensor to the current run."""
        if self._run is not None and self._writer is not None:
            self._declared.add((spec.role, spec.name))
            self._writer.put(("declare", spec))

    def declared(self, role: str, name: str) -> bool:
        """Whether the current run has such a tensor."""
        return self._run is not None and (role, name) in self._declared

    def begin_fit(self, about: Mapping[str, Any]) -> None:
        """Notes that a ``fit`` call starts; the steps that follow belong to it."""
        if self._run is not None and self._writer is not None:
            self._writer.put(("fit", {**about, "first_step": self._steps}))

    def event(self, kind: str, message: str, *, say: bool = False) -> None:
        """Writes something out of the ordinary into the trace, and with ``say`` to stderr."""
        if self._run is not None and self._writer is not None:
            self._writer.put(("event", self._steps, kind, message))
        if say:
            tell(message)

    def changed(self, state: Mapping[Key, np.ndarray]) -> Dict[Key, np.ndarray]:
        """Compares the state with what was recorded last, before a step may overwrite it.

        What was recorded is let go of: memory that the framework changes in place while nobody
        else holds it would be copied in the step otherwise.

        Args:
            state: tensors of the state; only read during this call.

        Returns:
            Copies of those whose value is not the recorded one; of all of them while nothing was
            recorded.
        """
        known, self._after = self._after, {}
        return {
            key: np.array(value)
            for key, value in state.items()
            if key not in known or not same_value(known[key], value)
        }

    def record_step(
        self,
        *,
        before: Mapping[Key, np.ndarray],
        observed: Mapping[Key, Value],
        after: Mapping[Key, np.ndarray],
        epoch: int = 0,
        batch: int = 0,
        may_skip: Optional[str] = None,
    ) -> None:
        """Records one step. Tensors must have been declared; all other keys are ignored.

        The arrays are read later: nobody may write to their memory any more. A framework that
        writes to new memory while somebody holds the old one keeps to that.

        Args:
            before: the state before the step; from the second step on only what `changed` found.
            observed: what the step consumed and produced.
            after: the state after the step.
            epoch: the epoch of the fit in which the step stands, from 0.
            batch: where in that epoch it stands, from 0.
            may_skip: why the step may leave the weights as they are, where there is a reason; if it
                does, that is noted as an event.
        """
        run, writer = self._run, self._writer
        if run is None or writer is None or self.failed or run.ceiling == "none":
            return
        self._after = dict(after)
        size = sum(size_of(item) for part in (before, observed, after) for item in part.values())
        moment = (epoch, batch, time.time() - run.started)
        size = max(size, LEAST_BYTES)
        writer.reserve(size)
        values = dict(before), dict(observed), dict(after)
        writer.put(("step", *values, moment, may_skip), size=size)
        if not self._steps:
            self._check_patterns()
        self._steps += 1

    def _check_patterns(self) -> None:
        """Says which patterns of tensors choose nothing, once the first step has shown all."""
        for pattern in self._levels.unmatched(name for _, name in self._declared):
            self.event(
                "not-recorded",
                f"tensors={pattern!r} matches the name of no tensor, so nothing is kept in full "
                "for it; names are such as 'dense/kernel', see docs/trace-format.md",
                say=True,
            )

    def end_run(self, status: str) -> None:
        """Ends the current run with ``complete``, ``interrupted`` or ``failed`` and flushes it."""
        if self._run is None or self._writer is None:
            return
        self._writer.put(("end", status))
        self._run = None
        self._after = {}

    def flush(self) -> None:
        """Waits until everything recorded so far is on disk."""
        if self._writer is not None and os.getpid() == self._pid:
            self._writer.put(("flush",))
            self._writer.wait()

    def pause(self, status: str) -> None:
        """Flushes and marks the run with ``status`` without ending it.

        A later fit may continue it.
        """
        self._after = {}
        if self._run is not None and self._writer is not None:
            self._writer.put(("status", status))
            self.flush()

    def resume(self) -> None:
        """Marks the current run as being recorded again."""
        if self._run is not None and self._writer is not None:
            self._writer.put(("status", "recording"))

    def close(self, status: str = "complete") -> None:
        """Ends the run and waits for the writer."""
        if os.getpid() != self._pid:  # a forked worker must not touch its parent's trace
            return
        if self._writer is not None:
            self._writer.wait()
            if self._run is not None and self._run.status != "recording":
                self._run = None  # `pause` has brought everything to disk
            self.end_run(status)
            self._writer.stop()
            self._writer = None


def _at_exit(action: Callable[..., None], *args: Any) -> None:
    """Calls an action when the process ends, while zarr can still write.

    zarr 3 works through thread pools, and Python shuts those down before it runs what `atexit`
    holds.
    """
    register = getattr(threading, "_register_atexit", None) or atexit.register
    register(action, *args)
