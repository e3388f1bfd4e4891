"""Everything that comparing two runs found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tracediff.model.causes import Finding
from tracediff.model.differences import Difference
from tracediff.model.drift import DriftRow
from tracediff.model.floor import Floor
from tracediff.model.layers import LayerRow
from tracediff.model.lockstep import Lockstep
from tracediff.model.pairs import Pair, Unpaired

Verdict = Literal["identical", "rounding", "diverged"]


@dataclass(frozen=True, slots=True)
class Steps:
    """How many steps each run has and which were compared.

    Attributes:
        a: Steps of A.
        b: Steps of B.
        compared: How many steps of A have a partner.
        alignment: How steps were told: ``number``, ``iteration``, ``state`` or ``batches``.
        offset: What to add to a step of A for its partner; None where that is no one number.
        reason: Why these steps, in a sentence; None where those of one number belong together.
    """

    a: int
    b: int
    compared: int
    alignment: str = "number"
    offset: int | None = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a report says about one run."""

    path: str
    steps: int
    status: str
    level: str
    stack: str
    optimizer: str | None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Everything that comparing two runs found.

    Attributes:
        a: The first run.
        b: The second run.
        verdict: ``identical``, ``rounding`` or ``diverged``.
        first_bit_difference: The first difference of any size, or None.
        first_divergence: The first difference beyond rounding, or None.
        causes: What explains the divergence, best first.
        drift: A row for every compared tensor, in execution order.
        pairs: Which tensors were taken to be the same.
        unpaired: Those without a partner.
        steps: Which steps were compared.
        notes: What a reader should know besides: versions, incomplete traces, other dtypes.
        bounded: Whether tolerances were given; ``rounding`` means within those, too, then.
        lockstep: Where B began every step with A's state, what single steps make other; else None.
        layers: A row for every layer of which a tensor was compared, in execution order.
        floor: The noise floor that was used, and how near differences came to it.
    """

    a: RunSummary
    b: RunSummary
    verdict: Verdict
    first_bit_difference: Difference | None
    first_divergence: Difference | None
    causes: tuple[Finding, ...]
    drift: tuple[DriftRow, ...]
    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]
    steps: Steps
    notes: tuple[str, ...] = field(default=())
    bounded: bool = False
    lockstep: Lockstep | None = None
    layers: tuple[LayerRow, ...] = ()
    floor: Floor | None = None

    @property
    def agree(self) -> bool:
        """Whether the runs are the same up to rounding."""
        return self.verdict != "diverged"
