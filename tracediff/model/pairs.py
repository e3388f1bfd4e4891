"""Which tensors of two runs were taken to be the same thing, and which have no partner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracediff.model.stages import Side


@dataclass(frozen=True, slots=True)
class Pair:
    """One tensor of A and the tensor of B that is taken to be the same thing.

    Attributes:
        role: Role of both.
        name: Canonical name; A's where the two differ.
        a: Name in A, or None where A has none and an implied value stands for it.
        b: Name in B, likewise.
        layer: Canonical name of the layer in A, or None.
        order: Execution order in A.
        reason: Why these two: ``"same name"``, or how another name was matched.
        confidence: How sure the pairing is, 0 to 1.
        note: What differs about the pair although its values may agree, or None.
        layout: What brings B's values into A's layout: adapters as docs/mapping.md describes them.
            Empty where both have one layout.
        layout_a: What brings A's values into B's layout, where A holds in one tensor what B holds
            in several, or summands of what B holds as one.
        scaled_by: What B's values are divided by before they are compared: the scale of the loss,
            as a slot of B or a number. None for nothing.
        scaled_by_a: What A's values are divided by, likewise.
    """

    role: str
    name: str
    a: str | None
    b: str | None
    layer: str | None = None
    order: int = 0
    reason: str = "same name"
    confidence: float = 1.0
    note: str | None = None
    layout: tuple[Mapping[str, Any], ...] = ()
    layout_a: tuple[Mapping[str, Any], ...] = ()
    scaled_by: str | float | None = None
    scaled_by_a: str | float | None = None

    @property
    def divided(self) -> bool:
        """Whether the scale of the loss is taken off the values of either run."""
        return self.scaled_by is not None or self.scaled_by_a is not None

    @property
    def key(self) -> tuple[str, str]:
        """Role and canonical name: unique in a comparison."""
        return self.role, self.name


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A tensor that only one run has, or that has another shape in the other.

    Attributes:
        side: The run that has it.
        role: Its role.
        tensor: Its name in that run.
        layer: Its layer, or None.
        shape: Its shape, or None where it varies.
        reason: Why it has no partner.
        matters: Whether the runs can differ because of it.
        nearest: The tensor of the other run, without a partner too, that comes nearest, or None.
        nearest_shape: The shape of that one.
    """

    side: Side
    role: str
    tensor: str
    layer: str | None
    shape: tuple[int, ...] | None
    reason: str
    matters: bool
    nearest: str | None = None
    nearest_shape: tuple[int, ...] | None = None
