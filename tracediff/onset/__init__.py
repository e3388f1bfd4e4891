"""Find where two runs part: the first difference of any size, and the first beyond rounding.

Both are kept, never one for the other. Nothing is said here about why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Series
from tracediff.model import Moment
from tracediff.names import split_slot
from tracediff.onset.growing import grown, passing
from tracediff.onset.judge import judge as judge
from tracediff.onset.judged import Judged as Judged
from tracediff.onset.kinks import flipped
from tracediff.onset.kinks import has_kinks as has_kinks
from tracediff.onset.noise import Key
from tracediff.onset.origins import begins
from tracediff.onset.origins import unseen as unseen
from tracediff.onset.past import run_wide, scaled
from tracediff.onset.probes import Place as Place
from tracediff.onset.probes import began as began
from tracediff.onset.probes import first_true as first_true
from tracediff.onset.probes import stage_of as stage_of
from tracediff.onset.roundings import Kernel as Kernel
from tracediff.onset.roundings import Roundings as Roundings
from tracediff.onset.sensitive import Sensitivities, excused, sensitive_at
from tracediff.onset.sensitive import Sensitivity as Sensitivity
from tracediff.onset.spread import Spread as Spread
from tracediff.onset.spread import safety_factor as safety_factor
from tracediff.onset.spread import spread_of as spread_of
from tracediff.onset.spread import widest as widest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOT_MEMORY = 50
"""Steps for which a slot remembers one gradient: 0.9^50 is half a percent."""
_AFTER_STATE = ("forward", "loss", "gradient", "update")
_KINKED = ("activation", "loss", "gradient", "applied_gradient", "metric")


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


def find_onset(
    judged: Mapping[Key, Judged],
    *,
    kinks: bool = False,
    sensitivity: Sensitivities | None = None,
) -> Onset:
    """Find the first differences.

    Args:
        judged: Every track, judged.
        kinks: Whether there is a function in the model whose derivative jumps.
        sensitivity: Tells how sensitive the loss of a step is to the weights, where that is known.
    """
    count = len(next(iter(judged.values())).after) if judged else 0
    tracks, noise = {}, {}
    for key, one in judged.items():
        tracks[key], noise[key] = one.track, one.noise
    statistics = {key for key, one in judged.items() if one.statistic}
    causal = _causal(judged, run_wide(tracks, noise, statistics, count), count)
    causal, first = _narrowed(judged, causal, kinks=kinks, sensitivity=sensitivity)
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
            and begins(known, key, place)
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
        gradient = _forgiven(judged, key, envelope)
        for moment, cells, flags in _moments(one):
            rest = _unexplained(key, one, moment, cells, flags, envelope, gradient)
            if one.bound is not None:
                pass
            elif key[0] in _KINKED:
                rest &= ~kinks[key]
            elif key[0] == "slot":
                rest &= ~_after_kink(kinks, split_slot(key[1])[0], count)
            result[key] = _with_flags(result[key], moment, rest)
    return result


def _narrowed(
    judged: Mapping[Key, Judged],
    causal: dict[Key, Judged],
    *,
    kinks: bool,
    sensitivity: Sensitivities | None,
) -> tuple[dict[Key, Judged], Place | None]:
    """Return what kinks and a sensitive loss leave to be explained, and the first of it."""
    first, looked_at = _first(causal), -1
    known = None if sensitivity is None else cache(sensitivity)
    while first is not None:
        if kinks and flipped(judged[first.track.pair.key], first):
            causal = {key: _without(one, first.step) for key, one in causal.items()}
        elif known is not None and first.stage in _AFTER_STATE and first.step > looked_at:
            looked_at = first.step
            found = sensitive_at(known, first.step) if _apart(judged, first.step) else None
            if found is None:
                break
            causal = excused(causal, first.step, found)
        else:
            break
        first = _first(causal)
    return causal, first


def _apart(judged: Mapping[Key, Judged], step: int) -> bool:
    """Say whether anything differs that a loss could be sensitive to, or that shows it.

    To learn how sensitive a loss is takes values of many steps, also of traces that hardly differ.
    """
    for key, one in judged.items():
        cells = one.track.before if one.track.state else one.track.after
        if (
            stage_of(key[0], "after") in _AFTER_STATE
            and cells is not None
            and cells[step]["differs"]
        ):
            return True
    return False


def _forgiven(
    judged: Mapping[Key, Judged], key: Key, envelope: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return how far gradients differ that moved a weight or a slot, where rounding explains it.

    None for what no gradient moves. What is not explained counts for nothing, nor does a gradient
    where the update of its weight was not compared as such.
    """
    one, weight = judged[key], split_slot(key[1])[0] if key[0] == "slot" else key[1]
    gradient = judged.get(("applied_gradient", weight)) or judged.get(("gradient", weight))
    moved = judged.get(("weight", weight))
    if key[0] not in ("weight", "slot") or one.statistic or gradient is None or moved is None:
        return None
    if moved.track.update is None:
        return None
    cells = gradient.track.after
    beyond = _unexplained(
        gradient.track.pair.key, gradient, "after", cells, gradient.after, envelope
    )
    counted = cells["known"] & ~beyond & moved.track.update["present"] & ~moved.update
    return np.where(counted, scaled(cells), 0.0)


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
        update=np.r_[causal.update[:until], judged.update[until:]],
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
    gradient: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Return where ``flags`` is true and smooth growth of rounding does not explain it."""
    if one.bound is not None:
        return flags
    before = moment == "before" and one.track.state
    smooth = grown(one, cells, envelope, before=before, gradient=gradient)
    return np.asarray(flags & ~(smooth & ~_local(key, one, moment)))


def _spoilt(
    judged: Mapping[Key, Judged], envelope: NDArray[np.float64], count: int
) -> NDArray[np.bool_]:
    """Return the steps after which some weight differs by more than growth of rounding explains."""
    result = np.zeros(count, bool)
    for key, one in judged.items():
        if key[0] == "weight":
            gradient = _forgiven(judged, key, envelope)
            after = one.track.after
            result |= _unexplained(key, one, "after", after, one.after, envelope, gradient)
            result |= one.update
    return result


def _kinks(
    judged: Mapping[Key, Judged], envelope: NDArray[np.float64], count: int
) -> dict[Key, NDArray[np.bool_]]:
    """Return, for what steps observe, where a significant difference is a kink that passed."""
    spoilt = _spoilt(judged, envelope, count)
    return {
        key: passing(
            one,
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
