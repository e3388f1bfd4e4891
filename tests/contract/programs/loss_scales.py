"""Trains one small model with its loss scaled in the ways that are asked for, and records each.

Usage: loss_scales.py OUT WAY... The same first weights and samples on every stack.
"""

import os
import sys
from pathlib import Path

import numpy as np

from tracediff_hooks import TraceCallback

STACK = os.environ["TRACEDIFF_STACK"]
if STACK == "tf-keras":
    import tf_keras as keras
elif STACK.startswith("keras3"):
    import keras
else:
    from tensorflow import keras

KERAS3 = STACK.startswith("keras3")
make = keras.layers
# way -> policy, initial scale (None: the policy's own), steps until it doubles, level, fault
WAYS = {
    "half": ("mixed_float16", None, None, "full", False),
    "half, 2^10": ("mixed_float16", 2.0**10, 2000, "full", False),
    "half, growing": ("mixed_float16", 2.0**10, 3, "full", False),
    "half, overflowing": ("mixed_float16", 2.0**22, 3, "full", False),
    "half, faulty": ("mixed_float16", 2.0**12, 4, "full", True),
    "plain": ("float32", None, None, "full", False),
    "2^10": ("float32", 2.0**10, 3, "full", False),
    "1000": ("float32", 1000.0, 3, "full", False),
    "faulty": ("float32", 2.0**12, 4, "full", True),
    "fixed": ("float32", 2.0**10, 0, "full", False),
    "sketch": ("float32", 2.0**12, 4, "sketch", False),
    "faulty sketch": ("float32", 2.0**10, 3, "sketch", True),
    "digest": ("float32", 2.0**12, 4, "digest", False),
    "faulty digest": ("float32", 2.0**10, 3, "digest", True),
}


class Halved(make.Layer):
    """Hands on what it is given, and half of its gradient."""

    def call(self, x):
        if KERAS3:
            return x * 0.5 + keras.ops.stop_gradient(x * 0.5)
        import tensorflow as tf

        return x * 0.5 + tf.stop_gradient(x * 0.5)


def compute_in(policy):
    mixed = keras.mixed_precision
    if STACK == "tf2.3":
        mixed.experimental.set_policy(policy)
    elif KERAS3:
        mixed.set_dtype_policy(policy)
    else:
        mixed.set_global_policy(policy)


def optimizer(scale, growth):
    rule = keras.optimizers.SGD(0.05, momentum=0.9)
    if scale is None:
        return rule
    if STACK == "tf2.3":
        import tensorflow as tf

        mixed = tf.mixed_precision.experimental
        given = mixed.DynamicLossScale(scale, growth) if growth else mixed.FixedLossScale(scale)
        return keras.mixed_precision.experimental.LossScaleOptimizer(rule, given)
    if KERAS3:
        if not growth:
            return keras.optimizers.SGD(0.05, momentum=0.9, loss_scale_factor=scale)
        scaling = keras.optimizers.LossScaleOptimizer
        return scaling(rule, initial_scale=scale, dynamic_growth_steps=growth)
    return keras.mixed_precision.LossScaleOptimizer(
        rule, dynamic=bool(growth), initial_scale=scale, dynamic_growth_steps=growth or None
    )


def drawn(seed, shape):
    return np.random.RandomState(seed).uniform(-0.4, 0.4, shape).astype("float32")


def train(out, way):
    policy, scale, growth, level, fault = WAYS[way]
    compute_in(policy)
    dense = [
        make.Dense(24, activation="relu", name="hidden"),
        make.Dense(30, activation="tanh", name="middle"),
        make.Dense(3, name="out"),
    ]
    between = [Halved(name="halved")] if fault else []
    last = make.Activation("softmax", dtype="float32", name="probabilities")
    model = keras.models.Sequential([*dense[:2], *between, dense[2], last])
    model.build((None, 12))
    for number, layer in enumerate(dense):
        kernel, bias = layer.get_weights()
        layer.set_weights([drawn(number, kernel.shape), drawn(number + 9, bias.shape)])
    model.compile(optimizer=optimizer(scale, growth), loss="sparse_categorical_crossentropy")
    random = np.random.RandomState(0)
    x, y = random.normal(size=(88, 12)).astype("float32"), random.randint(0, 3, 88)
    callback = TraceCallback(Path(out, way + ".zarr"), level=level)
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[callback])


if __name__ == "__main__":
    for way in sys.argv[2:]:
        train(sys.argv[1], way)
