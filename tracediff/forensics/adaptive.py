"""RMSprop, Adagrad, Adadelta and Ftrl: rates that follow the size of past gradients."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import numpy as np

from tracediff.forensics.rule import Array, Outcome, Rule, Settings, Update

_KERAS_23 = "Keras 2.3"
_V2 = "tf.keras 1.15 to 2.10 and legacy"
_NEW = ("tf.keras from 2.11", "Keras 3")
_V1 = "tf.compat.v1.train"


def _rms(update: Update, settings: Settings) -> Array:
    rho = settings["rho"]
    return rho * update.slots["rms"] + (1.0 - rho) * update.square


def _mean(update: Update, settings: Settings) -> Array:
    rho = settings["rho"]
    return rho * update.slots["mg"] + (1.0 - rho) * update.gradient


def _root(values: Array) -> Array:
    # Rounding may leave a variance a little below zero; a stack then has NaN there as well.
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(values))


def rmsprop_outside(update: Update, settings: Settings) -> Outcome:
    """Divide by the root of the mean square, epsilon added to the root.

    Source: keras/optimizers.py 2.3.1, RMSprop.get_updates; tensorflow/python/keras/optimizer_v2/
    rmsprop.py 2.3, RMSprop._resource_apply_dense without momentum.
    """
    rms = _rms(update, settings)
    change = -(update.rate * update.gradient / (_root(rms) + settings["epsilon"]))
    return Outcome(change, {"rms": rms})


def rmsprop_inside(update: Update, settings: Settings) -> Outcome:
    """Divide by the root of mean square plus epsilon.

    Source: keras/src/optimizers/rmsprop.py 3.15, RMSprop.update_step; tensorflow/core/kernels/
    training_ops.cc 1.15, ApplyRMSProp at momentum 0.
    """
    rms = _rms(update, settings)
    change = -(update.rate * update.gradient / _root(rms + settings["epsilon"]))
    return Outcome(change, {"rms": rms})


def rmsprop_centered_outside(update: Update, settings: Settings) -> Outcome:
    """Divide by the root of the variance, epsilon added to the root.

    Source: tensorflow/python/keras/optimizer_v2/rmsprop.py 2.3, RMSprop._resource_apply_dense,
    centered without momentum.
    """
    rms, mean = _rms(update, settings), _mean(update, settings)
    root = _root(rms - mean * mean) + settings["epsilon"]
    return Outcome(-(update.rate * update.gradient / root), {"rms": rms, "mg": mean})


def rmsprop_centered_inside(update: Update, settings: Settings) -> Outcome:
    """Divide by the root of variance plus epsilon.

    Source: keras/src/optimizers/rmsprop.py 3.15, RMSprop.update_step, centered.
    """
    rms, mean = _rms(update, settings), _mean(update, settings)
    root = _root(rms - mean * mean + settings["epsilon"])
    return Outcome(-(update.rate * update.gradient / root), {"rms": rms, "mg": mean})


def rmsprop_momentum(update: Update, settings: Settings) -> Outcome:
    """Step along a slot that sums the steps of `rmsprop_inside`.

    Source: tensorflow/core/kernels/training_ops.cc 1.15 and 2.3, ApplyRMSProp;
    keras/src/optimizers/rmsprop.py 3.15, RMSprop.update_step with momentum.
    """
    inner = rmsprop_inside(update, settings)
    slot = settings["momentum"] * update.slots["momentum"] - inner.change
    return Outcome(-slot, {"momentum": slot, **inner.slots})


def rmsprop_centered_momentum(update: Update, settings: Settings) -> Outcome:
    """Step along a slot that sums the steps of `rmsprop_centered_inside`.

    Source: tensorflow/core/kernels/training_ops.cc 1.15 and 2.3, ApplyCenteredRMSProp;
    keras/src/optimizers/rmsprop.py 3.15, RMSprop.update_step, centered, with momentum.
    """
    inner = rmsprop_centered_inside(update, settings)
    slot = settings["momentum"] * update.slots["momentum"] - inner.change
    return Outcome(-slot, {"momentum": slot, **inner.slots})


def adagrad_outside(update: Update, settings: Settings) -> Outcome:
    """Divide by the root of the sum of squares, epsilon added to the root.

    Source: keras/optimizers.py 2.3.1, Adagrad.get_updates; tensorflow/core/kernels/
    training_ops.cc 2.3, ApplyAdagradV2.
    """
    total = update.slots["accumulator"] + update.square
    change = -(update.rate * update.gradient / (_root(total) + settings["epsilon"]))
    return Outcome(change, {"accumulator": total})


def adagrad_inside(update: Update, settings: Settings) -> Outcome:
    """Divide by the root of sum of squares plus epsilon.

    Source: keras/src/optimizers/adagrad.py 3.15, Adagrad.update_step.
    """
    total = update.slots["accumulator"] + update.square
    change = -(update.rate * update.gradient / _root(total + settings["epsilon"]))
    return Outcome(change, {"accumulator": total})


def adagrad_bare(update: Update, _: Settings) -> Outcome:
    """Divide by the root of the sum of squares alone.

    Source: tensorflow/core/kernels/training_ops.cc 1.15, ApplyAdagrad.
    """
    total = update.slots["accumulator"] + update.square
    with np.errstate(divide="ignore", invalid="ignore"):
        change = -(update.rate * update.gradient / _root(total))
    return Outcome(change, {"accumulator": total})


def adadelta(update: Update, settings: Settings) -> Outcome:
    """Scale by the ratio of the roots of both means, epsilon inside each root.

    Source: keras/optimizers.py 2.3.1, Adadelta.get_updates; tensorflow/core/kernels/
    training_ops.cc 2.3, ApplyAdadelta; keras/src/optimizers/adadelta.py 3.15,
    Adadelta.update_step.
    """
    rho, epsilon = settings["rho"], settings["epsilon"]
    moves = update.slots["accum_var"]
    squares = rho * update.slots["accum_grad"] + (1.0 - rho) * update.square
    ratio = (moves + epsilon) / (squares + epsilon)
    step = update.gradient * _root(ratio)
    later = rho * moves + (1.0 - rho) * (ratio * update.square)
    return Outcome(-(update.rate * step), {"accum_grad": squares, "accum_var": later})


def ftrl(update: Update, settings: Settings) -> Outcome:
    """Solve for the weight from the sums of gradients and of their squares.

    Source: tensorflow/core/kernels/training_ops.cc 2.3, ApplyFtrl and ApplyFtrlV2;
    keras/src/optimizers/ftrl.py 3.15, Ftrl.update_step, whose beta adds beta / (2 lr) to l2.
    """
    rate, up = update.rate, -settings["learning_rate_power"]
    l1 = settings["l1_regularization_strength"]
    l2 = settings["l2_regularization_strength"] + settings["beta"] / (2.0 * rate)
    old = update.slots["accumulator"]
    new = old + update.square
    pull = 2.0 * settings["l2_shrinkage_regularization_strength"] * update.weight
    grown = (new**up - old**up) / rate
    linear = update.slots["linear"] + (update.gradient + pull - grown * update.weight)
    weight = (np.clip(linear, -l1, l1) - linear) / (new**up / rate + 2.0 * l2)
    return Outcome(weight - update.weight, {"accumulator": new, "linear": linear})


def ftrl_scaled(update: Update, settings: Settings) -> Outcome:
    """Compute as `ftrl` with a slot that holds lr times the linear term; not for sparse gradients.

    Source: tensorflow/core/kernels/training_ops.cc 2.3, ApplyFtrlV2MultiplyLinearByLr, which
    tf.keras of 2.3 reaches with l2_shrinkage_regularization_strength set.
    """
    if update.sparse:
        return ftrl(update, settings)
    rate = update.rate
    scaled = {**update.slots, "linear": update.slots["linear"] / rate}
    inner = ftrl(dataclasses.replace(update, slots=scaled), settings)
    slots = {**inner.slots, "linear": inner.slots["linear"] * rate}
    return Outcome(inner.change, slots)


_RMSPROP = MappingProxyType({"rho": 0.9, "epsilon": 1e-7})
_RMSPROP_MOMENTUM = MappingProxyType({"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7})
_EPSILON = MappingProxyType({"epsilon": 1e-7})
_FTRL = MappingProxyType(
    {
        "learning_rate_power": -0.5,
        "l1_regularization_strength": 0.0,
        "l2_regularization_strength": 0.0,
        "l2_shrinkage_regularization_strength": 0.0,
        "beta": 0.0,
    }
)

RULES = (
    Rule(
        "rmsprop, epsilon outside",
        "rmsprop",
        "w -= lr * g / (sqrt(rms) + epsilon)",
        rmsprop_outside,
        slots=("rms",),
        defaults=_RMSPROP,
        stacks=(_KERAS_23, _V2),
    ),
    Rule(
        "rmsprop, epsilon inside",
        "rmsprop",
        "w -= lr * g / sqrt(rms + epsilon)",
        rmsprop_inside,
        slots=("rms",),
        defaults=_RMSPROP,
        stacks=_NEW,
    ),
    Rule(
        "rmsprop, centered, epsilon outside",
        "rmsprop",
        "w -= lr * g / (sqrt(rms - mg^2) + epsilon)",
        rmsprop_centered_outside,
        slots=("rms", "mg"),
        defaults=_RMSPROP,
        stacks=(_V2,),
    ),
    Rule(
        "rmsprop, centered, epsilon inside",
        "rmsprop",
        "w -= lr * g / sqrt(rms - mg^2 + epsilon)",
        rmsprop_centered_inside,
        slots=("rms", "mg"),
        defaults=_RMSPROP,
        stacks=_NEW,
    ),
    Rule(
        "rmsprop, momentum",
        "rmsprop",
        "mom = momentum * mom + lr * g / sqrt(rms + epsilon); w -= mom",
        rmsprop_momentum,
        slots=("rms", "momentum"),
        defaults=_RMSPROP_MOMENTUM,
        stacks=(_V2, *_NEW, _V1),
    ),
    Rule(
        "rmsprop, centered, momentum",
        "rmsprop",
        "mom = momentum * mom + lr * g / sqrt(rms - mg^2 + epsilon); w -= mom",
        rmsprop_centered_momentum,
        slots=("rms", "mg", "momentum"),
        defaults=_RMSPROP_MOMENTUM,
        stacks=(_V2, *_NEW, _V1),
    ),
    Rule(
        "adagrad, epsilon outside",
        "adagrad",
        "w -= lr * g / (sqrt(accumulator) + epsilon)",
        adagrad_outside,
        slots=("accumulator",),
        defaults=_EPSILON,
        stacks=(_KERAS_23, _V2),
    ),
    Rule(
        "adagrad, epsilon inside",
        "adagrad",
        "w -= lr * g / sqrt(accumulator + epsilon)",
        adagrad_inside,
        slots=("accumulator",),
        defaults=_EPSILON,
        stacks=_NEW,
    ),
    Rule(
        "adagrad, no epsilon",
        "adagrad",
        "w -= lr * g / sqrt(accumulator)",
        adagrad_bare,
        slots=("accumulator",),
        stacks=(_V1,),
    ),
    Rule(
        "adadelta",
        "adadelta",
        "w -= lr * g * sqrt(accum_var + epsilon) / sqrt(accum_grad + epsilon)",
        adadelta,
        slots=("accum_grad", "accum_var"),
        defaults=MappingProxyType({"rho": 0.95, "epsilon": 1e-7}),
        stacks=(_KERAS_23, _V2, *_NEW, _V1),
    ),
    Rule(
        "ftrl",
        "ftrl",
        "w = (clip(linear, -l1, l1) - linear) / (accumulator^-power / lr + 2 * l2)",
        ftrl,
        slots=("accumulator", "linear"),
        defaults=_FTRL,
        stacks=(_V2, *_NEW, _V1),
    ),
    Rule(
        "ftrl, linear times lr",
        "ftrl",
        "as ftrl, the slot linear multiplied by lr",
        ftrl_scaled,
        slots=("accumulator", "linear"),
        defaults=_FTRL,
        stacks=("tf.keras 2.3 with l2_shrinkage",),
    ),
)
