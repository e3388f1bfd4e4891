"""What a ladder of controls consists of: rungs, and the places in which causes lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tracediff.model import Comparison, Finding

Control = Literal["none", "start", "batches", "lockstep"]
Part = Literal[
    "initialisation", "data", "layers and loss", "optimizer", "non-trained state", "sums"
]


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """One controlled run of B.

    Attributes:
        control: What was taken from A.
        path: Its trace.
        comparison: With A.
        final_loss: Its mean loss over the last epoch; NaN where none was recorded.
        gap: That less A's.
        uncontrolled: Layers that drew random numbers of their own.
        left: State that was not carried over, by name, each with the reason.
    """

    control: Control
    path: str
    comparison: Comparison
    final_loss: float
    gap: float
    uncontrolled: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the training in which a cause lies.

    Attributes:
        part: The part.
        shown: The sentence that the rungs support it with.
        share: The share of the uncontrolled gap of the final loss that goes away with it, as far as
            it can be told; None where there is no gap. May be negative, or above 1: gaps can
            cancel.
        shared_with: Other parts that ``share`` is of, too: one rung controls them together.
        causes: What the comparisons found there, best first.
    """

    part: Part
    shown: str
    share: float | None
    shared_with: tuple[Part, ...] = ()
    causes: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """All rungs and what they say together.

    Attributes:
        a: A's path.
        final_loss: A's mean loss over its last epoch.
        rungs: Lowest first.
        places: Where causes lie; empty where the runs agree without control.
    """

    a: str
    final_loss: float
    rungs: tuple[Rung, ...]
    places: tuple[Place, ...]

    @property
    def agree(self) -> bool:
        """Whether nothing needs to be controlled for the runs to agree."""
        return self.rungs[0].comparison.agree

    @property
    def uncontrolled(self) -> tuple[str, ...]:
        """Layers that drew random numbers of their own in any rung."""
        return tuple(dict.fromkeys(name for rung in self.rungs for name in rung.uncontrolled))

    @property
    def left(self) -> Mapping[str, str]:
        """State that not even the last rung took from A, by name, each with the reason."""
        return self.rungs[-1].left
