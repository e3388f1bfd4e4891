"""State that changes other than by the optimizer, and weights that only one run trains."""

from __future__ import annotations

from collections.abc import Iterable

from tracediff.diagnose.case import Case
from tracediff.diagnose.configs import CONSTRAINT, layer_settings
from tracediff.diagnose.numbers import listed, plain, shown
from tracediff.model import Finding


def external(case: Case) -> Iterable[Finding]:
    """Find state that something changed between two steps."""
    groups: dict[int, list[str]] = {}
    for place in case.firsts("weight", "slot"):
        if place.stage == "state" and place.step > case.start and case.is_origin(place):
            groups.setdefault(place.step, []).append(place.track.pair.name)
    for step, names in groups.items():
        who = []
        for side, run in (("A", case.a), ("B", case.b)):
            changed = {c.tensor.name for c in run.external_changes() if c.step == step}
            if changed:
                who.append(f"in {side}, {len(changed)} state tensors changed between the steps")
            fits = [fit.get("first_step") for fit in run.about.get("fits") or ()]
            if step in fits[1:]:
                who.append(f"in {side}, another call of fit begins with step {step}")
        yield Finding(
            code="state.external",
            summary=f"Something other than the optimizer changed {listed(names)} before "
            f"{case.where(step)}.",
            confidence=0.97,
            stage="state",
            step=step,
            subject=names[0] if len(names) == 1 else f"{len(names)} tensors",
            evidence=(
                f"after the update of step {step - 1} they agreed, before step {step} they do not",
                *who,
                "look for callbacks, set_weights, averaging of weights, or loading in between",
            ),
        )


def constraints(case: Case) -> Iterable[Finding]:
    """Find layers that bound their weights after the update, where that differs."""
    for setting in layer_settings(case):
        if not setting.key.endswith(CONSTRAINT):
            continue
        bounded = setting.key.removesuffix(CONSTRAINT)
        places = [
            place
            for place in case.firsts("weight")
            if place.stage == "update"
            and place.track.pair.layer == setting.layer
            and place.track.pair.name.rpartition("/")[2].startswith(bounded)
            and case.is_origin(place)
        ]
        place = places[0] if places else None
        yield Finding(
            code="state.external",
            summary=f"Layer {setting.layer} ({setting.kind}) has {setting.key} {shown(setting.a)} "
            f"in A and {shown(setting.b)} in B, which changes the weight after the optimizer's "
            "update.",
            confidence=0.4 if place is None else 0.95,
            stage="update",
            step=None if place is None else place.step,
            subject=f"{setting.layer}.{setting.key}",
            a=plain(setting.a),
            b=plain(setting.b),
            evidence=(
                "the recorded configurations differ"
                if place is None
                else f"{place.track.pair.name} differs after the update of "
                f"{case.where(place.step)}, from an equal weight, gradient, slots and rate",
            ),
        )


def trainable(case: Case) -> Iterable[Finding]:
    """Find weights that the optimizer updates in one run only."""
    frozen: dict[tuple[bool | None, bool | None], list[str]] = {}
    for one in case.judged("weight"):
        pair = one.track.pair
        if pair.a is None or pair.b is None:
            continue
        a, b = case.a.find("weight", pair.a), case.b.find("weight", pair.b)
        if a is None or b is None or a.trainable is None or b.trainable is None:
            continue
        if a.trainable != b.trainable:
            frozen.setdefault((a.trainable, b.trainable), []).append(pair.name)
    for (in_a, _), names in frozen.items():
        run = "A" if in_a else "B"
        places = [p for p in case.firsts("weight") if p.track.pair.name in names]
        step = min((place.step for place in places), default=None)
        evidence = [f"the table of weights says trainable in {run} only: {listed(names, limit=8)}"]
        if step is not None:
            evidence.append(f"they part at step {step}")
        yield Finding(
            code="state.trainable",
            summary=f"{listed(names)} {'is' if len(names) == 1 else 'are'} trained in {run} only.",
            confidence=0.97 if step is not None else 0.6,
            stage="update",
            step=step,
            subject=names[0] if len(names) == 1 else f"{len(names)} weights",
            a=in_a,
            b=not in_a,
            evidence=tuple(evidence),
        )
