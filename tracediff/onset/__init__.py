"""Find where two runs part: the first difference of any size, and the first beyond rounding.

Both are kept, never one for the other. Nothing is said here about why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Series
from tracediff.model import Moment
from tracediff.names import split_slot
from tracediff.onset.growing import grown, passing
from tracediff.onset.judge import Judged as Judged
from tracediff.onset.judge import judge as judge
from tracediff.onset.kinks import flipped
from tracediff.onset.kinks import has_kinks as has_kinks
from tracediff.onset.noise import Key
from tracediff.onset.past import run_wide
from tracediff.onset.probes import Place as Place
from tracediff.onset.probes import began as began
from tracediff.onset.probes import first_true as first_true
from tracediff.onset.probes import stage_of as stage_of
from tracediff.onset.roundings import Kernel as Kernel
from tracediff.onset.roundings import Roundings as Roundings
from tracediff.onset.spread import Spread as Spread
from tracediff.onset.spread import safety_factor as safety_factor
from tracediff.onset.spread import spread_of as spread_of
from tracediff.onset.spread import widest as widest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOT_MEMORY = 50
"""Steps for which a slot remembers one gradient: 0.9^50 is half a percent."""
_KINKED = ("activation", "loss", "gradient", "applied_gradient", "metric")
_ENTERS_FORWARD = ("data", "state")


@dataclass(frozen=True, slots=True, eq=False)
class Onset:
    """Where two runs part.

    Attributes:
        judged: Every track with what is significant about it and not explained as rounding that
            grew, by role and canonical name.
        first_bit: The first place at which bits differ, or None.
        first: The first place that differs beyond rounding, or None.
        firsts: For each tensor that diverges, the first place at which it does.
        origins: Of those, the tensors in which a divergence begins.
        chaotic: Tensors that cross their tolerance by growth of rounding only, and at which step.
    """

    judged: Mapping[Key, Judged]
    first_bit: Place | None
    first: Place | None
    firsts: Mapping[Key, Place]
    origins: frozenset[Key]
    chaotic: Mapping[Key, int]

    def significant(self, key: Key, place: Place) -> bool:
        """Say whether a tensor differs significantly where ``place`` is, by step and moment."""
        one = self.judged.get(key)
        if one is None:
            return False
        flags = one.before if place.moment == "before" and one.track.state else one.after
        return bool(flags[place.step])


def find_onset(judged: Mapping[Key, Judged], *, kinks: bool = False) -> Onset:
    """Find the first differences.

    Args:
        judged: Every track, judged.
        kinks: Whether there is a function in the model whose derivative jumps.
    """
    count = len(next(iter(judged.values())).after) if judged else 0
    tracks, noise = {}, {}
    for key, one in judged.items():
        tracks[key], noise[key] = one.track, one.noise
    statistics = {key for key, one in judged.items() if one.statistic}
    causal = _causal(judged, run_wide(tracks, noise, statistics, count), count)
    first = _first(causal)
    while kinks and first is not None and flipped(judged[first.track.pair.key], first):
        causal = {key: _without(one, first.step) for key, one in causal.items()}
        first = _first(causal)
    # What grew before the first divergence was rounding; what differs after it is its consequence.
    until = count if first is None else first.step + 1
    known = {key: _spliced(causal[key], one, until) for key, one in judged.items()}
    firsts = _firsts(known)
    return Onset(
        judged=known,
        first_bit=min(_first_bits(judged), key=lambda place: place.key, default=None),
        first=first,
        firsts=firsts,
        origins=frozenset(
            key
            for key, place in firsts.items()
            # What rounding had grown into already cannot begin to differ afterwards.
            if (place.step < until or not _grew(judged[key], causal[key], until))
            and _begins(known, key, place)
        ),
        chaotic=_chaotic(judged, firsts),
    )


def _causal(
    judged: Mapping[Key, Judged], envelope: NDArray[np.float64], count: int
) -> dict[Key, Judged]:
    """Return what is judged, less what growth of rounding explains."""
    kinks = _kinks(judged, envelope, count)
    result = dict(judged)
    for key, one in judged.items():
        for moment, cells, flags in _moments(one):
            rest = _unexplained(key, one, moment, cells, flags, envelope)
            if one.bound is not None:
                pass
            elif key[0] in _KINKED:
                rest &= ~kinks[key]
            elif key[0] == "slot":
                rest &= ~_after_kink(kinks, split_slot(key[1])[0], count)
            result[key] = _with_flags(result[key], moment, rest)
    return result


def _first(judged: Mapping[Key, Judged]) -> Place | None:
    return min(_firsts(judged).values(), key=lambda place: place.key, default=None)


def _without(one: Judged, step: int) -> Judged:
    """Return what is judged without what a kink does to a step: to gradients, and to the update."""
    if stage_of(one.track.pair.role, "after") not in ("gradient", "update"):
        return one
    if one.track.pair.role == "learning_rate":
        return one
    before, after, update = one.before.copy(), one.after.copy(), one.update.copy()
    after[step] = update[step] = False
    # What stands before the next step is what this one left, unless something else changed it.
    before[step + 1 : step + 2] &= one.external[step + 1 : step + 2]
    return replace(one, before=before, after=after, update=update)


def _spliced(causal: Judged, judged: Judged, until: int) -> Judged:
    """Return the flags of ``causal`` before step ``until``, those of ``judged`` from there on."""
    return replace(
        judged,
        before=np.r_[causal.before[:until], judged.before[until:]],
        after=np.r_[causal.after[:until], judged.after[until:]],
    )


def _grew(judged: Judged, causal: Judged, until: int) -> bool:
    """Say whether growth of rounding explained something before step ``until``."""
    explained = (judged.before & ~causal.before) | (judged.after & ~causal.after)
    return bool(explained[:until].any())


def _firsts(judged: Mapping[Key, Judged]) -> dict[Key, Place]:
    """Return the first place at which each tensor differs significantly."""
    result = {}
    for key, one in judged.items():
        places = []
        for moment, _, flags in _moments(one):
            step = first_true(flags)
            if step is not None:
                places.append(Place(step, stage_of(key[0], moment), one.track, moment))
        step = first_true(one.update)
        if step is not None:
            places.append(Place(step, "update", one.track, "after", "update"))
        if places:
            result[key] = min(places, key=lambda place: place.key)
    return result


def _first_bits(judged: Mapping[Key, Judged]) -> Iterator[Place]:
    for key, one in judged.items():
        for moment, cells, _ in _moments(one):
            step = first_true(cells["differs"])
            if step is not None:
                yield Place(step, stage_of(key[0], moment), one.track, moment)


def _chaotic(judged: Mapping[Key, Judged], firsts: Mapping[Key, Place]) -> dict[Key, int]:
    """Return the tensors beyond their tolerance without a divergence, and since which step."""
    result = {}
    for key, one in judged.items():
        step = first_true(one.before | one.after)
        if step is not None and key not in firsts:
            result[key] = step
    return result


def _with_flags(one: Judged, moment: Moment, flags: NDArray[np.bool_]) -> Judged:
    if moment == "before":
        return replace(one, before=flags)
    return replace(one, after=flags)


def _unexplained(
    key: Key,
    one: Judged,
    moment: Moment,
    cells: Series,
    flags: NDArray[np.bool_],
    envelope: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return where ``flags`` is true and smooth growth of rounding does not explain it."""
    if one.bound is not None:
        return flags
    smooth = grown(one, cells, envelope, before=moment == "before" and one.track.state)
    return np.asarray(flags & ~(smooth & ~_local(key, one, moment)))


