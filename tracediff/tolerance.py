"""What floating-point rounding explains: a model of its error, and a table that it begins from.

The table's numbers are for float32 and were chosen above all rounding seen between stacks that
compute the same thing (20 steps, small networks), and below the smallest faults worth finding.
The model says what longer sums, more layers, larger batches and more steps add. docs/compare.md
shows the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPS32 = float(np.finfo(np.float32).eps)
ACCUMULATION_STEPS = 20
"""After this many steps, rounding is allowed to grow in proportion to the number of steps."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is forgiven to one kind of tensor.

    Attributes:
        relative_l2: ‖a - b‖ / max(‖a‖, ‖b‖) in float32.
        elementwise: max|a - b| over the tensor's largest magnitude, or None where not looked at.
        accumulates: Whether it grows with the number of steps.
        computed: Whether it scales with the precision of the dtype in both directions. What is
            not computed has no rounding to forgive; what depends on constants that some stacks
            round to float32 does not get stricter in float64.
        reason: Why this number.
    """

    relative_l2: float
    elementwise: float | None
    accumulates: bool
    computed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A tolerance that a user gave: every element may differ by ``atol + rtol * m``.

    Attributes:
        rtol: Times m, the largest magnitude of the tensor at that step, in either run.
        atol: Besides.
    """

    rtol: float
    atol: float

    def allowed(self, peak: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return by how much elements may differ where ``peak`` is the largest magnitude."""
        return np.asarray(self.atol + self.rtol * peak)


TOLERANCES: dict[str, Tolerance] = {
    "data": Tolerance(
        1e-6,
        1e-5,
        accumulates=False,
        computed=False,
        reason="the same samples are the same bytes, up to one conversion; a single corrupted "
        "pixel of a big batch must be seen, so elements are looked at too",
    ),
    "initial state": Tolerance(
        1e-7,
        1e-6,
        accumulates=False,
        computed=False,
        reason="nothing has been computed yet, so there is no rounding to forgive",
    ),
    "learning rate": Tolerance(
        1e-6, None, accumulates=False, computed=False, reason="one number, stored as float32"
    ),
    "activation": Tolerance(
        2e-6, None, accumulates=True, computed=True, reason="up to 1e-6 seen between stacks"
    ),
    "loss": Tolerance(
        2e-6, None, accumulates=True, computed=True, reason="up to 1e-6 seen between stacks"
    ),
    "gradient": Tolerance(
        5e-6,
        None,
        accumulates=True,
        computed=True,
        reason="up to 1e-6 seen between stacks; sums with cancellation",
    ),
    "weight": Tolerance(
        1e-6, None, accumulates=True, computed=False, reason="up to 1e-6 seen between stacks"
    ),
    "slot": Tolerance(
        2e-5,
        None,
        accumulates=True,
        computed=False,
        reason="some stacks round beta to float32 even for float64: second moments are 1.3e-5 off",
    ),
    "moving statistic": Tolerance(
        1e-5, None, accumulates=True, computed=False, reason="up to 1e-5 seen between stacks"
    ),
    "metric": Tolerance(
        1e-5, None, accumulates=True, computed=True, reason="running means over batches"
    ),
}
"""The table of tolerances, by kind of tensor."""

CONFIDENCE = 2.0
"""Standard deviations of the rounding error that are forgiven, the lambda of Higham and Mary."""
BLOCK = 256
"""Terms that a kernel adds up before it adds the sums: longer sums err as if in such blocks."""
UPDATE_TOLERANCE = 2e-5
"""Relative difference of two updates of one weight: beta rounded to float32 makes 6.5e-6."""
SYSTEMATIC_UPDATE = 1e-5
"""Share of the length of all updates so far by which a weight may be off: as above, summed up."""
UPDATE_ROUNDING = 4.0
"""Epsilons of the weight's norm by which rounding the weight itself may change an update."""
UPDATE_TOLERANCE_BLIND = 1e-3
"""As `UPDATE_TOLERANCE`, where no gradient was recorded that could explain a difference."""
STATISTIC_UPDATE = 1e-4
"""As `UPDATE_TOLERANCE`, for moving statistics: variances cancel, momenta are float32."""
STATISTIC_FEEDBACK = 0.2
"""How much of its own difference a moving statistic may carry into its next move."""
NOISE_GRADIENT = 1e-6
"""A gradient of a norm below this share of the run's global gradient norm is rounding noise."""
GRADIENT_FLOOR = 2.0 * EPS32
"""Share of the global gradient norm by which cancellation may change any one gradient."""
CONDITION = {"activation": 2.0, "loss": 2.0, "gradient": 5.0, "metric": 5.0}
"""How many times the drift of the weights that went in may come out of what is computed."""
GRADIENT_CONDITION = 3.0
"""The same for gradients, times the root of rows in the batch times layers, where that is more."""
SENSITIVITY = {"loss": 2.0, "gradient": 20.0, "rounding": 4.0}
"""How many times what the derivatives of a loss say may come out of it: of differences of weights,
in the loss and in outputs and gradients; in these of a unit roundoff (an epsilon in the loss)."""
SENSITIVE = 10.0
"""From this condition of a loss on it says more than the table: up to 8 in ordinary networks."""
SLOT_CONDITION = 2.0
"""How many times the drift of gradients a slot may follow them by: a square doubles it."""
GROWTH_STEPS = 10
"""Steps for which a drift must have been non-zero to be taken for rounding that grows."""
STATISTIC_FACTOR = 3.0
"""How many times the drift of all weights or gradients a moving statistic may follow it by."""
KINK_WINDOW = 10
"""Steps looked at to tell a passing difference from a lasting one."""
KINK_STEPS = 3
"""A difference at no more steps of the window than this has passed."""
GROWTH_FACTOR = 10.0
"""A rise in one step by more than this is a jump, which growth of rounding does not make."""


def kind_of(role: str, *, trainable: bool | None = None) -> str:
    """Return the row of `TOLERANCES` for a tensor of ``role``.

    Example:
        >>> kind_of("input"), kind_of("weight"), kind_of("weight", trainable=False)
        ('data', 'weight', 'moving statistic')
    """
    if role in ("input", "label", "sample_weight"):
        return "data"
    if role == "weight":
        return "moving statistic" if trainable is False else "weight"
    if role == "applied_gradient":
        return "gradient"
    return "learning rate" if role == "learning_rate" else role


def tolerance(
    kind: str, steps: NDArray[np.int64], *, eps: float = EPS32, roundings: float = 0.0
) -> NDArray[np.float64]:
    """Return the relative L2 that rounding explains at each of ``steps``.

    Args:
        kind: A key of `TOLERANCES`.
        steps: Step numbers, from 0.
        eps: Machine epsilon of the narrower dtype; 0 for integers, where nothing is forgiven.
        roundings: How many lie on the way to the tensor; 0 for no more than the table has.

    Example:
        >>> [f"{t:.0e}" for t in tolerance("weight", np.array([0, 19, 199]))]
        ['1e-06', '1e-06', '1e-05']
    """
    row = TOLERANCES[kind]
    accumulated = np.ones(len(steps))
    if row.accumulates:
        accumulated = np.maximum(1.0, (steps + 1) / ACCUMULATION_STEPS)
    level = max(row.relative_l2 * scale(kind, eps), rounding(roundings, eps=eps))
    return np.minimum(level * accumulated, 0.5)


def elementwise(kind: str, *, eps: float = EPS32) -> float:
    """Return the tolerance for max|a - b| over the largest magnitude; infinity for none."""
    limit = TOLERANCES[kind].elementwise
    return float("inf") if limit is None else limit * scale(kind, eps)


def effective_length(terms: float) -> float:
    """Return how many roundings in a row the error of a sum is like.

    A sum of n terms added one by one is off by about sqrt(n) u (Higham and Mary, "A new approach to
    probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019); in blocks of b, by
    sqrt(b + n / b) u (Blanchard, Higham and Mary, "A class of fast and accurate summation
    algorithms", SIAM J. Sci. Comput. 42, 2020).

    Example:
        >>> effective_length(64), effective_length(65536)
        (64, 512.0)
    """
    return terms if terms <= BLOCK else BLOCK + terms / BLOCK


def rounding(roundings: float, *, eps: float = EPS32) -> float:
    """Return the relative L2 by which two computations of one thing differ, at most about.

    Args:
        roundings: How many of them lie on its way, in a row, each sum as `effective_length` says.
        eps: Machine epsilon; the unit roundoff is half of it.

    Example:
        >>> f"{rounding(400.0):.1e}"
        '2.4e-06'
    """
    return float(CONFIDENCE * eps / 2.0 * np.sqrt(roundings))


def gradient_condition(rows: int, layers: int) -> float:
    """Return how many times the drift of all weights may come out of a gradient.

    A gradient is a sum over rows. Terms of random sign leave 1 / sqrt(rows) of their size, but what
    drifting weights change in them has one sign, and every layer adds its part.

    Example:
        >>> gradient_condition(1, 2), gradient_condition(64, 4)
        (5.0, 48.0)
    """
    return float(max(CONDITION["gradient"], GRADIENT_CONDITION * np.sqrt(rows * layers)))


def scale(kind: str, eps: float) -> float:
    """Return by how much a tolerance changes for a dtype of machine epsilon ``eps``."""
    if eps == 0.0:
        return 0.0  # Integers are copied and counted, never rounded.
    row = TOLERANCES[kind]
    if row.computed:
        return eps / EPS32
    if kind in ("data", "initial state"):
        return min(1.0, eps / EPS32)
    return max(1.0, eps / EPS32)
