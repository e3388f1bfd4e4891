"""What to say when no rule explains a divergence, and when there is none to explain."""

from __future__ import annotations

from collections.abc import Iterable

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import listed
from tracediff.diagnose.optimizer import hyperparameters, rule
from tracediff.model import Finding, Pair, Stage
from tracediff.onset import Place, first_true, stage_of, unseen

_ADVICE: dict[Stage, str] = {
    "data": 'record both runs with level="full" to see which samples differ, and how',
    "state": 'record both runs with level="full" to see which values differ',
    "forward": "compare the settings of the layer named, and what it reads from",
    "loss": "record layer outputs (activations=True) to see in which layer the forward pass parts",
    "gradient": "record layer outputs (activations=True), and raw as well as applied gradients",
    "update": 'record slots and applied gradients (level="full") to see what the update computes',
    "metric": "compare the definitions of the metric in both scripts",
}


def unexplained(case: Case) -> Iterable[Finding]:
    """Say where the origin is and what to record next, where no cause is known."""
    first = case.first
    if first is None:
        return
    pair = first.track.pair
    cells = first.track.before if first.moment == "before" and first.track.state else None
    cell = (first.track.after if cells is None else cells)[first.step]
    missing = [one.track.pair.name for one in case.judged("weight") if unseen(one, first.step)]
    if missing and first.stage not in ("data", "state"):
        evidence = [
            f"{listed(missing)} were not recorded before step {first.step}, so they may differ",
            "build the model before fit (give it an input shape) to have its weights recorded",
        ]
    else:
        evidence = [f"everything before it in the step agrees: {_stages_before(first.stage)}"]
    if not cell["known"]:
        evidence.append("by how much is not known: values were not kept")
        if first.stage not in ("data", "state"):
            evidence.append(
                'rounding alone may be behind it: level="sketch" tells at little cost, on both runs'
            )
    elif cell["at_least"]:
        evidence.append(
            "by how much is known from statistics only, so it may be far more: "
            'level="sketch" tells at little cost, on both runs'
        )
    evidence.append(_ADVICE[first.stage])
    yield Finding(
        code="unexplained",
        summary=f"{_named(pair)} differs first, at {case.where(first.step)} in the "
        f"{first.stage} stage, and no known cause explains it.",
        confidence=0.5,
        stage=first.stage,
        step=first.step,
        subject=pair.name,
        evidence=tuple(evidence),
    )


def _named(pair: Pair) -> str:
    return pair.name if pair.name == pair.role else f"{pair.role} {pair.name}"


def _stages_before(stage: Stage) -> str:
    stages = list(_ADVICE)
    return ", ".join(stages[: stages.index(stage)]) or "nothing comes before it"


def rounding(case: Case) -> Iterable[Finding]:
    """Say what there is to say of runs that agree: how rounding grew, and what cannot be seen."""
    yield from _grown(case)
    yield from _hidden(case)


def _hidden(case: Case) -> Iterable[Finding]:
    """Say where only digests were kept, so that more than rounding may lie between the runs."""
    places = [
        Place(
            first_true(one.track.after["at_least"]) or 0,
            stage_of(key[0], "after"),
            one.track,
            "after",
        )
        for key, one in case.onset.judged.items()
        if one.track.after["at_least"].any()
    ]
    if not places:
        return
    first = min(places, key=lambda one: one.key)
    count = "1 tensor" if len(places) == 1 else f"{len(places)} tensors"
    yield Finding(
        code="rounding",
        summary=f"{count} with other bits, and nothing beyond rounding is visible in what digests "
        "keep; a difference that statistics do not show is not excluded.",
        confidence=0.6,
        stage=first.stage,
        step=first.step,
        subject=first.track.pair.name if len(places) == 1 else count,
        evidence=(
            (
                "means, deviations, norms and extremes tell how far values are apart at least, and "
                "that is within the noise floor at every step"
            ),
            *(
                f"the recorded settings differ all the same: {one.summary}"
                for one in (*rule(case), *hyperparameters(case))
            ),
            (
                "to know how far apart they are, record both runs with --level sketch "
                '(TraceCallback(..., level="sketch")), or full'
            ),
        ),
    )


def _grown(case: Case) -> Iterable[Finding]:
    """Name tensors that passed the tolerance by growth of rounding only."""
    names = sorted(key[1] for key in case.onset.chaotic)
    if not names:
        return
    judged = [one for key, one in case.onset.judged.items() if key in case.onset.chaotic]
    start = min(int(one.track.after["differs"].argmax()) for one in judged)
    cross = min(case.onset.chaotic.values())
    yield Finding(
        code="rounding",
        summary=f"Rounding grew from step {start} and passed the tolerance at step "
        f"{cross}: training amplifies any difference, and there is no cause to look for.",
        confidence=0.9,
        stage="update",
        step=cross,
        subject=names[0] if len(names) == 1 else f"{len(names)} tensors",
        evidence=(
            (
                "no step raised the drift more than tenfold, but for what derivatives of the loss "
                f"explain; {cross - start} steps lie between the first bit and the tolerance"
            ),
            "data, initial weights, learning rates and all updates on their own agree",
        ),
    )
