"""Judge every tensor at every step: equal, within rounding, or significantly different."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracediff.drift import Series, Track
from tracediff.names import split_slot
from tracediff.onset.copied import in_places
from tracediff.onset.level import Level, spread_of_logits
from tracediff.onset.noise import (
    GradientNorms,
    Key,
    following,
    noise_driven,
    noisy_gradients,
    normalised_layers,
)
from tracediff.onset.past import relaxed, run_wide, scaled
from tracediff.onset.probes import began
from tracediff.onset.roundings import Roundings
from tracediff.onset.spread import LINEAR, Spread
from tracediff.tolerance import (
    CONDITION,
    EPS32,
    GRADIENT_FLOOR,
    NOISE_GRADIENT,
    SLOT_CONDITION,
    STATISTIC_FEEDBACK,
    STATISTIC_UPDATE,
    SYSTEMATIC_UPDATE,
    TOLERANCES,
    UPDATE_ROUNDING,
    UPDATE_TOLERANCE,
    UPDATE_TOLERANCE_BLIND,
    Bound,
    elementwise,
    gradient_condition,
    kind_of,
    tolerance,
)

_FLIP_LOSS = 1e-3
"""With losses further apart than this, a metric that differs needs no excuse."""

_FROM_LOSS = ("loss", "gradient", "applied_gradient", "metric")
"""What is computed from the loss: as coarse as that, whatever else computes in more precision."""

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What is significant about one track, step by step.

    Attributes:
        track: The track.
        before: For state, whether it differs significantly before each step.
        after: The same after the step, or at it for what is observed.
        update: For weights, whether the update itself differs beyond what it inherits.
        tolerance_before: Relative L2 that was allowed before each step.
        tolerance_after: The same after it.
        noise: Where the difference is noise around zero.
        external: For state, where something other than the optimizer changed it, in either run.
        statistic: Whether it is state that moves without being trained.
        start: The step with which the comparison begins.
        behind: How many steps before that the runs differed already, as far as is known.
        bound: The tolerance that a user gave instead, or None. Growth excuses nothing then.
        room: For weights, by what L2 norm an update may differ beyond what it inherits; else None.
        spread: The floor that repeats of a run measure for it, or None.
        modelled: The level that the model alone allows, relative to the largest norm so far.
    """

    track: Track
    before: Flags
    after: Flags
    update: Flags
    tolerance_before: Numbers
    tolerance_after: Numbers
    noise: Flags
    external: Flags
    statistic: bool = False
    start: int = 0
    behind: int = 0
    bound: Bound | None = None
    room: Numbers | None = None
    spread: Spread | None = None
    modelled: Numbers | None = None


