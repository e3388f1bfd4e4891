"""Updates that both runs skipped, and of which only one counts them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracediff.diagnose.case import Case
from tracediff.model import Finding
from tracediff.names import scales_losses

_COUNTER = "optimizer/iteration"


def skipped_steps(case: Case) -> Iterable[Finding]:
    """Name a step counter that goes on in one run where both skip an update.

    What scales losses skips an update whose gradients are not finite. tf.keras counts it, Keras 3
    does not, and Adam corrects its moments by that count from then on.
    """
    both = case.recorded
    if not all(scales_losses(run.about.get("optimizer")) for run in both):
        return
    for place in case.firsts("slot"):
        if place.track.pair.name != _COUNTER or place.stage != "update":
            continue
        pair = case.read(place.track.pair.key, place.step, "after")
        if pair is None or not _skipped(case, place.step):
            continue
        a, b = (int(np.reshape(one, -1)[0]) for one in pair)
        counting, other = ("A", "B") if a > b else ("B", "A")
        yield Finding(
            code="optimizer.slots",
            summary=f"Both runs skip the update of {case.where(place.step)}, and only {counting} "
            "counts it as a step.",
            confidence=0.95,
            stage="update",
            step=place.step,
            subject=_COUNTER,
            a=a,
            b=b,
            evidence=(
                "a gradient of the scaled loss is not finite in both at that step",
                f"{_COUNTER} after it is {a} in A and {b} in B",
                f"what is corrected or scheduled by the counter is a step behind in {other} since",
            ),
        )


def _skipped(case: Case, step: int) -> bool:
    """Say whether a raw gradient was not finite in both runs."""
    for one in case.judged("gradient"):
        cell = one.track.after[step]
        if cell["differs"] and cell["known"]:
            if cell["non_finite_a"] and cell["non_finite_b"]:
                return True
            continue
        pair = case.read(one.track.pair.key, step)
        if pair is not None and not any(np.isfinite(value).all() for value in pair):
            return True
    return False
