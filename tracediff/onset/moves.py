"""Judge updates of weights as such: whether one differs beyond what it inherits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tracediff.drift import AMPLIFICATION, Track
from tracediff.names import split_slot
from tracediff.onset.judged import Judged, Numbers
from tracediff.onset.noise import Key
from tracediff.onset.spread import LINEAR
from tracediff.tolerance import (
    CONDITION,
    EPS32,
    STATISTIC_FEEDBACK,
    STATISTIC_UPDATE,
    UPDATE_ROUNDING,
    UPDATE_TOLERANCE,
    UPDATE_TOLERANCE_BLIND,
)


def with_updates(
    judged: dict[Key, Judged],
    trainable: Mapping[str, bool | None],
    drift: Numbers,
    *,
    eps: float = 0.0,
) -> dict[Key, Judged]:
    """Add, for each weight, where its update differs beyond what it inherits.

    Args:
        judged: Every track, judged but for this.
        trainable: For each weight, whether the optimizer updates it.
        drift: By how much all weights together differ before each step.
        eps: Machine epsilon in which the runs compute, where that is coarser than what they store.
    """
    result = dict(judged)
    for (role, name), one in judged.items():
        if role != "weight" or one.track.update is None:
            continue
        gradient = judged.get(("applied_gradient", name)) or judged.get(("gradient", name))
        if trainable.get(name) is False:
            room = _room(one.track, STATISTIC_UPDATE) + _carried(one.track, drift)
        else:
            blind = gradient is None
            room = _room(one.track, UPDATE_TOLERANCE_BLIND if blind else UPDATE_TOLERANCE)
            if eps > EPS32:
                room = room + _cancelling(judged, name, gradient)
        if one.spread is not None:
            room = np.maximum(room, one.spread.update)
        agrees = ~one.before & ~one.noise
        if gradient is not None:
            agrees &= ~gradient.after
        for key, other in judged.items():
            if key[0] == "slot" and split_slot(key[1])[0] == name:
                agrees &= ~other.before
        update = one.track.update
        beyond = update["unexplained"] > room
        if one.spread is not None and gradient is not None and gradient.spread is not None:
            noisy = gradient.spread.level > LINEAR
            room = np.where(noisy, np.maximum(room, one.spread.moves), room)
            beyond = np.where(noisy, update["norm_difference"] > room, beyond)
        flags = update["present"] & beyond & agrees
        result[role, name] = replace(one, update=np.asarray(flags), room=room)
    return result


def _room(track: Track, share: float) -> Numbers:
    """Return by how much two updates may differ: a share of the largest, and rounding."""
    assert track.update is not None
    coarse = max(1.0, track.eps / EPS32)
    room = share * coarse * np.maximum.accumulate(track.update["norm"])
    return np.asarray(room + UPDATE_ROUNDING * track.eps * track.update["weight_norm"])


def _cancelling(judged: Mapping[Key, Judged], name: str, gradient: Judged | None) -> Numbers:
    """Return how far updates may part where what goes in is coarse, and cancels in some elements.

    A momentum of one sign and a gradient of the other leave little of an element, and as much of
    what rounding made of either. Over all elements that stays small beside the update.
    """
    update = judged["weight", name].track.update
    assert update is not None
    apart = np.zeros(len(update))
    if gradient is not None:
        apart = np.nan_to_num(gradient.track.after["relative_l2"])
    for (role, slot), one in judged.items():
        if role == "slot" and split_slot(slot)[0] == name and one.track.before is not None:
            apart = np.maximum(apart, np.nan_to_num(one.track.before["relative_l2"]))
    return np.asarray(AMPLIFICATION * apart * update["norm"])


def _carried(track: Track, drift: Numbers) -> Numbers:
    """Return how far drifting weights, and its own drift, may carry a moving statistic apart."""
    assert track.update is not None
    assert track.before is not None
    own = np.nan_to_num(track.before["norm_difference"])
    weights = CONDITION["gradient"] * drift * np.maximum.accumulate(track.update["norm"])
    return np.asarray(STATISTIC_FEEDBACK * own + weights)
