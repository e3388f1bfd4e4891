"""Adam and what descends from it: AMSGrad, Adamax, Nadam."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from tracediff.forensics.rule import Array, Outcome, Rule, Settings, Update, power, power_slack

_KERAS_23 = "Keras 2.3"
_V2 = "tf.keras 1.15 to 2.10 and legacy"
_NEW = ("tf.keras from 2.11", "Keras 3")
_V1 = "tf.compat.v1.train"


def _first(update: Update, settings: Settings) -> Array:
    beta = settings["beta_1"]
    return beta * update.slots["m"] + (1.0 - beta) * update.gradient


def _second(update: Update, settings: Settings) -> Array:
    beta = settings["beta_2"]
    return beta * update.slots["v"] + (1.0 - beta) * update.square


def _remainders(update: Update, settings: Settings) -> tuple[float, float, float]:
    """Return 1 - beta^t of both betas as the variable's dtype rounds it, and their uncertainty.

    Besides rounding of the power itself: some stacks round betas to float32 for float64 variables.
    """
    exact, rounded = (
        [
            1.0 - power(kind(settings[name]), update.count, update.dtype)
            for name in ("beta_1", "beta_2")
        ]
        for kind in (float, _float32)
    )
    first, second = exact
    slack = power_slack(first, 2.0 * second, dtype=update.dtype)
    for remainder, other, share in zip(exact, rounded, (1.0, 0.5), strict=True):
        slack += share * abs(other / remainder - 1.0) if remainder else 0.0
    return first, second, slack


def _float32(value: float) -> float:
    return float(np.float32(value))


def adam(update: Update, settings: Settings) -> Outcome:
    """Divide the mean by the root of the mean square; epsilon is added to the uncorrected root.

    Source: keras/optimizers.py 2.3.1, Adam.get_updates; tensorflow/core/kernels/training_ops.cc
    1.15 and 2.3, ApplyAdam; keras/src/optimizers/adam.py 3.15, Adam.update_step.
    """
    m, v = _first(update, settings), _second(update, settings)
    return _stepped(update, settings, m, v, {"m": m, "v": v})


def amsgrad(update: Update, settings: Settings) -> Outcome:
    """Divide as `adam` does, by the largest mean square so far, uncorrected.

    Source: as `adam`, with amsgrad=True (ApplyAdamWithAmsgrad).
    """
    m, v = _first(update, settings), _second(update, settings)
    largest = np.maximum(update.slots["vhat"], v)
    return _stepped(update, settings, m, largest, {"m": m, "v": v, "vhat": largest})


def _stepped(
    update: Update, settings: Settings, m: Array, v: Array, slots: dict[str, Array]
) -> Outcome:
    first, second, slack = _remainders(update, settings)
    rate = update.rate * second**0.5 / first
    return Outcome(-(rate * m / (np.sqrt(v) + settings["epsilon"])), slots, slack=slack)


def adam_paper(update: Update, settings: Settings) -> Outcome:
    """Correct both moments first, then add epsilon to the corrected root.

    Source: Kingma and Ba, arXiv:1412.6980, algorithm 1; torch/optim/adam.py 2.0.
    """
    m, v = _first(update, settings), _second(update, settings)
    first, second, slack = _remainders(update, settings)
    change = -(update.rate * (m / first) / (np.sqrt(v / second) + settings["epsilon"]))
    return Outcome(change, {"m": m, "v": v}, slack=slack)


def adamax(update: Update, settings: Settings) -> Outcome:
    """Divide the mean by the decaying maximum of magnitudes.

    Source: keras/optimizers.py 2.3.1, Adamax.get_updates; tensorflow/core/kernels/
    training_ops.cc 2.3, ApplyAdaMax; keras/src/optimizers/adamax.py 3.15, Adamax.update_step.
    """
    m = _first(update, settings)
    u = np.maximum(settings["beta_2"] * update.slots["u"], update.magnitude)
    first, _, slack = _remainders(update, settings)
    change = -(update.rate / first * m / (u + settings["epsilon"]))
    return Outcome(change, {"m": m, "u": u}, slack=slack)


def nadam(update: Update, settings: Settings) -> Outcome:
    """Look ahead with a momentum that warms up as 0.96 ^ (schedule_decay * t).

    Source: keras/optimizers.py 2.3.1, Nadam.get_updates; tensorflow/python/keras/optimizer_v2/
    nadam.py 2.3, Nadam._resource_apply_dense.
    """
    return _looked_ahead(update, settings, settings["schedule_decay"])


def nadam_new(update: Update, settings: Settings) -> Outcome:
    """Look ahead with a momentum that warms up as 0.96 ^ t.

    Unlike the Adam of the same stack, it rounds the betas to float32 everywhere.

    Source: keras/src/optimizers/nadam.py 3.15, Nadam.update_step.
    """
    betas = {name: _float32(settings[name]) for name in ("beta_1", "beta_2")}
    return _looked_ahead(update, {**settings, **betas}, 1.0)


def _looked_ahead(update: Update, settings: Settings, decay: float) -> Outcome:
    m, v = _first(update, settings), _second(update, settings)
    t, dtype = update.count, update.dtype

    def cache(count: float) -> float:
        return settings["beta_1"] * (1.0 - 0.5 * power(0.96, count * decay, dtype))

    before = update.shared.get("m_schedule")
    if before is None:
        before = float(np.prod([cache(step) for step in range(1, int(t))]))
    now, later = cache(t), cache(t + 1.0)
    product = before * now
    mean = (1.0 - now) / (1.0 - product) * update.gradient + later / (1.0 - product * later) * m
    second = 1.0 - power(settings["beta_2"], t, dtype)
    change = -(update.rate * mean / (np.sqrt(v / second) + settings["epsilon"]))
    slack = power_slack(1.0 - product, 2.0 * second, dtype=dtype)
    return Outcome(change, {"m": m, "v": v}, slack=slack)


_ADAM = MappingProxyType({"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7})
_NADAM = MappingProxyType({**_ADAM, "schedule_decay": 0.004})
_RACE = (1, 2)

RULES = (
    Rule(
        "adam",
        "adam",
        "w -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)",
        adam,
        slots=("m", "v"),
        defaults=_ADAM,
        stacks=(_KERAS_23, _V2, *_NEW, _V1),
        counters=_RACE,
    ),
    Rule(
        "adam, amsgrad",
        "adam",
        "w -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(max v) + epsilon)",
        amsgrad,
        slots=("m", "v", "vhat"),
        defaults=_ADAM,
        stacks=(_KERAS_23, _V2, *_NEW),
        counters=_RACE,
    ),
    Rule(
        "adam, epsilon after correction",
        "adam",
        "w -= lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)",
        adam_paper,
        slots=("m", "v"),
        defaults=_ADAM,
        stacks=("the paper", "torch.optim"),
    ),
    Rule(
        "adamax",
        "adamax",
        "w -= lr / (1 - beta_1^t) * m / (u + epsilon)",
        adamax,
        slots=("m", "u"),
        defaults=_ADAM,
        stacks=(_KERAS_23, _V2, *_NEW),
        counters=_RACE,
    ),
    Rule(
        "nadam, scheduled",
        "nadam",
        "Nesterov Adam, its momentum beta_1 * (1 - 0.5 * 0.96^(schedule_decay * t))",
        nadam,
        slots=("m", "v"),
        defaults=_NADAM,
        stacks=(_KERAS_23, _V2),
        counters=_RACE,
    ),
    Rule(
        "nadam",
        "nadam",
        "Nesterov Adam, its momentum beta_1 * (1 - 0.5 * 0.96^t)",
        nadam_new,
        slots=("m", "v"),
        defaults=_ADAM,
        stacks=_NEW,
    ),
)
