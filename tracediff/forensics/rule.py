"""What a published update rule is: a plain function from what one update consumed to what it left.

A formula computes in the precision of the arrays it is given, so that one in float64 and one in
float32 together show the rounding of the formula itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.floating[Any]]"
Settings: TypeAlias = Mapping[str, float]

SparseForm = Literal["summed", "one by one", "touched", "weight touched"]
"""What an update does with a gradient that came as rows.

``summed``: repeated rows are added up, then every row of weight and slots moves as with a dense
gradient. ``one by one``: the same, but repeated rows are squared (or their magnitude taken) before
they are added up. ``touched``: repeated rows are added up, and only the rows that the gradient has
move, in the weight and in the slots. ``weight touched``: so in the weight, all rows in the slots.
"""
SPARSE_FORMS: tuple[SparseForm, ...] = ("summed", "touched", "weight touched", "one by one")


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What one update of one weight consumed; all arrays have the shape of ``weight``.

    Attributes:
        weight: The weight before.
        gradient: The applied gradient.
        square: The square of the gradient, as second moments take it in.
        magnitude: The absolute value of the gradient, likewise.
        slots: The slots of this weight before, by their own names.
        shared: Variables that the optimizer keeps for all weights together, before.
        rate: The learning rate.
        count: The number of this update as the rule uses it: 1 for the first, if it is right.
        dtype: The dtype of the variables, in which a stack computes its scalars.
        sparse: Whether the gradient came as rows.
    """

    weight: Array
    gradient: Array
    square: Array
    magnitude: Array
    slots: Mapping[str, Array]
    shared: Mapping[str, float]
    rate: float
    count: float
    dtype: str = "float32"
    sparse: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a rule makes of an update.

    Attributes:
        change: What is added to the weight.
        slots: The slots after.
        slack: Relative uncertainty of ``change``, from scalars that stacks compute in the
            variable's dtype with a power function of their own.
    """

    change: Array
    slots: Mapping[str, Array] = field(default_factory=dict)
    slack: float = 0.0


Formula: TypeAlias = Callable[[Update, Settings], Outcome]


@dataclass(frozen=True, slots=True)
class Rule:
    """One published way to compute an update.

    Attributes:
        key: Its name, unique on the shelf: ``rmsprop, epsilon inside``.
        family: The class of optimizer that it belongs to, as `optimizer_class` spells it.
        words: The formula in one line.
        formula: Computes it; its docstring cites where it is published.
        slots: The slots that it needs and moves.
        defaults: Its settings, with what is meant where a configuration is silent.
        stacks: Where it is used.
        counters: What is added to the iteration before the update to give its count; more than
            one where a stack is known to race.
    """

    key: str
    family: str
    words: str
    formula: Formula
    slots: tuple[str, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    stacks: tuple[str, ...] = ()
    counters: tuple[int, ...] = (1,)

    @property
    def source(self) -> str:
        """Where the formula is published."""
        return (self.formula.__doc__ or "").partition("Source: ")[2].strip()


def power(base: float, exponent: float, dtype: str) -> float:
    """Return base ** exponent as a stack computes it in ``dtype``: both rounded, then the result.

    Example:
        >>> power(0.999, 1.0, "float64"), power(0.999, 1.0, "float32")
        (0.999, 0.9990000128746033)
    """
    kind = np.dtype(dtype).type
    return float(kind(float(kind(base)) ** float(kind(exponent))))


def power_slack(*remainders: float, dtype: str) -> float:
    """Return the relative error that one unit in the last place of 1 makes in these 1 - powers."""
    eps = float(np.finfo(np.dtype(dtype)).eps)
    return sum(eps / abs(one) for one in remainders if one)