def judge(
    tracks: Mapping[Key, Track],
    *,
    about: Mapping[str, Any],
    trainable: Mapping[str, bool | None],
    external: Mapping[Key, Flags],
    norm: Callable[[Track, int], float],
    rows: Callable[[int], int],
    roundings: Roundings,
    moved: Callable[[Track], Numbers] | None = None,
    eps: float = 0.0,
    age: int = 0,
    spread: Mapping[Key, Spread] | None = None,
    same_libraries: bool = False,
) -> dict[Key, Judged]:
    """Judge all tracks.

    Args:
        tracks: Every pair's track, by role and canonical name.
        about: What run A says about its model.
        trainable: For each weight, whether the optimizer updates it.
        external: For state tensors, the steps before which something else changed them.
        norm: The norm of a gradient where both runs agree in it.
        rows: The number of samples in the batch of a step.
        roundings: How many roundings lie on the way to each tensor.
        moved: Estimates the L2 norm of each step's update of a weight whose elements were not kept.
        eps: Machine epsilon in which the runs compute, where that is coarser than what they store;
            up to that of float32, it is the loss that is computed so, and what comes from it.
        age: How many steps the runs have behind them where the comparison begins.
        spread: What repeats of the runs measure of their noise.
        same_libraries: Whether both runs had the same versions of what could prepare their samples.
    """
    floors = spread or {}
    count = len(next(iter(tracks.values())).after) if tracks else 0
    start = began(tracks.values())
    numbers = np.maximum(0, np.arange(count) - start) + age
    norms = GradientNorms(tracks.values(), norm)
    wide = {
        key: _wide(track, numbers, eps)
        for key, track in tracks.items()
        if key[0] in ("gradient", "applied_gradient")
    }
    normalised = normalised_layers(about)
    cancelling = {key: _cancelling(tracks[key], normalised, roundings, eps) for key in wide}
    tiny = {
        key: noisy_gradients(tracks[key], norms, flags, share=max(NOISE_GRADIENT, cancelling[key]))
        for key, flags in wide.items()
    }
    noise = noise_driven(tracks, tiny, wide)
    noise |= following(tracks, noise, about)
    judged: dict[Key, Judged] = {}
    modelled: dict[Key, Numbers] = {}
    entering, drift = np.zeros(count), _weights_drift(tracks, noise, count)
    statistics = {key for key in tracks if key[0] == "weight" and trainable.get(key[1]) is False}
    envelope = run_wide(tracks, noise, statistics, count)
    logits = spread_of_logits(tracks, about, count)
    conditions = {
        **CONDITION,
        "gradient": gradient_condition(roundings.rows, roundings.layers),
    }
    for key, track in _in_turn(tracks):
        role, name = key
        kind = kind_of(role, trainable=trainable.get(name))
        unit = _eps(track, eps)
        way = roundings.to(kind, track.pair.order)
        level = Level.of(kind, numbers, eps=unit, roundings=way, envelope=envelope)
        quiet_steps = noise.get(key, np.zeros(count, bool))
        if track.before is not None:
            begin = start, age
            if role == "slot" and track.pair.layer in normalised:
                # What cancellation leaves in a gradient goes into the slots, at their full size.
                level = level.at_least(_of_gradient(judged, split_slot(name)[0], count))
            modelled[key] = level.grown
            if key in floors:
                level = level.at_least(floors[key].level)
            back = roundings.to("gradient", track.pair.order)
            share = tolerance("gradient", np.zeros(count, np.int64), eps=unit, roundings=back)
            share = np.maximum(SYSTEMATIC_UPDATE, share * logits)
            if kind == "moving statistic":
                # What each move of it is forgiven adds up.
                share = np.maximum(STATISTIC_UPDATE, share)
            unkept = role == "weight" and bool(_unkept(track.after).any())
            if unkept and moved is not None and track.update is not None:
                unmeasured = np.where(track.update["present"], 0.0, moved(track))
                level = level.plus(_of_updates(track, share * unmeasured))
            one = _judge_state(
                track,
                level,
                quiet_steps,
                external.get(key),
                unit,
                begin,
                share=share,
            )
            one = replace(one, statistic=kind == "moving statistic")
            judged[key] = one
            if kind == "weight":
                entering = np.maximum(entering, np.where(one.before, 0.0, one.tolerance_before))
            continue
        # Weights that drifted by rounding carry that into all that is computed from them.
        carried = conditions.get(kind, 0.0) * np.minimum(drift, entering)
        level = level.at_least(carried)
        if kind == "gradient":
            level = level.times(logits)
        modelled[key] = level.grown
        if key in floors:
            level = level.at_least(floors[key].level)
        allowed = level.grown
        if TOLERANCES[kind].accumulates:
            allowed = relaxed(level.within(track, before=False), track.after)
        if kind == "data":
            copied = in_places(track, same_libraries=same_libraries)
            allowed = np.where(copied, 0.0, allowed)
        after = _significant(track.after, allowed, elementwise(kind, eps=unit))
        if kind == "gradient":
            floor = max(GRADIENT_FLOOR * max(1.0, unit / EPS32), cancelling[key])
            after &= ~_below_floor(track, after, allowed, norms, floor)
        if role == "metric":
            after &= ~_few_flips(track, after, tracks, rows)
        zeros = np.zeros(count, bool)
        judged[key] = Judged(
            track, zeros, after & ~quiet_steps, zeros, allowed, allowed, quiet_steps, zeros
        )
    if age and _apart_at(tracks, start):
        judged = {key: replace(one, behind=age) for key, one in judged.items()}
    for key in floors.keys() & judged.keys():
        judged[key] = replace(judged[key], spread=floors[key], modelled=modelled[key])
    return _with_updates(judged, trainable, drift)


