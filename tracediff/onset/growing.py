"""Tell rounding that grows from a cause: chaos grows smoothly, a cause comes in with a jump.

Training amplifies differences; two correct runs part after some hundred steps. Such a crossing of
the tolerance has a history: non-zero for many steps, and never more than a small factor a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Series, Track
from tracediff.onset.judge import Judged, reference
from tracediff.onset.noise import Key
from tracediff.tolerance import (
    GROWTH_FACTOR,
    GROWTH_STEPS,
    KINK_STEPS,
    KINK_WINDOW,
    STATISTIC_FACTOR,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def run_wide(judged: Mapping[Key, Judged], count: int) -> NDArray[np.float64]:
    """Return the running maximum over steps of how far all weights, or gradients, differ."""
    result = np.zeros(count)
    for role in ("weight", "gradient", "applied_gradient"):
        squares, sizes = np.zeros(count), np.zeros(count)
        for (kind, _), one in judged.items():
            if kind == role:
                cells = one.track.after
                counted = cells["differs"] & cells["known"] & ~one.noise
                squares += np.where(counted, cells["norm_difference"], 0.0) ** 2
                sizes += np.where(counted, reference(cells), 0.0) ** 2
        drift = np.sqrt(np.divide(squares, sizes, out=np.zeros(count), where=sizes > 0.0))
        result = np.maximum(result, drift)
    return np.maximum.accumulate(result) if count else result


def grown(
    one: Judged, cells: Series, envelope: NDArray[np.float64], *, before: bool
) -> NDArray[np.bool_]:
    """Say at which steps a difference is what earlier rounding may have grown to.

    It must have been non-zero at `GROWTH_STEPS` earlier steps, and be at most `GROWTH_FACTOR` times
    the largest relative drift so far: of the tensor itself, or of the run as a whole. Moving
    statistics amplify nothing and enter no step: they may only follow the run, by
    `STATISTIC_FACTOR`.

    Args:
        one: The track, judged.
        cells: Its cells before or after each step.
        envelope: What `run_wide` returned.
        before: Whether ``cells`` are those before each step.
    """
    count = len(cells)
    if not count:
        return np.zeros(0, bool)
    history = _history(one.track)
    own = np.maximum.accumulate(_scaled(one.track.after))
    reached = envelope if one.statistic else np.maximum(own, envelope)
    past = np.r_[0.0, reached[:-1]]
    if before:
        # What stands before a step is what the step before left: judge it by the same past.
        past, history = np.r_[0.0, past[:-1]], np.r_[0, history[:-1]]
    factor = STATISTIC_FACTOR if one.statistic else GROWTH_FACTOR
    smooth = _scaled(cells) <= factor * past
    known = cells["known"] & ~cells["reshaped"] & (cells["mismatched"] == 0)
    return np.asarray(smooth & known & (history >= GROWTH_STEPS))


def passing(track: Track, flags: NDArray[np.bool_], spoilt: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say where a significant difference is a kink that rounding crossed, and has passed.

    A unit at the edge of its activation (or a maximum between near equals) falls to either side by
    rounding, and a gradient differs for a step. It must have been non-zero at `GROWTH_STEPS`
    earlier steps, be gone soon, and leave no weight beyond what smooth growth explains.

    Args:
        track: The track, of something observed.
        flags: Where it differs significantly.
        spoilt: Steps at which a weight differs beyond smooth growth.
    """
    count = len(flags)
    result = np.zeros(count, bool)
    lasting = np.maximum.accumulate(spoilt) if count else spoilt
    history = _history(track)
    drift = np.nan_to_num(track.after["relative_l2"], nan=np.inf)
    for step in map(int, np.flatnonzero(flags & (history >= GROWTH_STEPS))):
        end = step + KINK_WINDOW
        later = drift[step + 1 : end]
        if step + KINK_STEPS >= count or np.count_nonzero(flags[step:end]) > KINK_STEPS:
            continue  # It lasts, or the run ends before that can be seen.
        fallen = float(np.median(later)) <= drift[step] / GROWTH_FACTOR
        result[step] = fallen and not lasting[min(step + 1, count - 1)]
    return result


def _history(track: Track) -> NDArray[np.int64]:
    """Return at how many earlier steps the values differed."""
    differs = track.after["differs"] & (track.after["relative_l2"] > 0.0)
    history: NDArray[np.int64] = np.cumsum(differs) - differs
    return history


def _scaled(cells: Series) -> NDArray[np.float64]:
    """Return the drift relative to the largest norm so far; 0 where it is not known."""
    sizes = reference(cells)
    difference = np.nan_to_num(cells["norm_difference"], nan=0.0)
    return np.asarray(
        np.divide(difference, sizes, out=np.zeros(len(cells)), where=sizes > 0.0), np.float64
    )
