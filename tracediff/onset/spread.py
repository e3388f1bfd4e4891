"""How far repeats of one run are apart: the noise floor where it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Track
from tracediff.onset.noise import Key
from tracediff.onset.past import scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]


LINEAR = 1e-2
"""Noise of gradients up to which what goes into an update tells how far the update may be off.

The parts of an update (momentum and gradient) cancel in some of its elements: what little is left
there differs by far more than its parts do, relative to itself.
"""
FEW = 10
"""Numbers whose differences are unlikely to be all small by chance; a loss has one a step."""


def safety_factor(repeats: int) -> float:
    """Return how many times the largest difference among repeats one more may be.

    The size of what chaos makes of rounding scatters by orders of magnitude, so its logarithm is
    what has a spread: a decade for a single repeat, and, as of any estimate from n of them, 1 /
    sqrt(n) of that for more.

    Args:
        repeats: How many repeats of a run there are, the run itself not counted; at least 1.

    Example:
        >>> [round(safety_factor(n), 1) for n in (1, 2, 4, 9)]
        [10.0, 5.1, 3.2, 2.2]
    """
    return float(10.0 ** (1.0 / np.sqrt(repeats)))


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The floor that repeats measure for one tensor.

    Attributes:
        level: For each step, the largest relative drift up to it of any two of them after the step
            (at it, for what is observed), relative to the largest norm so far; times the factor.
        update: For each step, the largest part of an update up to it that its inputs do not
            explain, as an L2 norm; times the factor. Zeros but for weights.
        moves: The same of the whole difference of the updates.
    """

    level: Numbers
    update: Numbers
    moves: Numbers


def spread_of(
    among: Iterable[Mapping[Key, Track]], *, factor: float, steps: int
) -> dict[Key, Spread]:
    """Return the spread of every tensor.

    What was reached once counts from then on, since differences are large at some steps by chance
    and small at others. Of tensors of less than `FEW` numbers, so many steps are looked at together
    that they make as many.

    Args:
        among: The tracks of every two of the repeats, by A's names and at A's steps.
        factor: What `safety_factor` returned.
        steps: How many steps are compared.
    """
    levels: dict[Key, Numbers] = {}
    updates: dict[Key, Numbers] = {}
    moves: dict[Key, Numbers] = {}
    for tracks in among:
        for key, track in tracks.items():
            found = _reached(track, steps)
            levels[key] = np.maximum(levels.get(key, 0.0), found)
            for parts, name in ((updates, "unexplained"), (moves, "norm_difference")):
                rest = np.zeros(steps)
                if track.update is not None and steps:
                    rest = np.maximum.accumulate(np.nan_to_num(track.update[name]))
                parts[key] = np.maximum(parts.get(key, 0.0), rest)
    return {
        key: Spread(factor * levels[key], factor * updates[key], factor * moves[key])
        for key in levels
    }


def _reached(track: Track, steps: int) -> Numbers:
    """Return the largest drift up to each step, of a few numbers also shortly after it."""
    if not steps:
        return np.zeros(0)
    size = max(1, int(track.after["size"].max()))
    later = np.minimum(np.arange(steps) + -(-FEW // size) - 1, steps - 1)
    return np.asarray(np.maximum.accumulate(scaled(track.after))[later])


def widest(one: Mapping[Key, Spread], other: Mapping[Key, Spread]) -> dict[Key, Spread]:
    """Return of two floors the higher, tensor by tensor and step by step."""
    result = {**other, **one}
    for key in one.keys() & other.keys():
        left, right = one[key], other[key]
        result[key] = Spread(
            np.maximum(left.level, right.level),
            np.maximum(left.update, right.update),
            np.maximum(left.moves, right.moves),
        )
    return result
