"""Gradient descent, with and without momentum, and the sign of it (Lion)."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from tracediff.forensics.rule import Outcome, Rule, Settings, Update

_MOMENTUM = MappingProxyType({"momentum": 0.0})
_ALL = ("Keras 2.3", "tf.keras 1.15 to 2.10 and legacy", "tf.keras from 2.11", "Keras 3")


def plain(update: Update, _: Settings) -> Outcome:
    """Step against the gradient.

    Source: keras/optimizers.py 2.3.1, SGD.get_updates; tensorflow/python/keras/optimizer_v2/
    gradient_descent.py 2.3, SGD._resource_apply_dense; keras/src/optimizers/sgd.py 3.15,
    SGD.update_step.
    """
    return Outcome(-(update.rate * update.gradient))


def momentum(update: Update, settings: Settings) -> Outcome:
    """Step along a slot that holds the sum of -lr * g.

    Source: keras/optimizers.py 2.3.1, SGD.get_updates; tensorflow/core/kernels/training_ops.cc
    2.3, ApplyKerasMomentum; keras/src/optimizers/sgd.py 3.15, SGD.update_step.
    """
    slot = settings["momentum"] * update.slots["momentum"] - update.rate * update.gradient
    return Outcome(slot, {"momentum": slot})


def nesterov(update: Update, settings: Settings) -> Outcome:
    """Step along the slot of `momentum`, looked ahead.

    Source: as `momentum`, with nesterov=True.
    """
    slot = momentum(update, settings).slots["momentum"]
    return Outcome(settings["momentum"] * slot - update.rate * update.gradient, {"momentum": slot})


def v1_momentum(update: Update, settings: Settings) -> Outcome:
    """Step along a slot that holds the sum of g, times the learning rate of now.

    Source: tensorflow/python/training/momentum.py 1.15 and tensorflow/core/kernels/
    training_ops.cc 1.15, ApplyMomentum.
    """
    slot = settings["momentum"] * update.slots["momentum"] + update.gradient
    return Outcome(-(update.rate * slot), {"momentum": slot})


def v1_nesterov(update: Update, settings: Settings) -> Outcome:
    """Step along the slot of `v1_momentum`, looked ahead.

    Source: as `v1_momentum`, with use_nesterov=True.
    """
    slot = settings["momentum"] * update.slots["momentum"] + update.gradient
    ahead = update.rate * update.gradient + settings["momentum"] * update.rate * slot
    return Outcome(-ahead, {"momentum": slot})


def lion(update: Update, settings: Settings) -> Outcome:
    """Step by the sign of a mean of slot and gradient; the slot follows with another mean.

    Source: keras/src/optimizers/lion.py 3.15, Lion.update_step.
    """
    m, g = update.slots["m"], update.gradient
    direction = np.sign(m * settings["beta_1"] + g * (1.0 - settings["beta_1"]))
    slot = m * settings["beta_2"] + g * (1.0 - settings["beta_2"])
    return Outcome(-(update.rate * direction), {"m": slot})


RULES = (
    Rule("sgd", "sgd", "w -= lr * g", plain, stacks=_ALL),
    Rule(
        "sgd, momentum",
        "sgd",
        "v = momentum * v - lr * g; w += v",
        momentum,
        slots=("momentum",),
        defaults=_MOMENTUM,
        stacks=_ALL,
    ),
    Rule(
        "sgd, nesterov",
        "sgd",
        "v = momentum * v - lr * g; w += momentum * v - lr * g",
        nesterov,
        slots=("momentum",),
        defaults=_MOMENTUM,
        stacks=_ALL,
    ),
    Rule(
        "sgd, momentum of gradients",
        "sgd",
        "a = momentum * a + g; w -= lr * a",
        v1_momentum,
        slots=("momentum",),
        defaults=_MOMENTUM,
        stacks=("tf.compat.v1.train",),
    ),
    Rule(
        "sgd, nesterov of gradients",
        "sgd",
        "a = momentum * a + g; w -= lr * (g + momentum * a)",
        v1_nesterov,
        slots=("momentum",),
        defaults=_MOMENTUM,
        stacks=("tf.compat.v1.train",),
    ),
    Rule(
        "lion",
        "lion",
        "w -= lr * sign(beta_1 * m + (1 - beta_1) * g); m = beta_2 * m + (1 - beta_2) * g",
        lion,
        slots=("m",),
        defaults=MappingProxyType({"beta_1": 0.9, "beta_2": 0.99}),
        stacks=("tf.keras from 2.11", "Keras 3"),
    ),
)
