"""What judging says of one tensor: where it differs significantly, and what was allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tracediff.drift import Series, Track
from tracediff.model import Moment
from tracediff.onset.spread import Spread
from tracediff.tolerance import Bound

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

    def moments(self) -> Iterator[tuple[Moment, Series, Flags]]:
        """Yield when it is there, with its cells and where it differs significantly then."""
        if self.track.before is not None:
            yield "before", self.track.before, self.before
        yield "after", self.track.after, self.after

    def with_flags(self, moment: Moment, flags: Flags) -> Judged:
        """Return it with other places at which it differs significantly at one moment."""
        return replace(self, before=flags) if moment == "before" else replace(self, after=flags)


def significant(cells: Series, allowed: Numbers, per_element: float) -> Flags:
    """Say at which steps a difference is more than what is allowed, as a whole or of an element.

    Args:
        cells: What was measured.
        allowed: Relative L2 for each step; float64 (steps,).
        per_element: Of the largest difference, relative to the largest element; infinite for any.
    """
    sizeable = cells["relative_l2"] > allowed
    if np.isfinite(per_element):
        sizeable |= cells["max_abs"] > per_element * cells["peak"]
    # How far apart unknown values are is unknown; saying that they agree would be a guess.
    beyond = ~cells["known"] | cells["reshaped"] | (cells["mismatched"] > 0) | sizeable
    return np.asarray(cells["present"] & cells["differs"] & beyond)