def _apart_at(tracks: Mapping[Key, Track], start: int) -> bool:
    """Say whether weights differ before the first step: rounding, or more, lies behind them."""
    return any(
        bool(track.before["differs"][start])
        for (role, _), track in tracks.items()
        if role == "weight" and track.before is not None and start < len(track.before)
    )


def _unkept(cells: Series) -> Flags:
    return np.asarray(cells["estimated"] | cells["at_least"])


def _eps(track: Track, coarse: float) -> float:
    """Return the machine epsilon in which a tensor was computed, where that is ``coarse``."""
    role = track.pair.role
    if track.eps == 0.0 or role == "learning_rate" or (coarse <= EPS32 and role not in _FROM_LOSS):
        return track.eps
    return max(track.eps, coarse)


def _wide(track: Track, numbers: NDArray[np.int64], eps: float) -> Flags:
    allowed = tolerance("gradient", numbers, eps=_eps(track, eps))
    return np.asarray(track.after["differs"] & ~(track.after["relative_l2"] <= allowed))


def _in_turn(tracks: Mapping[Key, Track]) -> list[tuple[Key, Track]]:
    """Return weights first, which all else is computed from, and slots last: of gradients."""
    turns = {"weight": 0, "slot": 2}
    return sorted(tracks.items(), key=lambda item: turns.get(item[0][0], 1))


def _of_gradient(judged: Mapping[Key, Judged], weight: str, count: int) -> Numbers:
    """Return by how much slots may differ for what rounding made of a weight's gradients so far."""
    one = judged.get(("applied_gradient", weight)) or judged.get(("gradient", weight))
    if one is None or not count:
        return np.zeros(count)
    within = np.where(one.after | one.noise, 0.0, scaled(one.track.after))
    return np.asarray(SLOT_CONDITION * np.maximum.accumulate(within))


def _weights_drift(tracks: Mapping[Key, Track], noise: Mapping[Key, Flags], count: int) -> Numbers:
    """Return the relative L2 by which all weights together differ before each step."""
    squares, sizes = np.zeros(count), np.zeros(count)
    for key, track in tracks.items():
        if key[0] == "weight" and track.before is not None:
            quiet = np.r_[False, noise.get(key, np.zeros(count, bool))[:-1]] if count else False
            cells = track.before
            counted = cells["differs"] & cells["known"] & ~quiet
            squares += np.where(counted, cells["norm_difference"], 0.0) ** 2
            sizes += np.where(counted, np.maximum(cells["norm_a"], cells["norm_b"]), 0.0) ** 2
    return np.sqrt(np.divide(squares, sizes, out=np.zeros(count), where=sizes > 0.0))


def _significant(cells: Series, allowed: Numbers, per_element: float) -> Flags:
    sizeable = cells["relative_l2"] > allowed
    if np.isfinite(per_element):
        sizeable |= cells["max_abs"] > per_element * cells["peak"]
    # How far apart unknown values are is unknown; saying that they agree would be a guess.
    beyond = ~cells["known"] | cells["reshaped"] | (cells["mismatched"] > 0) | sizeable
    return np.asarray(cells["present"] & cells["differs"] & beyond)


def _of_updates(track: Track, parts: Numbers, *, behind: float = 0.0) -> Numbers:
    """Return what parts of each update so far, as L2 norms, come to beside the tensor's norm.

    Args:
        track: The weight.
        parts: The parts, step by step.
        behind: What they came to before the first step.
    """
    size = np.nan_to_num(np.maximum(track.after["norm_a"], track.after["norm_b"]))
    together = behind + np.cumsum(np.nan_to_num(parts))
    return np.asarray(np.divide(together, size, out=np.zeros(len(size)), where=size > 0.0))


