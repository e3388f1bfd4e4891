"""Find where two runs part: the first difference of any size, and the first beyond rounding.

Both are kept, never one for the other. Nothing is said here about why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Series
from tracediff.model import Moment
from tracediff.names import split_slot
from tracediff.onset.growing import grown, run_wide
from tracediff.onset.judge import Judged as Judged
from tracediff.onset.judge import judge as judge
from tracediff.onset.noise import Key
from tracediff.onset.probes import Place as Place
from tracediff.onset.probes import first_true, stage_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENTERS_FORWARD = ("data", "state")


@dataclass(frozen=True, slots=True, eq=False)
class Onset:
    """Where two runs part.

    Attributes:
        judged: Every track with what is significant about it, by role and canonical name.
        first_bit: The first place at which bits differ, or None.
        first: The first place that differs beyond rounding, or None.
        firsts: For each tensor that diverges, the first place at which it does.
        origins: Of those, the tensors in which a divergence begins.
        chaotic: Tensors that cross their tolerance by smooth growth of rounding only.
    """

    judged: Mapping[Key, Judged]
    first_bit: Place | None
    first: Place | None
    firsts: Mapping[Key, Place]
    origins: frozenset[Key]
    chaotic: frozenset[Key]

    def significant(self, key: Key, place: Place) -> bool:
        """Say whether a tensor differs significantly where ``place`` is, by step and moment."""
        one = self.judged.get(key)
        if one is None:
            return False
        flags = one.before if place.moment == "before" and one.track.state else one.after
        return bool(flags[place.step])


def find_onset(judged: Mapping[Key, Judged]) -> Onset:
    """Find the first differences.

    Args:
        judged: Every track, judged.
    """
    count = len(next(iter(judged.values())).after) if judged else 0
    envelope = run_wide(judged, count)
    bits: list[Place] = []
    firsts: dict[Key, Place] = {}
    chaotic: set[Key] = set()
    causal: dict[Key, dict[Moment, NDArray[np.bool_]]] = {}
    for key, one in judged.items():
        causal[key] = {}
        for moment, cells, flags in _moments(one):
            stage = stage_of(key[0], moment)
            step = first_true(cells["differs"])
            if step is not None:
                bits.append(Place(step, stage, one.track, moment))
            smooth = grown(
                one.track, cells, envelope, before=moment == "before" and one.track.state
            )
            smooth &= ~_local(key, one, moment)
            if (flags & smooth).any():
                chaotic.add(key)
            causal[key][moment] = flags & ~smooth
            step = first_true(flags & ~smooth)
            if step is not None:
                _earlier(firsts, key, Place(step, stage, one.track, moment))
        step = first_true(one.update)
        if step is not None:
            _earlier(firsts, key, Place(step, "update", one.track, "after", "update"))
    chaotic -= firsts.keys()
    return Onset(
        judged=judged,
        first_bit=min(bits, key=lambda place: place.key, default=None),
        first=min(firsts.values(), key=lambda place: place.key, default=None),
        firsts=firsts,
        origins=frozenset(key for key, place in firsts.items() if _begins(judged, key, place)),
        chaotic=frozenset(chaotic),
    )


def _moments(one: Judged) -> Iterator[tuple[Moment, Series, NDArray[np.bool_]]]:
    if one.track.before is not None:
        yield "before", one.track.before, one.before
    yield "after", one.track.after, one.after


def _earlier(firsts: dict[Key, Place], key: Key, place: Place) -> None:
    known = firsts.get(key)
    if known is None or place.key < known.key:
        firsts[key] = place


def _local(key: Key, one: Judged, moment: Moment) -> NDArray[np.bool_]:
    """Say where a value was not computed from drifting ones, so that growth cannot explain it."""
    count = len(one.after)
    if key[0] in ("input", "label", "sample_weight", "learning_rate"):
        return np.ones(count, bool)
    flags = np.zeros(count, bool)
    if moment == "before" and count:
        flags = one.external.copy()
        flags[0] = True
    return flags


def _begins(judged: Mapping[Key, Judged], key: Key, place: Place) -> bool:
    """Say whether everything that a diverging tensor was computed from agrees."""
    role, name = key
    step = place.step
    if place.stage == "data" or role == "learning_rate":
        return True
    if place.stage == "state":
        return step == 0 or not judged[key].after[step - 1]
    if place.quantity == "update":
        # The probe itself allows for what went into the update.
        return not any(_after(judged, other, step) for other in _slots_and_rate(judged, name))
    entering = any(
        one.before[step] if one.track.state else one.after[step]
        for (kind, _), one in judged.items()
        if stage_of(kind, "before") in _ENTERS_FORWARD
    )
    if place.stage == "update":
        return _update_begins(judged, key, step, entering=entering)
    earlier = [
        one.after[step] for other, one in judged.items() if _runs_before(judged, other, key, place)
    ]
    return not entering and not any(earlier)


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
