"""The values that a comparison consists of: plain frozen dataclasses, no behaviour that decides.

Every view (text, JSON, markdown, the interface) renders these and computes nothing further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Stage = Literal["data", "state", "forward", "loss", "gradient", "update", "metric"]
Moment = Literal["before", "after"]
Verdict = Literal["identical", "rounding", "diverged"]
Growth = Literal["none", "constant", "linear", "jump", "exponential"]
Quantity = Literal["value", "update"]
Side = Literal["a", "b"]
FloorSource = Literal["model", "repeats", "tolerances"]

STAGES: tuple[Stage, ...] = ("data", "state", "forward", "loss", "gradient", "update", "metric")
"""The order of what happens in one step."""

STAGE_OF_ROLE: Mapping[str, Stage] = MappingProxyType(
    {
        "input": "data",
        "label": "data",
        "sample_weight": "data",
        "weight": "state",
        "slot": "state",
        "activation": "forward",
        "loss": "loss",
        "gradient": "gradient",
        "applied_gradient": "gradient",
        "learning_rate": "update",
        "metric": "metric",
    }
)
"""The stage in which a tensor of a role is seen first; state is seen again in ``update``."""

CAUSES: Mapping[str, str] = MappingProxyType(
    {
        "data.order": "same samples, another order or another assignment to batches",
        "data.batching": "other batch boundaries or sizes",
        "data.transform": "same samples, transformed",
        "data.dtype": "same samples in another precision",
        "data.content": "other samples, or corrupted ones",
        "data.labels": "labels differ",
        "data.sample_weight": "sample or class weights differ",
        "init.draw": "initial weights differ, same distribution",
        "init.distribution": "initial weights come from another distribution",
        "model.structure": "layers or weights without a partner, or of another shape",
        "layer.forward": "a layer's output differs on equal inputs and weights",
        "layer.random": "a random layer drew other numbers",
        "layer.state": "non-trained state evolves otherwise",
        "loss.value": "loss differs on equal model outputs",
        "gradient.raw": "gradient differs on equal forward values",
        "gradient.processing": "clipping, weight decay, accumulation, loss scaling",
        "optimizer.hyperparameter": "same rule, another value",
        "optimizer.rule": "another formula",
        "optimizer.slots": "slots start or evolve otherwise",
        "optimizer.schedule": "learning rate follows another course",
        "state.trainable": "another set of weights is trained",
        "state.external": "weights changed by something other than the optimizer",
        "precision": "another compute precision",
        "metric.definition": "tensors agree, the reported metric differs",
        "rounding": "differences within floating-point rounding and its growth",
        "unexplained": "a real origin, no known cause",
    }
)
"""The machine-readable vocabulary of causes, each with what it means."""


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


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, with what speaks for it.

    Attributes:
        code: A key of `CAUSES`.
        summary: One sentence that names the layer, the setting and the values.
        confidence: 0 to 1.
        stage: The stage of the difference that it explains.
        step: The first step at which it shows, or None where it is not tied to one.
        subject: What it is about: a tensor, a layer, a setting.
        a: The value in A, as JSON allows it.
        b: The value in B.
        evidence: Sentences with the numbers that speak for it.
        against: Sentences with what speaks against it, or could stand in its place.
        not_explained: What of the differences remains when it is granted.
        remedy: What to try: the line of code that makes B do as A where there is one, or None.
        change: The known change between versions that it is, a key of the catalogue, or None.
    """

    code: str
    summary: str
    confidence: float
    stage: Stage
    step: int | None = None
    subject: str | None = None
    a: Any = None
    b: Any = None
    evidence: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    not_explained: tuple[str, ...] = ()
    remedy: str | None = None
    change: str | None = None


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


@dataclass(frozen=True, slots=True)
class RelativeL2:
    """The relative L2 drift of one tensor over the steps: its first non-zero value and so on."""

    first: float
    median: float
    last: float
    max: float