def _judge_state(
    track: Track,
    level: Level,
    quiet: Flags,
    external: Flags | None,
    eps: float,
    begin: tuple[int, int],
    *,
    share: Numbers,
) -> Judged:
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
        level = level.plus(_of_updates(track, update["noise"] + parts, behind=behind))
    element = np.inf
    changed = external if external is not None else np.zeros(count, bool)
    # Where a step's update is compared as such, it shows what came all at once, and better.
    sudden = np.ones(count, bool) if update is None else ~update["present"]
    earlier = level.earlier().within(track, before=True, where=changed | np.r_[True, sudden][:-1])
    earlier = relaxed(earlier, before)
    allowed = relaxed(level.within(track, before=False, where=sudden), after)
    significant = _significant(before, earlier, np.inf)
    start, age = begin
    if count and age:
        # What both have been through before has left its rounding.
        earlier[start] = allowed[start]
        significant[start] = _significant(before, earlier, np.inf)[start]
    elif count:
        earlier[start] = tolerance("initial state", np.arange(1), eps=eps)[0]
        element = elementwise("initial state", eps=eps)
        first = slice(start, start + 1)
        significant[first] = _significant(before[first], earlier[first], element)
    if count and age:
        # What drives it is noise at this step, as it will have been at those before.
        significant[start] &= not quiet[start]
    if count:
        significant[1:] &= ~quiet[:-1]
    return Judged(
        track=track,
        before=significant,
        after=_significant(after, allowed, np.inf) & ~quiet,
        update=np.zeros(count, bool),
        tolerance_before=earlier,
        tolerance_after=allowed,
        noise=quiet,
        external=changed,
        start=start,
    )


def _cancelling(
    track: Track, normalised: frozenset[str], roundings: Roundings, eps: float
) -> float:
    """Return the share of all gradients that rounding makes of one which is left by cancellation.

    It is the level of a gradient, held against all of them together; 0 for other gradients.
    """
    if track.pair.layer not in normalised:
        return 0.0
    way, unit = roundings.to("gradient", track.pair.order), _eps(track, eps)
    return float(tolerance("gradient", np.zeros(1, np.int64), eps=unit, roundings=way)[0])


def _below_floor(
    track: Track, flagged: Flags, allowed: Numbers, norms: GradientNorms, floor: float
) -> Flags:
    """Say where a gradient differs by no more than cancellation among all of them explains."""
    result = np.zeros(len(flagged), bool)
    for step in map(int, np.flatnonzero(flagged)):
        cell = track.after[step]
        if not cell["known"] or cell["mismatched"]:
            continue
        size = max(float(cell["norm_a"]), float(cell["norm_b"]))
        room = allowed[step] * size + floor * norms.total(track.pair.role, step)
        result[step] = float(cell["norm_difference"]) <= room
    return result


def _few_flips(
    track: Track, flagged: Flags, tracks: Mapping[Key, Track], rows: Callable[[int], int]
) -> Flags:
    """Say where a metric that counts differs by at most two samples, while bits already differ.

    A prediction on the edge falls to either side by rounding; a mean over n samples moves by 1/n.
    """
    result = np.zeros(len(flagged), bool)
    bits, apart = np.zeros(len(flagged), bool), np.zeros(len(flagged), bool)
    for (role, _), other in tracks.items():
        if role in ("loss", "weight", "activation"):
            bits |= other.after["differs"]
        if role == "loss":
            apart |= other.after["relative_l2"] > _FLIP_LOSS
    bits = np.maximum.accumulate(bits)
    for step in map(int, np.flatnonzero(flagged & bits & ~np.maximum.accumulate(apart))):
        count = rows(step)
        result[step] = count > 0 and float(track.after[step]["max_abs"]) * count <= 2.0
    return result


def _with_updates(
    judged: dict[Key, Judged], trainable: Mapping[str, bool | None], drift: Numbers
) -> dict[Key, Judged]:
    """Add, for each weight, where its update differs beyond what it inherits."""
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


def _carried(track: Track, drift: Numbers) -> Numbers:
    """Return how far drifting weights, and its own drift, may carry a moving statistic apart."""
    assert track.update is not None
    assert track.before is not None
    own = np.nan_to_num(track.before["norm_difference"])
    weights = CONDITION["gradient"] * drift * np.maximum.accumulate(track.update["norm"])
    return np.asarray(STATISTIC_FEEDBACK * own + weights)
