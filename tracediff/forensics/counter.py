"""Read off the step counter that Adam's bias correction used, from the recorded run itself.

Keras 2.3.1 reads its counter without an order against its own increment, so most steps correct
with a counter one too high: the first step is 0.744 of the right one. Unlike the sample that tells
rules apart, every recorded update is counted, and no gradient is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.names import optimizer_class, optimizer_settings
from tracediff.trace import Run, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REPRODUCED = 2e-3
"""Relative residual below which a formula reproduces an update, on top of its rounding."""
_TELLING = 5.0
"""The two candidates must lie this many residuals apart to tell which one it was."""
MAX_STEPS = 200
"""Beyond this the two corrections are too near each other to tell apart in float32."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Which counter reproduces the updates of one run.

    Attributes:
        choices: 1 for iteration + 1, 2 for iteration + 2, by (weight, step); undecidable ones and
            those that neither reproduces are left out.
        neither: How many updates neither reproduces.
        residual: The largest relative residual of the chosen formula.
    """

    choices: Mapping[tuple[str, int], int]
    neither: int
    residual: float

    def count(self, counter: int) -> int:
        """Return how many updates used iteration + ``counter``."""
        return sum(choice == counter for choice in self.choices.values())


def _settings(run: Run) -> dict[str, Any]:
    return optimizer_settings((run.about.get("optimizer") or {}).get("config"))


def correction(t: float, beta_1: float, beta_2: float) -> float:
    """Return the factor of Adam's bias correction at the t-th update, counted from 1.

    Example:
        >>> round(correction(2, 0.9, 0.999) / correction(1, 0.9, 0.999), 3)
        0.744
    """
    return float(np.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t))


def count_steps(run: Run, steps: int) -> Counted | None:
    """Return which counter reproduces each update of a run of Adam.

    For each weight and step, lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon) is
    compared with the recorded change of the weight, for t = iteration + 1 and t = iteration + 2.

    Args:
        run: A run whose optimizer is Adam.
        steps: How many steps to look at.

    Returns:
        None where slots or settings that it takes were not recorded.
    """
    optimizer = run.about.get("optimizer") or {}
    settings = _settings(run)
    if optimizer_class(optimizer.get("class")) != "adam" or settings.get("weight_decay"):
        return None
    beta_1, beta_2 = settings.get("beta_1"), settings.get("beta_2")
    epsilon = settings.get("epsilon") or 1e-7
    if not isinstance(beta_1, int | float) or not isinstance(beta_2, int | float):
        return None
    choices: dict[tuple[str, int], int] = {}
    neither, worst = 0, 0.0
    rate = run.find("learning_rate", "optimizer/learning_rate")
    iteration = run.find("slot", "optimizer/iteration")
    for weight in run.tensors:
        if weight.role != "weight" or weight.trainable is False:
            continue
        second = "vhat" if settings.get("amsgrad") else "v"
        m, v = run.find("slot", f"{weight.name}/m"), run.find("slot", f"{weight.name}/{second}")
        if m is None or v is None:
            continue
        kept = run.kept(weight) & run.kept(weight, "after")
        kept &= run.kept(m, "after") & run.kept(v, "after")
        for step in map(int, np.flatnonzero(kept[: min(steps, MAX_STEPS)])):
            lr = _scalar(run, rate, step, settings.get("learning_rate"))
            count = _scalar(run, iteration, step, step)
            if lr is None or count is None:
                continue
            before = run.read(weight, step, "before").astype(np.float64)
            after = run.read(weight, step, "after").astype(np.float64)
            direction = run.read(m, step, "after").astype(np.float64) / (
                np.sqrt(run.read(v, step, "after").astype(np.float64)) + epsilon
            )
            choice, residual = _choose(
                before, after, lr * direction, count, betas=(float(beta_1), float(beta_2))
            )
            if choice:
                choices[weight.name, step] = choice
                worst = max(worst, residual)
            elif choice == 0:
                neither += 1
    return Counted(choices, neither, worst)


def _choose(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    direction: NDArray[np.float64],
    iteration: float,
    *,
    betas: tuple[float, float],
) -> tuple[int | None, float]:
    """Return 1 or 2 for the counter that fits, 0 for neither, None where they cannot be told."""
    update = before - after
    size = float(np.linalg.norm(update))
    if size == 0.0:
        return None, 0.0
    rounding = float(np.finfo(np.float32).eps) * float(np.linalg.norm(after)) / size
    factors = [correction(iteration + ahead, *betas) for ahead in (1, 2)]
    residuals = [float(np.linalg.norm(update - factor * direction)) / size for factor in factors]
    best = int(np.argmin(residuals))
    if residuals[best] > _REPRODUCED + rounding:
        return 0, residuals[best]
    apart = abs(factors[0] - factors[1]) / max(factors)
    if apart < _TELLING * max(residuals[best], rounding / 4.0, 1e-6):
        return None, residuals[best]
    return best + 1, residuals[best]


def _scalar(run: Run, tensor: Tensor | None, step: int, default: Any) -> float | None:
    if tensor is not None and run.kept(tensor)[step]:
        return float(run.read(tensor, step).reshape(-1)[0])
    return float(default) if isinstance(default, int | float) else None