@dataclass(frozen=True, slots=True)
class GrowthFit:
    """What was fitted to a drift that grows.

    Attributes:
        rate: What it grows by in a step. For growth ``exponential`` that is the slope of the
            logarithm, so that it grows to exp(rate) of itself. For ``linear`` it is relative L2 a
            step. None for a ``jump``.
        doubling_steps: Steps in which it doubles, for ``exponential``; None where it shrinks.
        power: For ``linear``, the power of the step count that fits best: 1 for what adds up, less
            for what cancels in part.
        r_squared: Share of the variance that the fit explains: of the logarithm for
            ``exponential``, of the drift for ``linear``. For ``jump`` the fit is a level before and
            one after.
        first_step: The first step that was fitted.
        last_step: The last one; what is level after that was not.
    """

    rate: float | None
    doubling_steps: float | None
    power: float | None
    r_squared: float
    first_step: int
    last_step: int


@dataclass(frozen=True, slots=True, eq=False)
class DriftRow:
    """How one tensor drifts apart over the compared steps.

    Attributes:
        tensor: Canonical name.
        role: Its role.
        layer: Its layer, or None.
        order: Execution order in A.
        first_step: First step at which bits differ, or None.
        first_stage: The stage at which they first differ, or None.
        first_significant_step: First step beyond what rounding explains, or None.
        relative_l2: Summary of the relative L2 drift.
        max_abs: Largest absolute difference of any step.
        max_ulp: Largest distance in ulp of any step, or None for other than floats.
        cosine: Smallest cosine of any step, for gradients; None otherwise.
        sign_agreement: Smallest share of elements of equal sign, for gradients; None otherwise.
        norm_ratio: B's norm over A's at the last step that differs, or None.
        growth: The shape of the drift over steps.
        jump_step: Where it jumps, for growth ``jump``.
        origin: True where the significant difference begins in this tensor, False where it is
            inherited, None where there is none.
        noise_driven: Whether the drift is rounding noise around a value that is zero in exact
            arithmetic (a bias before batch normalisation), or follows from such.
        chaotic: Whether the drift grew smoothly from rounding level to beyond the tolerance.
        unknown_steps: Steps that differ but whose values were not kept.
        non_finite: NaN and infinities met, in A and in B.
        compared: Steps at which both runs have the tensor.
        steps: The step of each entry of ``series``.
        series: Relative L2 per compared step; for state, after the step.
        note: What differs about the pair although its values may agree, or None.
        ignored: Whether the user said to ignore it.
        passing_rtol: The smallest rtol that would pass at every step, with an atol of 0; None where
            none would, or that is not known.
        passing_atol: The smallest atol that would, with an rtol of 0.
        abs_quantiles: Of the absolute differences of elements at the last step that differs: the
            median, the 90th and the 99th percentile.
        ulp_quantiles: The same of distances in ulp.
        precision_only: Whether the two are of different precision and equal in the narrower one.
        update: How the changes that steps make to a weight differ, or None for other tensors.
        growth_fit: What was fitted to the drift, or None where it does not grow.
        times_floor: Its largest drift after any step in terms of the noise floor's level there;
            None where nothing differs, or not known by how much.
    """

    tensor: str
    role: str
    layer: str | None
    order: int
    first_step: int | None
    first_stage: Stage | None
    first_significant_step: int | None
    relative_l2: RelativeL2
    max_abs: float
    max_ulp: int | None
    cosine: float | None
    sign_agreement: float | None
    norm_ratio: float | None
    growth: Growth
    jump_step: int | None
    origin: bool | None
    noise_driven: bool
    chaotic: bool
    unknown_steps: int
    non_finite: tuple[int, int]
    compared: int
    steps: NDArray[np.int64]
    series: NDArray[np.float64]
    note: str | None = None
    ignored: bool = False
    passing_rtol: float | None = None
    passing_atol: float | None = None
    abs_quantiles: tuple[float, ...] | None = None
    ulp_quantiles: tuple[float, ...] | None = None
    precision_only: bool = False
    update: UpdateRow | None = None
    growth_fit: GrowthFit | None = None
    times_floor: float | None = None


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """How the updates of a weight (after less before a step) differ over the compared steps.

    Attributes:
        relative_l2: Summary of the relative L2 difference.
        max_abs: Largest absolute difference of any step.
        max_ulp: Largest distance in ulp of any step, or None for other than floats.
        cosine: Smallest cosine of any step, or None where none is defined.
        sign_agreement: Smallest share of elements of equal sign.
        norm_ratio: B's norm over A's at the last step that differs, or None.
        abs_quantiles: Of the absolute differences of elements at that step: the median, the 90th
            and the 99th percentile.
        ulp_quantiles: The same of distances in ulp, or None for other than floats.
    """

    relative_l2: RelativeL2
    max_abs: float
    max_ulp: int | None
    cosine: float | None
    sign_agreement: float | None
    norm_ratio: float | None
    abs_quantiles: tuple[float, ...] | None = None
    ulp_quantiles: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayerPart:
    """How the tensors of one role in one layer drift, taken together.

    At each step that is the norm of all their differences over that of all their larger norms,
    sqrt(sum ‖a - b‖²) / sqrt(sum max(‖a‖, ‖b‖)²), so that each counts by its size.

    Attributes:
        role: Their role, or ``update`` for what steps did to the weights.
        slot: Which slot, for role ``slot``: those of other kinds are of other sizes.
        tensors: How many tensors.
        first_step: First step at which bits of any differ, or None.
        relative_l2: Summary of the relative L2 drift.
        growth: Its shape over the steps.
        jump_step: Where it jumps, for growth ``jump``.
        growth_fit: What was fitted to it, or None where it does not grow.
        unknown_steps: Steps at which one differs by nobody knows how much, so that neither is
            known of all.
        steps: The step of each entry of ``series``.
        series: Relative L2 per compared step; for state, after the step. NaN where not known.
    """

    role: str
    slot: str | None
    tensors: int
    first_step: int | None
    relative_l2: RelativeL2
    growth: Growth
    jump_step: int | None
    growth_fit: GrowthFit | None
    unknown_steps: int
    steps: NDArray[np.int64]
    series: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LayerRow:
    """How one layer drifts.

    Attributes:
        layer: Its canonical name in A.
        order: Execution order in A of its first tensor.
        first_step: First step at which bits of any of its tensors differ, or None.
        first_significant_step: First step at which any is beyond what rounding explains, or None.
        origin: True where a significant difference begins in a tensor of this layer, False where
            all are inherited, None where there is none.
        origins: The tensors in which one begins, as role and canonical name.
        parts: Its tensors by role, in the order in which a step computes them.
    """

    layer: str
    order: int
    first_step: int | None
    first_significant_step: int | None
    origin: bool | None
    origins: tuple[tuple[str, str], ...]
    parts: tuple[LayerPart, ...]

    def part(self, role: str, slot: str | None = None) -> LayerPart | None:
        """Return the part of a role, and of a slot, or None."""
        return next((one for one in self.parts if (one.role, one.slot) == (role, slot)), None)


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
class Repeat:
    """A repeat of one of the runs compared.

    Attributes:
        path: The repeat.
        side: The run that it repeats.
        steps: How many steps it has.
        factor: How many times the largest difference among that run and its repeats is forgiven.
    """

    path: str
    side: Side
    steps: int
    factor: float


@dataclass(frozen=True, slots=True)
class Floor:
    """The noise floor that differences were held against, and how near they came to it.

    Attributes:
        source: ``model``: a model of floating-point error; ``repeats``: that, or what repeats of a
            run differ by where it is more; ``tolerances``: what the user allowed.
        repeats: The repeats.
        times: The largest difference within the level of the floor, in terms of that level; NaN
            where there is none.
        step: Where that is, or None.
        role: Its role.
        tensor: Its canonical name.
        grown: How many tensors passed the level by growth that fits rounding.
    """

    source: FloorSource
    repeats: tuple[Repeat, ...]
    times: float
    step: int | None = None
    role: str | None = None
    tensor: str | None = None
    grown: int = 0


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
