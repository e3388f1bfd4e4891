"""Read off the step counter that Adam's bias correction used, from the recorded run itself.

Keras 2.3.1 reads its counter without an order against its own increment, so most steps correct
with a counter one too high: the first step is 0.744 of the right one. Works whatever else
differs, since each run is checked against its own moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import short
from tracediff.model import Finding
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


def adam_counter(case: Case) -> Iterable[Finding]:
    """Find runs of Adam that correct their bias with different step counters."""
    if case.optimizer_classes() != ("adam", "adam"):
        return
    a, b = count_steps(case.a, case.steps), count_steps(case.b, case.steps)
    if a is None or b is None or not a.choices or not b.choices:
        return
    common = a.choices.keys() & b.choices.keys()
    unlike = sorted(key for key in common if a.choices[key] != b.choices[key])
    if not unlike:
        return
    step = min(step for _, step in unlike)
    lines = [_line("A", a), _line("B", b)]
    ahead = [side for side, one in (("A", a), ("B", b)) if one.count(2) > one.count(1)]
    racing = [side for side, one in (("A", a), ("B", b)) if one.count(2) and one.count(1)]
    if len(ahead) == 1:
        who = f"{ahead[0]} corrects Adam's bias with a step counter one too high"
    else:
        who = "The runs correct Adam's bias with different step counters"
    first = _first_share(case.b if ahead == ["B"] else case.a)
    yield Finding(
        code="optimizer.rule",
        summary=f"{who}, in {len(unlike)} of {len(common)} updates that tell; its first step is "
        f"{first:.3f} of the right one.",
        confidence=0.98 if len(unlike) > 1 else 0.8,
        stage="update",
        step=step,
        subject="Adam step counter",
        a=_shares(a),
        b=_shares(b),
        evidence=(
            *lines,
            "recomputed in float64 from the run's own m, v, learning rate, betas and epsilon",
            *(
                f"{side} uses both counters: a race in the graph, so that not even two runs of it "
                "agree"
                for side in racing
            ),
            "Keras 2.3.1 on TensorFlow 1.15 is known for it (not tf.keras)",
        ),
    )


def _line(side: str, one: Counted) -> str:
    text = (
        f"{side}: iteration + 1 reproduces {one.count(1)} updates, iteration + 2 {one.count(2)} "
        f"(largest residual {short(one.residual)})"
    )
    return text + (f"; neither reproduces {one.neither}" if one.neither else "")


def _shares(one: Counted) -> dict[str, int]:
    return {"iteration+1": one.count(1), "iteration+2": one.count(2), "neither": one.neither}


def _settings(run: Run) -> dict[str, Any]:
    return optimizer_settings((run.about.get("optimizer") or {}).get("config"))


def _first_share(run: Run) -> float:
    settings = _settings(run)
    beta_1, beta_2 = settings.get("beta_1", 0.9), settings.get("beta_2", 0.999)
    return _correction(2, beta_1, beta_2) / _correction(1, beta_1, beta_2)


def _correction(t: float, beta_1: float, beta_2: float) -> float:
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
    factors = [_correction(iteration + ahead, *betas) for ahead in (1, 2)]
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
