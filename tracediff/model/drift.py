"""How far one tensor of two runs drifts apart over the steps, and how that grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tracediff.model.stages import Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Growth = Literal["none", "constant", "linear", "jump", "exponential"]


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
        at_least: Whether some of its numbers are lower bounds, from statistics, so that its sizes
            are as well.
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
    at_least: bool = False
