"""Runs a command that trains and records, says how far it is, and what went wrong with it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tracediff.errors import TracediffError, UsageError
from tracediff.trace import open_trace

_ENDED = "nothing is recorded"
"""What the recorder says where it cannot record a training."""
_LOOK = 2.0
"""Seconds between two looks at the trace that is being written."""


def train(
    command: Sequence[str], *, log: Path, trace: Path, tell: Callable[[int, float], None] | None
) -> int:
    """Run one training; what it prints goes to a file.

    Args:
        command: What to run.
        log: Where its output goes.
        trace: What it records to.
        tell: Called every two seconds with the steps recorded so far, and the seconds it took.

    Returns:
        How many steps were recorded.

    Raises:
        TracediffError: It could not be run, did not end well, or recorded nothing.
    """
    began = time.monotonic()
    try:
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 # What the user asked to run
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}") from None
    with process:
        try:
            status = _ended(process, None if tell is None else _LOOK)
            while status is None:
                if tell is not None:
                    tell(recorded_steps(trace), time.monotonic() - began)
                status = _ended(process, _LOOK)
        except BaseException:
            process.terminate()
            raise
    lines = log.read_text(errors="replace").strip().splitlines()
    if status:
        told = [line for line in lines if line.startswith("error:")] or lines
        last = told[-1].removeprefix("error: ") if told else "it said nothing"
        raise TracediffError(
            f"{shlex.join(command)} ended with status {status}: {last}", hint=_advice(lines, log)
        )
    steps = recorded_steps(trace)
    if not steps:
        told = [line for line in lines if line.startswith("tracediff:") and _ENDED in line]
        last = f" ({told[-1].removeprefix('tracediff: ')})" if told else ""
        raise TracediffError(
            f"{shlex.join(command)} ended well and recorded no step to {trace}{last}",
            hint=f"does it train with fit, and see that folder? All that it printed is in {log}",
        )
    return steps


def recorded_steps(trace: Path) -> int:
    """Return how many steps all runs of a trace hold by now; 0 where it cannot be read."""
    try:
        return sum(run.steps for run in open_trace(trace).runs)
    except (TracediffError, OSError):
        return 0


def on_terminal(title: str) -> Callable[[int, float], None] | None:
    """Return what shows the progress of a training on one line; None where nobody looks."""
    if not sys.stderr.isatty():
        return None

    def tell(steps: int, seconds: float) -> None:
        span = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
        print(f"\r{title}: {steps} steps, {span}\x1b[K", end="", file=sys.stderr, flush=True)

    return tell


def clear() -> None:
    """Take the line of progress away."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _ended(process: subprocess.Popen[bytes], timeout: float | None) -> int | None:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


def _advice(lines: Sequence[str], log: Path) -> str:
    if any("No module named" in line and "tracediff_hooks" in line for line in lines):
        return "install tracediff-hooks in the environment that trains: pip install tracediff-hooks"
    return f"all that it printed is in {log}"
