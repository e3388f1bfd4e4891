"""How one layer of two runs drifts: its tensors by role, taken together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracediff.model.drift import Growth, GrowthFit, RelativeL2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        at_least: Whether some of these are lower bounds.
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
    at_least: bool = False


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
