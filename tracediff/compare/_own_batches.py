"""What B's own pipeline would have fed, where B replayed A's batches and recorded its own beside.

Such batches are a trace of their own (docs/replay.md) that holds nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tracediff.compare._lockstep import replay_of
from tracediff.errors import TracediffError
from tracediff.model import Comparison, Unpaired
from tracediff.trace import Run

_DATA = ("input", "label", "sample_weight")


def beside(run: Run) -> str | None:
    """Return which run's own batches a run holds, where it holds nothing else; else None."""
    capture = run.about.get("capture")
    found = capture.get("own_batches_of") if isinstance(capture, Mapping) else None
    return found if isinstance(found, str) else None


def of_batches(unpaired: tuple[Unpaired, ...], a: Run, b: Run) -> tuple[Unpaired, ...]:
    """Return what has no partner, less all that a run of batches only cannot have."""
    if beside(a) is None and beside(b) is None:
        return unpaired
    return tuple(one for one in unpaired if one.role in _DATA)


def own_batches_notes(a: Run, b: Run, compare: Callable[[str], Comparison]) -> Iterator[str]:
    """Say whether B's own pipeline would have fed what B replayed.

    Args:
        a: The run that may have been replayed.
        b: The run that may have replayed it.
        compare: Compares a run of that path with A.
    """
    for side, run in (("A", a), ("B", b)):
        replayed = beside(run)
        if replayed is not None:
            yield f"{side} holds batches only: what the pipeline of {replayed} gave"
    about = replay_of(b)
    path = None if about is None else about.get("own_batches")
    if about is None or not isinstance(path, str) or about.get("fingerprint") != a.fingerprint:
        return
    own = _run_beside(path, b)
    try:
        found = compare(own)
    except TracediffError as error:
        yield f"what B's own pipeline gave cannot be compared: {error}"
        return
    if found.agree:
        yield f"B's own pipeline would have fed the same batches ({own})"
        return
    cause = next((one for one in found.causes if one.code.startswith("data.")), None)
    why = "" if cause is None else f". {cause.summary} [{cause.code}]"
    yield f"B's own pipeline would have fed other batches ({own}){why}"


def _run_beside(path: str, b: Run) -> str:
    """Return the run of the own batches that has the number of B, where the trace lies now."""
    number = re.search(r"/(run-\d+)/*$", b.path)
    if "://" not in path and not Path(path).exists():
        # Both traces were moved together.
        folder = Path(b.path[: number.start()] if number else b.path).parent
        moved = folder / Path(path).name
        path = str(moved) if moved.exists() else path
    return f"{path}/{number.group(1)}" if number else path
