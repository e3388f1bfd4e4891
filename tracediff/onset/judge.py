"""Judge every tensor at every step: equal, within rounding, or significantly different."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import Series, Track
from tracediff.names import split_slot
from tracediff.onset.copied import in_places
from tracediff.onset.judged import Flags, Judged, Numbers, significant
from tracediff.onset.level import Level, spread_of_logits
from tracediff.onset.moves import with_updates
from tracediff.onset.noise import (
    GradientNorms,
    Key,
    following,
    noise_driven,
    noisy_gradients,
    normalised_layers,
)
from tracediff.onset.past import relaxed, run_wide
from tracediff.onset.probes import began
from tracediff.onset.roundings import Roundings
from tracediff.onset.spread import Spread
from tracediff.onset.states import judge_state, of_gradient, of_updates
from tracediff.tolerance import (
    CONDITION,
    EPS32,
    GRADIENT_FLOOR,
    NOISE_GRADIENT,
    STATISTIC_UPDATE,
    SYSTEMATIC_UPDATE,
    TOLERANCES,
    elementwise,
    gradient_condition,
    kind_of,
    tolerance,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLIP_LOSS = 1e-3
"""With losses further apart than this, a metric that differs needs no excuse."""

_FROM_LOSS = ("loss", "gradient", "applied_gradient", "metric")
"""What is computed from the loss: as coarse as that, whatever else computes in more precision."""


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
                level = level.at_least(of_gradient(judged, split_slot(name)[0], count))
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
                level = level.plus(of_updates(track, share * unmeasured))
            one = judge_state(
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
        after = significant(track.after, allowed, elementwise(kind, eps=unit))
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
    return with_updates(judged, trainable, drift, eps=eps)


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
