"""Layers and weights without a partner."""

from __future__ import annotations

from collections.abc import Iterable

from tracediff.diagnose.case import Case
from tracediff.diagnose.configs import layer_settings
from tracediff.diagnose.numbers import listed, shown
from tracediff.model import Finding, Unpaired
from tracediff.names import split_slot


def structure(case: Case) -> Iterable[Finding]:
    """Name weights, inputs and labels that only one run has, layer by layer."""
    groups: dict[str, list[Unpaired]] = {}
    settings = list(layer_settings(case))
    for one in case.pairing.unpaired:
        if one.matters and one.role != "slot":
            groups.setdefault(one.layer or one.tensor, []).append(one)
    for name, found in groups.items():
        sides = sorted({one.side for one in found})
        tensors = list(dict.fromkeys(one.tensor for one in found))
        shapes = found[0].reason.startswith("shape")
        if shapes:
            summary = f"{tensors[0]} has another shape: {found[0].reason.removeprefix('shape ')}."
        else:
            where = "A" if sides == ["a"] else "B"
            summary = f"Only {where} has {listed(tensors)}."
        yield Finding(
            code="model.structure",
            summary=summary,
            confidence=0.97,
            stage="state",
            step=case.start,
            subject=name,
            a=_shape(found, "a"),
            b=_shape(found, "b"),
            evidence=(
                *map(_evidence, found[:8]),
                *(
                    f"{one.key} of {name} is {shown(one.a)} in A and {shown(one.b)} in B"
                    for one in settings
                    if one.layer == name
                ),
            ),
        )


def _evidence(one: Unpaired) -> str:
    text = f"{one.tensor} {one.shape} in {one.side.upper()}: {one.reason}"
    if one.nearest is None or one.reason.startswith("shape"):
        return text
    other = "B" if one.side == "a" else "A"
    shape = "" if one.nearest_shape is None else f" {one.nearest_shape}"
    return f"{text}; nearest there: {one.nearest}{shape} in {other}"


def _shape(found: list[Unpaired], side: str) -> list[int] | None:
    return next((list(one.shape) for one in found if one.side == side and one.shape), None)


def unpaired_slots(case: Case) -> Iterable[Finding]:
    """Name slots that only one run uses, where no setting of the optimizer says why."""
    class_a, class_b = case.optimizer_classes()
    settings_a, settings_b = case.optimizer_settings()
    bringing = ("momentum", "amsgrad", "centered", "nesterov")
    if class_a != class_b or any(settings_a.get(k) != settings_b.get(k) for k in bringing):
        return
    lost = {(one.side, one.tensor) for one in case.pairing.unpaired if one.role == "weight"}
    found = [
        one
        for one in case.pairing.unpaired
        # The slots of a weight without a partner have none for that reason.
        if one.matters and one.role == "slot" and (one.side, split_slot(one.tensor)[0]) not in lost
    ]
    for side in ("a", "b"):
        names = [one.tensor for one in found if one.side == side]
        if names:
            kinds = sorted({name.rpartition("/")[2] for name in names})
            yield Finding(
                code="optimizer.slots",
                summary=f"Only {side.upper()}'s optimizer keeps {listed(kinds)}, and uses it.",
                confidence=0.8,
                stage="update",
                step=case.start,
                subject=", ".join(kinds),
                evidence=(listed(names, limit=6), "their values change during the run"),
            )
