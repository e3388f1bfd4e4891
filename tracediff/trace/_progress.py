"""How far a run came: how many steps are complete, and where in training each of them stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracediff.trace._damage import damaged
from tracediff.trace._store import TraceFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray


def complete_steps(files: TraceFiles, group: str, status: str) -> int:
    """Return how many steps of a run are complete.

    Args:
        files: The trace.
        group: Path of the run in the trace.
        status: What the run says of its end.

    Raises:
        DamagedTrace: The number is missing, or more than was recorded.
    """
    key = f"{group}/progress"
    if status == "recording" and not files.has(key):
        return 0  # Killed before anything else was written.
    array = files.array(key)
    found = array.read(0, 1)
    steps = int(found[0]) if found.shape == (1,) and found.dtype.kind == "i" else -1
    if steps == 0 and status == "recording":
        return 0
    recorded = files.array(f"{group}/steps/seconds").shape[0]
    # Ended runs with steps have flushed them, so a zero stands for a lost number.
    lost = steps == 0 and recorded > 0 and status != "failed"
    if not 0 <= steps <= recorded or lost:
        raise damaged(f"{array.where} says {steps} steps, {recorded} were recorded")
    return steps


def counted(files: TraceFiles, group: str, name: str, steps: int) -> NDArray[np.int32]:
    """Return ``fit``, ``epoch`` or ``batch`` of each complete step; int32 (steps,).

    Raises:
        DamagedTrace: They cannot be read, or are no counts.
    """
    array = files.array(f"{group}/steps/{name}")
    column = array.read(0, steps)
    if column.ndim != 1 or column.dtype.kind != "i" or np.any(column < 0):
        raise damaged(f"{array.where} holds numbers that make no sense")
    return column
