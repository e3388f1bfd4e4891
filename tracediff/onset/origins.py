"""Tell a tensor in which a divergence begins from one that inherits it."""

from __future__ import annotations

from collections.abc import Mapping

from tracediff.names import split_slot
from tracediff.onset.judged import Judged
from tracediff.onset.noise import Key
from tracediff.onset.probes import Place, began, stage_of

_ENTERS_FORWARD = ("data", "state")


def begins(judged: Mapping[Key, Judged], key: Key, place: Place) -> bool:
    """Say whether everything that a diverging tensor was computed from agrees."""
    role, name = key
    step = place.step
    if place.stage == "data" or role == "learning_rate":
        return True
    if place.stage == "state":
        return step == began(one.track for one in judged.values()) or bool(
            judged[key].external[step]
        )
    fed = ("gradient", name) in judged or ("applied_gradient", name) in judged
    if place.quantity == "update" and fed:
        # The probe itself allows for what went into the update.
        return not any(_after(judged, other, step) for other in _slots_and_rate(judged, name))
    entering = any(
        one.before[step] or unseen(one, step) if one.track.state else one.after[step]
        for (kind, _), one in judged.items()
        if stage_of(kind, "before") in _ENTERS_FORWARD
    )
    if place.stage == "update":
        return _update_begins(judged, key, step, entering=entering)
    earlier = [
        one.after[step] for other, one in judged.items() if _runs_before(judged, other, key, place)
    ]
    return not entering and not any(earlier)


def unseen(one: Judged, step: int) -> bool:
    """Say whether a state tensor was not recorded before a step that it went into.

    Keras 3 builds a model without an input shape in its first step: its weights are seen after it.
    """
    before = one.track.before
    return bool(
        before is not None and not before["present"][step] and one.track.after["present"][step]
    )


def _update_begins(judged: Mapping[Key, Judged], key: Key, step: int, *, entering: bool) -> bool:
    role, name = key
    weight = split_slot(name)[0] if role == "slot" else name
    gradient = judged.get(("applied_gradient", weight)) or judged.get(("gradient", weight))
    own = judged[key]
    if own.before[step]:
        return False
    forward = entering or any(
        _after(judged, other, step) for other in judged if other[0] in ("activation", "loss")
    )
    if gradient is None:
        # A moving statistic, or nothing known about the gradient: it hangs on all that went before.
        return not forward
    if gradient.after[step]:
        return False
    inputs = _slots_and_rate(judged, weight)
    if role == "slot":
        inputs = [other for other in inputs if other[0] == "learning_rate"]
    return not any(
        _after(judged, other, step) or (other[0] == "slot" and judged[other].before[step])
        for other in inputs
    )


def _slots_and_rate(judged: Mapping[Key, Judged], weight: str) -> list[Key]:
    return [
        other
        for other in judged
        if other[0] == "learning_rate" or (other[0] == "slot" and split_slot(other[1])[0] == weight)
    ]


def _after(judged: Mapping[Key, Judged], key: Key, step: int) -> bool:
    return bool(judged[key].after[step])


def _runs_before(judged: Mapping[Key, Judged], other: Key, key: Key, place: Place) -> bool:
    """Say whether ``other`` is observed at this step before ``key`` and may have gone into it."""
    if other[0] in ("weight", "slot", "learning_rate") or other == key:
        return False
    if place.stage == "metric" and other[0] in ("gradient", "applied_gradient"):
        return False
    one = Place(place.step, stage_of(other[0], "after"), judged[other].track, "after")
    return one.key < place.key
