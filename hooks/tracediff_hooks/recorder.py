"""Turns what a hook saw at each step into a trace: stores what is new, points to what is known.

Works out versions and digests in the calling thread and hands all writing to one background thread.
Nothing here knows a framework, and `record_step` never raises.
"""

import atexit
import os
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks.digest import Digest, digest_of
from tracediff_hooks.run import Run
from tracediff_hooks.store import check_target, compressor
from tracediff_hooks.tensors import (
    Key,
    SparseRows,
    TensorSpec,
    Value,
    digest_value,
    parts,
    storable,
    storage_dtype,
)
from tracediff_hooks.writer import Writer

LEVELS = ("auto", "full", "digest")
AUTO_FULL_BYTES = 64 << 20
"""Level ``auto`` keeps every element while one step's values are at most this many bytes."""
UNKNOWN_STEPS = 64
"""Steps in a chunk of a small tensor where nobody knows how many will come."""

__all__ = ["LEVELS", "Key", "Recorder", "SparseRows", "TensorSpec", "Value"]


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
        self._run: Optional[Run] = None
        self._writer: Optional[Writer] = None
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
        self._run = Run(about, level)
        self._expected = max(1, expected_steps or 0) + 1 if expected_steps else UNKNOWN_STEPS
        if self._writer is None:
            self._writer = Writer(self.path, self._compression, overwrite=self._overwrite)
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
            dtype = np.dtype(storage_dtype(spec.dtype))
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
        values: List[Tuple[str, np.ndarray, Optional[np.ndarray]]] = []
        rows: List[Tuple[str, np.ndarray, np.ndarray]] = []
        external: List[Tuple[int, int, int, Digest]] = []
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
            value, sparse_rows = parts(item)
            digest = digest_value(value, sparse_rows)
            version, new = column.version_of(digest, value.shape)
            if new:
                assert column.path is not None
                values.append((column.path, storable(value), sparse_rows))
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
                values.append((column.path, storable(value), None))
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
