"""What the report says of the noise floor: which one was used, and how near differences came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tracediff.model import Floor, FloorSource, Repeat
from tracediff.onset import Judged, Onset, Place

if TYPE_CHECKING:
    from numpy.typing import NDArray


def floor_of(onset: Onset, repeats: tuple[Repeat, ...], *, bounded: bool) -> Floor:
    """Return the noise floor of a comparison.

    Args:
        onset: What was found.
        repeats: The repeats that measured it, if any.
        bounded: Whether the user gave tolerances instead.
    """
    source: FloorSource = "repeats" if repeats else "model"
    if bounded:
        source = "tolerances"
    most, where = math.nan, None
    for key, one in onset.judged.items():
        times = over_floor(one)
        quiet = (times <= 1.0) & ~one.noise
        if quiet.any():
            step = int(np.argmax(np.where(quiet, times, -1.0)))
            if not times[step] <= most:
                most, where = float(times[step]), (step, *key)
    step_, role, tensor = where or (None, None, None)
    bounds_only = any(bool(one.track.after["at_least"].any()) for one in onset.judged.values())
    return Floor(
        source,
        repeats,
        most,
        step_,
        role,
        tensor,
        grown=len(onset.chaotic),
        at_least=bounds_only,
    )


def over_floor(one: Judged) -> NDArray[np.float64]:
    """Return for each step a tensor's drift after it in terms of its floor's level.

    NaN where nothing differs, the size of it is not known, or there is no level.
    """
    cells = one.track.after
    known = cells["differs"] & cells["known"] & cells["present"]
    if one.bound is not None and np.isinf(one.bound.atol):
        return np.full(len(cells), np.nan)
    if one.bound is not None:
        drift, level = cells["max_abs"], one.bound.allowed(cells["peak"])
    else:
        drift, level = cells["relative_l2"], one.tolerance_after
    result = np.full(len(cells), np.nan)
    counted = known & (level > 0.0) & np.isfinite(level) & np.isfinite(drift)
    return np.asarray(np.divide(drift, level, out=result, where=counted))


def largest_over_floor(one: Judged) -> float | None:
    """Return a tensor's largest drift of any step in terms of its floor's level, or None."""
    times = over_floor(one)
    known = times[~np.isnan(times)]
    return float(known.max()) if known.size else None


def source_at(one: Judged, place: Place) -> FloorSource:
    """Return where the floor of one tensor at one place is from."""
    if one.bound is not None and place.quantity == "value":
        return "tolerances"
    if one.spread is None:
        return "model"
    if place.quantity == "update":
        measured = max(one.spread.update[place.step], one.spread.moves[place.step])
        decides = one.room is not None and bool(one.room[place.step] <= measured)
    else:
        before = place.moment == "before" and one.track.state
        if before and place.step == one.start:
            return "model"  # Repeats begin with the same state.
        step = place.step - before
        assert one.modelled is not None  # What has a spread was judged by the model, too.
        decides = bool(one.spread.level[step] >= one.modelled[step])
    return "repeats" if decides else "model"
