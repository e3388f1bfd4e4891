"""Leave of what differs significantly only what growth of rounding does not explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Series
from tracediff.model import Moment
from tracediff.names import split_slot
from tracediff.onset.growing import grown, passing
from tracediff.onset.judged import Judged
from tracediff.onset.noise import Key
from tracediff.onset.past import run_wide, scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOT_MEMORY = 50
"""Steps for which a slot remembers one gradient: 0.9^50 is half a percent."""
_KINKED = ("activation", "loss", "gradient", "applied_gradient", "metric")


def causal(judged: Mapping[Key, Judged], count: int) -> dict[Key, Judged]:
    """Return what is judged, less what growth of rounding explains.

    Args:
        judged: Every track, judged.
        count: The number of steps.
    """
    tracks, noise = {}, {}
    for key, one in judged.items():
        tracks[key], noise[key] = one.track, one.noise
    statistics = {key for key, one in judged.items() if one.statistic}
    envelope = run_wide(tracks, noise, statistics, count)
    kinks = _kinks(judged, envelope, count)
    result = dict(judged)
    for key, one in judged.items():
        gradient = _forgiven(judged, key, envelope)
        for moment, cells, flags in one.moments():
            rest = _unexplained(key, one, moment, cells, flags, envelope, gradient)
            if one.bound is not None:
                pass
            elif key[0] in _KINKED:
                rest &= ~kinks[key]
            elif key[0] == "slot":
                rest &= ~_after_kink(kinks, split_slot(key[1])[0], count)
            result[key] = result[key].with_flags(moment, rest)
    return result


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
