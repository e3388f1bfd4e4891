"""Where two runs differ: one tensor at one place in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tracediff.model.floor import FloorSource
from tracediff.model.stages import Moment, Stage

Quantity = Literal["value", "update"]


@dataclass(frozen=True, slots=True)
class WorstElement:
    """The element of a tensor that differs most.

    Attributes:
        index: Where it stands in the tensor (trailing unit axes dropped).
        a: Its value in A.
        b: Its value in B.
    """

    index: tuple[int, ...]
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two runs differ: one tensor at one place in one step.

    Attributes:
        step: Number of the step in A, from 0.
        stage: What the step was doing.
        tensor: Canonical name.
        role: Its role.
        layer: Its layer, or None.
        moment: ``before`` or ``after`` the update for state, else None.
        quantity: ``update`` where the change of a weight was compared, not the weight.
        origin: Whether everything the tensor was computed from agrees.
        epoch: Epoch in A.
        batch: Batch within the epoch in A.
        relative_l2: Norm of the difference over the larger norm; NaN where undefined or unknown.
        max_abs: Largest absolute difference.
        max_ulp: Largest distance in units in the last place, or None for other than floats.
        tolerance: The relative L2 that rounding explains here.
        times_tolerance: How many tolerances apart; NaN where the size is unknown.
        differing: How many elements differ, or None where values were not kept.
        size: How many elements there are, or None where values were not kept.
        worst: The element that differs most, or None where values were not kept.
        agreed: What was compared before and agreed, one phrase a stage.
        bound: The largest difference that a user allowed there, which ``times_tolerance`` is on
            then; None where rounding decides.
        floor: Where ``tolerance`` is from: the model of rounding, repeats, or the user.
        step_b: Number of its partner in B; None where nothing is known of B.
        at_least: Whether ``relative_l2``, ``max_abs`` and ``times_tolerance`` are lower bounds.
    """

    step: int
    stage: Stage
    tensor: str
    role: str
    layer: str | None
    moment: Moment | None
    quantity: Quantity
    origin: bool
    epoch: int
    batch: int
    relative_l2: float
    max_abs: float
    max_ulp: int | None
    tolerance: float
    times_tolerance: float
    differing: int | None = None
    size: int | None = None
    worst: WorstElement | None = None
    agreed: tuple[str, ...] = ()
    bound: float | None = None
    floor: FloorSource = "model"
    step_b: int | None = None
    at_least: bool = False
