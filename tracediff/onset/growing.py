"""Tell rounding that grows from a cause: chaos grows smoothly, a cause comes in with a jump.

Training amplifies differences; two correct runs part after some hundred steps. Such a crossing of
the tolerance has a history: non-zero for many steps, and never more than a small factor a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Series
from tracediff.onset.judged import Judged
from tracediff.onset.past import reached, scaled
from tracediff.tolerance import (
    GROWTH_FACTOR,
    GROWTH_STEPS,
    KINK_STEPS,
    KINK_WINDOW,
    STATISTIC_FACTOR,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grown(
    one: Judged,
    cells: Series,
    envelope: NDArray[np.float64],
    *,
    before: bool,
    gradient: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Say at which steps a difference is what earlier rounding may have grown to.

    It must have been non-zero at `GROWTH_STEPS` earlier steps, and be at most `GROWTH_FACTOR` times
    the largest relative drift so far: of the tensor itself, or of the run as a whole. Moving
    statistics amplify nothing and enter no step: they may only follow the run, by
    `STATISTIC_FACTOR`. A weight, or a slot, may also follow the gradient of the same step: behind a
    softmax whose logits are far apart, most rows of a batch have no gradient to speak of, and now
    and then one that falls between two classes has, by as much as drifting weights move it.

    Args:
        one: The track, judged.
        cells: Its cells before or after each step.
        envelope: What `run_wide` returned.
        before: Whether ``cells`` are those before each step.
        gradient: How far the gradient differs that each step moved it by, where rounding explains
            that; None where there is none.
    """
    count = len(cells)
    if not count:
        return np.zeros(0, bool)
    history = steps_apart(one)
    past = reached(one.track, envelope, before=before, statistic=one.statistic)
    if gradient is not None:
        past = np.maximum(past, np.r_[0.0, gradient][:-1] if before else gradient)
    if before:
        history = np.r_[one.behind, history[:-1]]
    factor = STATISTIC_FACTOR if one.statistic else GROWTH_FACTOR
    smooth = scaled(cells) <= factor * past
    known = cells["known"] & ~cells["reshaped"] & (cells["mismatched"] == 0)
    return np.asarray(smooth & known & (history >= GROWTH_STEPS))


def passing(one: Judged, flags: NDArray[np.bool_], spoilt: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say where a significant difference is a kink that rounding crossed, and has passed.

    A unit at the edge of its activation (or a maximum between near equals) falls to either side by
    rounding, and a gradient differs for a step. It must have been non-zero at `GROWTH_STEPS`
    earlier steps, be gone soon, and leave no weight beyond what smooth growth explains.

    Args:
        one: The track, judged, of something observed.
        flags: Where it differs significantly.
        spoilt: Steps at which a weight differs beyond smooth growth.
    """
    count = len(flags)
    result = np.zeros(count, bool)
    lasting = np.maximum.accumulate(spoilt) if count else spoilt
    history = steps_apart(one)
    drift = np.nan_to_num(one.track.after["relative_l2"], nan=np.inf)
    for step in map(int, np.flatnonzero(flags & (history >= GROWTH_STEPS))):
        end = step + KINK_WINDOW
        later = drift[step + 1 : end]
        if step + KINK_STEPS >= count or np.count_nonzero(flags[step:end]) > KINK_STEPS:
            continue  # It lasts, or the run ends before that can be seen.
        fallen = float(np.median(later)) <= drift[step] / GROWTH_FACTOR
        result[step] = fallen and not lasting[min(step + 1, count - 1)]
    return result


def steps_apart(one: Judged) -> NDArray[np.int64]:
    """Return at how many earlier steps the values differed, with those behind the comparison."""
    cells = one.track.after
    # A lower bound of 0 says nothing; a difference of size 0 is in the sign of a zero.
    differs = cells["differs"] & ((cells["relative_l2"] > 0.0) | cells["at_least"])
    history: NDArray[np.int64] = one.behind + np.cumsum(differs) - differs
    return history