def _spoilt(
    judged: Mapping[Key, Judged], envelope: NDArray[np.float64], count: int
) -> NDArray[np.bool_]:
    """Return the steps after which some weight differs by more than growth of rounding explains."""
    result = np.zeros(count, bool)
    for key, one in judged.items():
        if key[0] == "weight":
            result |= _unexplained(key, one, "after", one.track.after, one.after, envelope)
            result |= one.update
    return result


def _kinks(
    judged: Mapping[Key, Judged], envelope: NDArray[np.float64], count: int
) -> dict[Key, NDArray[np.bool_]]:
    """Return, for what steps observe, where a significant difference is a kink that passed."""
    spoilt = _spoilt(judged, envelope, count)
    return {
        key: passing(
            one.track,
            _unexplained(key, one, "after", one.track.after, one.after, envelope),
            spoilt,
        )
        for key, one in judged.items()
        if key[0] in _KINKED
    }


def _after_kink(
    kinks: Mapping[Key, NDArray[np.bool_]], weight: str, count: int
) -> NDArray[np.bool_]:
    """Return the steps at which a slot may still remember a kink of its gradient."""
    result = np.zeros(count, bool)
    for role in ("gradient", "applied_gradient"):
        for step in np.flatnonzero(kinks.get((role, weight), result)):
            result[step : step + SLOT_MEMORY] = True
    return result


def _moments(one: Judged) -> Iterator[tuple[Moment, Series, NDArray[np.bool_]]]:
    if one.track.before is not None:
        yield "before", one.track.before, one.before
    yield "after", one.track.after, one.after


def _local(key: Key, one: Judged, moment: Moment) -> NDArray[np.bool_]:
    """Say where a value was not computed from drifting ones, so that growth cannot explain it."""
    count = len(one.after)
    if key[0] in ("input", "label", "sample_weight", "learning_rate"):
        return np.ones(count, bool)
    flags = np.zeros(count, bool)
    if moment == "before" and count:
        flags = one.external.copy()
        flags[one.start] = True
    return flags


def _start(judged: Mapping[Key, Judged]) -> int:
    return began(one.track for one in judged.values())


def _begins(judged: Mapping[Key, Judged], key: Key, place: Place) -> bool:
    """Say whether everything that a diverging tensor was computed from agrees."""
    role, name = key
    step = place.step
    if place.stage == "data" or role == "learning_rate":
        return True
    if place.stage == "state":
        return step == _start(judged) or bool(judged[key].external[step])
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
