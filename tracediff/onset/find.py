"""Find the first places at which two runs part: in bits, and beyond what rounding explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tracediff.onset.causal import causal
from tracediff.onset.judged import Judged
from tracediff.onset.kinks import flipped
from tracediff.onset.noise import Key
from tracediff.onset.origins import begins
from tracediff.onset.probes import Place, first_true, stage_of
from tracediff.onset.sensitive import Sensitivities, excused, sensitive_at

_AFTER_STATE = ("forward", "loss", "gradient", "update")


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
    left, first = _narrowed(judged, causal(judged, count), kinks=kinks, sensitivity=sensitivity)
    # What grew before the first divergence was rounding; what differs after it is its consequence.
    until = count if first is None else first.step + 1
    known = {key: _spliced(left[key], one, until) for key, one in judged.items()}
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
            if (place.step < until or not _grew(judged[key], left[key], until))
            and begins(known, key, place)
        ),
        chaotic=_chaotic(judged, firsts),
    )


def _narrowed(
    judged: Mapping[Key, Judged],
    left: dict[Key, Judged],
    *,
    kinks: bool,
    sensitivity: Sensitivities | None,
) -> tuple[dict[Key, Judged], Place | None]:
    """Return what kinks and a sensitive loss leave to be explained, and the first of it."""
    first, looked_at = _first(left), -1
    known = None if sensitivity is None else cache(sensitivity)
    while first is not None:
        if kinks and flipped(judged[first.track.pair.key], first):
            left = {key: _without(one, first.step) for key, one in left.items()}
        elif known is not None and first.stage in _AFTER_STATE and first.step > looked_at:
            looked_at = first.step
            found = sensitive_at(known, first.step) if _apart(judged, first.step) else None
            if found is None:
                break
            left = excused(left, first.step, found)
        else:
            break
        first = _first(left)
    return left, first


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


def _spliced(left: Judged, judged: Judged, until: int) -> Judged:
    """Return the flags of ``left`` before step ``until``, those of ``judged`` from there on."""
    return replace(
        judged,
        before=np.r_[left.before[:until], judged.before[until:]],
        after=np.r_[left.after[:until], judged.after[until:]],
        update=np.r_[left.update[:until], judged.update[until:]],
    )


def _grew(judged: Judged, left: Judged, until: int) -> bool:
    """Say whether growth of rounding explained something before step ``until``."""
    explained = (judged.before & ~left.before) | (judged.after & ~left.after)
    return bool(explained[:until].any())


def _first(judged: Mapping[Key, Judged]) -> Place | None:
    return min(_firsts(judged).values(), key=lambda place: place.key, default=None)


def _firsts(judged: Mapping[Key, Judged]) -> dict[Key, Place]:
    """Return the first place at which each tensor differs significantly."""
    result = {}
    for key, one in judged.items():
        places = []
        for moment, _, flags in one.moments():
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
        for moment, cells, _ in one.moments():
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
