"""The order of what happens in a step, as sort keys, and which probe is computed from which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Track
from tracediff.model import STAGE_OF_ROLE, STAGES, Moment, Quantity, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DATA_ROLES = ("input", "label", "sample_weight")

PlaceKey = tuple[int, int, tuple[float, ...], str]
"""Sorts places in a run: step, stage, position within the stage, name."""


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor at one point of one step."""

    step: int
    stage: Stage
    track: Track
    moment: Moment
    quantity: Quantity = "value"

    @property
    def key(self) -> PlaceKey:
        """Sorts places by when they happen."""
        position = _position(self.track, self.stage)
        return self.step, STAGES.index(self.stage), position, self.track.pair.name


def stage_of(role: str, moment: Moment) -> Stage:
    """Return the stage in which a tensor of ``role`` is seen.

    Example:
        >>> stage_of("slot", "before"), stage_of("slot", "after"), stage_of("loss", "after")
        ('state', 'update', 'loss')
    """
    if role in ("weight", "slot"):
        return "state" if moment == "before" else "update"
    return STAGE_OF_ROLE[role]


def _position(track: Track, stage: Stage) -> tuple[float, ...]:
    role, order = track.pair.role, float(track.pair.order)
    if stage == "data":
        return (float(_DATA_ROLES.index(role)), order)
    if stage == "gradient":
        # The backward pass comes by the last layer first.
        return (float(role == "applied_gradient"), -order)
    if stage == "update":
        # An optimizer works out a weight's slots, then the weight.
        return (float(role != "learning_rate"), order, float(role == "weight"))
    return (order, float(role == "slot"))


def began(tracks: Iterable[Track]) -> int:
    """Return the first step at which both runs have something: where their comparison begins."""
    firsts = (first_true(track.after["present"]) for track in tracks)
    return min((first for first in firsts if first is not None), default=0)


def first_true(flags: NDArray[np.bool_]) -> int | None:
    """Return the index of the first True, or None.

    Example:
        >>> first_true(np.array([False, True])), first_true(np.array([False]))
        (1, None)
    """
    return int(np.argmax(flags)) if flags.any() else None
