"""Runs that had steps behind them where their comparison begins, and had parted in these already.

Their state there was trained, not drawn: no initialiser is to be told from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import listed
from tracediff.model import Finding
from tracediff.onset import Place
from tracediff.trace import Run

_COUNTER = ("slot", "optimizer/iteration")


def steps_behind(case: Case) -> tuple[int, int]:
    """Return how many steps A and B have behind them where their comparison begins.

    A run has those that its record holds before, or that its optimizer had counted.
    """
    starts = case.start, case.own(case.start) or 0
    return (
        max(starts[0], _counted(case.recorded[0], starts[0])),
        max(starts[1], _counted(case.recorded[1], starts[1])),
    )


def _counted(run: Run, step: int) -> int:
    tensor = run.find(*_COUNTER)
    if tensor is None or step >= run.steps or not run.kept(tensor)[step]:
        return 0
    return int(run.read(tensor, step).reshape(-1)[0])


def parted_before(case: Case, places: Sequence[Place], evidence: Sequence[str]) -> Finding:
    """Say that weights had parted in steps that are not compared.

    Args:
        case: Both runs.
        places: The weights, before the first step that is compared.
        evidence: What is known of how they differ.
    """
    a, b = steps_behind(case)
    names = [place.track.pair.name for place in places]
    late = "A" if case.own(case.start) else "B" if case.start else None
    unrecorded = f"{late} has no record of" if late else "neither run has a record of"
    return Finding(
        code="unexplained",
        summary=f"The runs had parted before {case.where(case.start)}, where their comparison "
        f"begins, in steps that {unrecorded}: {listed(names)}.",
        confidence=0.8,
        stage="state",
        step=case.start,
        subject=names[0] if len(names) == 1 else f"{len(names)} weights",
        evidence=(
            f"{_many(a)} lie behind A there and {_many(b)} behind B, so these weights were trained",
            *evidence,
            "record both runs from their first step on, or start B from what A had saved",
        ),
    )


def _many(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"
