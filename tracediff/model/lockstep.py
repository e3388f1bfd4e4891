"""What single steps make other, where one run began every step with the state of the other."""

from __future__ import annotations

from dataclasses import dataclass

from tracediff.model.stages import Stage


@dataclass(frozen=True, slots=True)
class LocalError:
    """What single steps of a run in lockstep make other of one tensor, beyond one step's rounding.

    Attributes:
        stage: The stage in which the tensor is computed.
        tensor: Canonical name.
        role: Its role.
        layer: Its layer, or None.
        steps: At how many steps it differs.
        first_step: The first of them.
        origin_steps: At how many of them the step's difference begins here.
        worst_step: The step of the largest difference.
        relative: That difference: of a weight in shares of its update's norm, of all else as
            relative L2.
        tolerance: What rounding explains of it.
    """

    stage: Stage
    tensor: str
    role: str
    layer: str | None
    steps: int
    first_step: int
    origin_steps: int
    worst_step: int
    relative: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class StageErrors:
    """One stage of all steps in lockstep.

    Attributes:
        stage: The stage.
        tensors: How many tensors of it were compared.
        steps: At how many steps any of them differs beyond one step's rounding.
        origin_steps: At how many of these the difference begins in this stage.
    """

    stage: Stage
    tensors: int
    steps: int
    origin_steps: int


@dataclass(frozen=True, slots=True)
class Lockstep:
    """The local errors of a run that began every step with the state of the other.

    Attributes:
        source: The run that it replayed.
        steps: How many steps.
        batches: Whether it also consumed the other's batches.
        stages: Every stage but that of metrics, in order.
        errors: The tensors that differ, those in which differences begin first.
        uncontrolled: Layers that drew random numbers of their own.
    """

    source: str
    steps: int
    batches: bool
    stages: tuple[StageErrors, ...]
    errors: tuple[LocalError, ...]
    uncontrolled: tuple[str, ...] = ()
