"""How far a run had drifted before each step: what later differences are held against."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Series, Track
from tracediff.onset.noise import Key
from tracediff.tolerance import GROWTH_FACTOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Flags = NDArray[np.bool_]


def reference(cells: Series) -> Numbers:
    """Return the largest norm that a tensor has had so far, at the steps where it is known.

    Training makes losses and gradients small as differences of numbers that stay large, and their
    rounding errors stay with those.
    """
    sizes = np.nan_to_num(np.maximum(cells["norm_a"], cells["norm_b"]))
    return np.asarray(np.maximum.accumulate(sizes) if len(sizes) else sizes)


def relaxed(allowed: Numbers, cells: Series) -> Numbers:
    """Return a tolerance on the largest norm so far as one on the norm of each step."""
    sizes = np.nan_to_num(np.maximum(cells["norm_a"], cells["norm_b"]))
    factor = np.divide(reference(cells), sizes, out=np.ones(len(sizes)), where=sizes > 0.0)
    return np.asarray(allowed * factor)


def scaled(cells: Series) -> Numbers:
    """Return the drift relative to the largest norm so far; 0 where it is not known."""
    sizes = reference(cells)
    difference = np.nan_to_num(cells["norm_difference"], nan=0.0)
    return np.asarray(
        np.divide(difference, sizes, out=np.zeros(len(cells)), where=sizes > 0.0), np.float64
    )


def run_wide(
    tracks: Mapping[Key, Track],
    noise: Mapping[Key, Flags],
    statistics: AbstractSet[Key],
    count: int,
) -> Numbers:
    """Return the running maximum over steps of how far all weights, or gradients, differ.

    Args:
        tracks: All tracks.
        noise: Where differences are noise, which counts for nothing.
        statistics: State that moves without being trained: it enters no step of training.
        count: How many steps are compared.
    """
    result = np.zeros(count)
    for role in ("weight", "gradient", "applied_gradient"):
        squares, sizes = np.zeros(count), np.zeros(count)
        for key, track in tracks.items():
            if key[0] == role and key not in statistics:
                cells = track.after
                counted = cells["differs"] & cells["known"]
                if key in noise:
                    counted &= ~noise[key]
                squares += np.where(counted, cells["norm_difference"], 0.0) ** 2
                sizes += np.where(counted, reference(cells), 0.0) ** 2
        drift = np.sqrt(np.divide(squares, sizes, out=np.zeros(count), where=sizes > 0.0))
        result = np.maximum(result, drift)
    return np.maximum.accumulate(result) if count else result


def reached(track: Track, envelope: Numbers, *, before: bool, statistic: bool = False) -> Numbers:
    """Return the largest relative drift before each step, of a tensor or of the run as a whole.

    Args:
        track: The tensor.
        envelope: What `run_wide` returned.
        before: Whether it is for what stands before each step.
        statistic: Whether only the run as a whole counts.
    """
    own = np.maximum.accumulate(scaled(track.after)) if len(envelope) else envelope
    past = np.r_[0.0, envelope if statistic else np.maximum(own, envelope)][:-1]
    # What stands before a step is what the step before left: it is judged by the same past.
    return np.asarray(np.r_[0.0, past][:-1] if before else past)


def reachable(
    allowed: Numbers, steady: Numbers, track: Track, envelope: Numbers, *, before: bool
) -> Numbers:
    """Return what is allowed of a drift whose growth fits: none but by steps of growth.

    Rounding adds up over the steps, it does not come all at once. What is allowed at late steps
    must have been grown into; the level of a single step is allowed at any.

    Args:
        allowed: Relative to `reference`, the level with all that may have added up.
        steady: The level of a single step.
        track: The tensor.
        envelope: What `run_wide` returned.
        before: Whether it is for what stands before each step.
    """
    past = reached(track, envelope, before=before)
    return np.asarray(np.minimum(allowed, np.maximum(steady, GROWTH_FACTOR * past)))
