"""Judge what a step starts from and leaves: weights, slots and counters, before and after it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tracediff.drift import Track
from tracediff.onset.judged import Flags, Judged, Numbers, significant
from tracediff.onset.level import Level
from tracediff.onset.noise import Key
from tracediff.onset.past import relaxed, scaled
from tracediff.tolerance import SLOT_CONDITION, elementwise, tolerance


def judge_state(
    track: Track,
    level: Level,
    quiet: Flags,
    external: Flags | None,
    eps: float,
    begin: tuple[int, int],
    *,
    share: Numbers,
) -> Judged:
    """Judge a tensor of state, but for its updates as such.

    Args:
        track: The track.
        level: What rounding and its growth allow.
        quiet: Where the difference is noise around zero; bool (steps,), as ``external``.
        external: Where something other than the optimizer changed it, in either run.
        eps: Machine epsilon in which it was computed.
        begin: The step with which the comparison begins, and how many both runs have behind them.
        share: Of each update, how much may be rounding's; float64 (steps,).
    """
    count = len(quiet)
    before, after, update = track.before, track.after, track.update
    assert before is not None  # This is what makes a track one of state
    if update is not None:
        # Elements whose gradient is noise move at full speed under adaptive optimizers; and a
        # weight that began at zero is nothing but the sum of its updates.
        # Those before the first step that is compared were like those after it, as far as known.
        parts = share * update["norm"]
        like = parts[begin[0] :][: begin[1]]
        behind = begin[1] * float(like.mean()) if like.size else 0.0
        level = level.plus(of_updates(track, update["noise"] + parts, behind=behind))
    element = np.inf
    changed = external if external is not None else np.zeros(count, bool)
    # Where a step's update is compared as such, it shows what came all at once, and better.
    sudden = np.ones(count, bool) if update is None else ~update["present"]
    earlier = level.earlier().within(track, before=True, where=changed | np.r_[True, sudden][:-1])
    earlier = relaxed(earlier, before)
    allowed = relaxed(level.within(track, before=False, where=sudden), after)
    flags = significant(before, earlier, np.inf)
    start, age = begin
    if count and age:
        # What both have been through before has left its rounding.
        earlier[start] = allowed[start]
        flags[start] = significant(before, earlier, np.inf)[start]
    elif count:
        earlier[start] = tolerance("initial state", np.arange(1), eps=eps)[0]
        element = elementwise("initial state", eps=eps)
        first = slice(start, start + 1)
        flags[first] = significant(before[first], earlier[first], element)
    if count and age:
        # What drives it is noise at this step, as it will have been at those before.
        flags[start] &= not quiet[start]
    if count:
        flags[1:] &= ~quiet[:-1]
    return Judged(
        track=track,
        before=flags,
        after=significant(after, allowed, np.inf) & ~quiet,
        update=np.zeros(count, bool),
        tolerance_before=earlier,
        tolerance_after=allowed,
        noise=quiet,
        external=changed,
        start=start,
    )


def of_updates(track: Track, parts: Numbers, *, behind: float = 0.0) -> Numbers:
    """Return what parts of each update so far, as L2 norms, come to beside the tensor's norm.

    Args:
        track: The weight.
        parts: The parts, step by step.
        behind: What they came to before the first step.
    """
    size = np.nan_to_num(np.maximum(track.after["norm_a"], track.after["norm_b"]))
    together = behind + np.cumsum(np.nan_to_num(parts))
    return np.asarray(np.divide(together, size, out=np.zeros(len(size)), where=size > 0.0))


def of_gradient(judged: Mapping[Key, Judged], weight: str, count: int) -> Numbers:
    """Return by how much slots may differ for what rounding made of a weight's gradients so far."""
    one = judged.get(("applied_gradient", weight)) or judged.get(("gradient", weight))
    if one is None or not count:
        return np.zeros(count)
    within = np.where(one.after | one.noise, 0.0, scaled(one.track.after))
    return np.asarray(SLOT_CONDITION * np.maximum.accumulate(within))
