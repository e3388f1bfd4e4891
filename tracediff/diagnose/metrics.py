"""Metrics that differ although every tensor of the step agrees."""

from __future__ import annotations

from collections.abc import Iterable

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import short
from tracediff.model import Finding


def metrics(case: Case) -> Iterable[Finding]:
    """Find metrics in which a divergence begins."""
    for place in case.firsts("metric"):
        if not case.is_origin(place):
            continue
        pair = case.read(place.track.pair.key, place.step)
        values = [float(one.reshape(-1)[0]) for one in pair] if pair is not None else [None, None]
        name = place.track.pair.name.removeprefix("metric/")
        shown = ""
        if values[0] is not None and values[1] is not None:
            shown = f": {short(values[0])} in A, {short(values[1])} in B"
        yield Finding(
            code="metric.definition",
            summary=f"The metric {name} differs at {case.where(place.step)}{shown}, while data, "
            "weights and loss agree.",
            confidence=0.9,
            stage="metric",
            step=place.step,
            subject=name,
            a=values[0],
            b=values[1],
            evidence=(
                "the training itself does not differ by it",
                *_gradients(case, place.step),
            ),
        )


def _gradients(case: Case, step: int) -> list[str]:
    judged = case.judged("gradient", "applied_gradient")
    if judged and not any(one.after[step] for one in judged):
        return [f"all {len(judged)} gradients of the step agree as well"]
    return []
