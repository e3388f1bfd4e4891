"""What rounding explains of one tensor at every step: level, and growth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import Track
from tracediff.onset.noise import Key
from tracediff.onset.past import reachable
from tracediff.tolerance import tolerance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """What rounding explains of one tensor, relative to its largest norm so far.

    Attributes:
        grown: With all that may have added up by each step.
        steady: Of a single step.
        envelope: How far the run as a whole had drifted by each step.
    """

    grown: Numbers
    steady: Numbers
    envelope: Numbers

    @classmethod
    def of(
        cls,
        kind: str,
        steps: NDArray[np.int64],
        *,
        eps: float,
        roundings: float,
        envelope: Numbers,
    ) -> Level:
        """Return the level of a kind of tensor.

        Args:
            kind: A row of the table of tolerances.
            steps: How many steps lie behind each.
            eps: Machine epsilon.
            roundings: How many lie on the way to the tensor.
            envelope: How far the run as a whole had drifted by each step.
        """
        first = np.full(len(steps), steps[:1].sum())
        return cls(
            grown=tolerance(kind, steps, eps=eps, roundings=roundings),
            steady=tolerance(kind, first, eps=eps, roundings=roundings),
            envelope=envelope,
        )

    def at_least(self, other: Numbers) -> Level:
        """Return the level, raised to ``other`` where that is more."""
        raised = np.maximum(self.grown, other), np.maximum(self.steady, other)
        return replace(self, grown=raised[0], steady=raised[1])

    def plus(self, other: Numbers) -> Level:
        """Return the level and ``other`` together."""
        return replace(self, grown=self.grown + other, steady=self.steady + other)

    def times(self, factor: Numbers) -> Level:
        """Return the level times a factor."""
        return replace(self, grown=self.grown * factor, steady=self.steady * factor)

    def within(self, track: Track, *, before: bool, where: Flags | None = None) -> Numbers:
        """Return what is allowed of a drift whose growth fits; growth counts ``where`` it says."""
        found = reachable(self.grown, self.steady, track, self.envelope, before=before)
        return found if where is None else np.where(where, found, self.grown)

    def earlier(self) -> Level:
        """Return the level of what stands before each step: that after the one before."""
        grown, steady = (np.r_[0.0, one][:-1] for one in (self.grown, self.steady))
        return replace(self, grown=grown, steady=steady)


def spread_of_logits(
    tracks: Mapping[Key, Track], about: Mapping[str, Any], count: int
) -> NDArray[np.float64]:
    """Return by how much a softmax magnifies relative errors of what goes into it, at least 1.

    A probability p = exp(z) / sum exp(z) has the relative error of the absolute error of z, which
    is the relative one times |z|. A cross-entropy of L says that logits are L apart.
    """
    about_compile = about.get("compile")
    loss = about_compile.get("loss") if isinstance(about_compile, Mapping) else None
    result = np.ones(count)
    if "crossentropy" in str(loss).lower().replace("_", ""):
        for (role, _), track in tracks.items():
            if role == "loss":
                values = np.maximum(track.after["norm_a"], track.after["norm_b"])
                result = np.maximum(result, np.nan_to_num(values, posinf=0.0))
    return result
