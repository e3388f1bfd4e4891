"""Trains a model whose loss is scaled in several ways, each with and without the recorder.

Usage: scaled_losses.py OUT. The last line of stdout is a JSON object: way -> whether both end with
the same weights, bit for bit. The scale begins at 1024 and doubles after every two steps.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from tracediff_hooks import TraceCallback, record

STACK = os.environ["TRACEDIFF_STACK"]
if STACK == "tf-keras":
    import tf_keras as keras
elif STACK.startswith("keras3"):
    import keras
else:
    from tensorflow import keras

KERAS3 = STACK.startswith("keras3")
TENSORFLOW = STACK not in ("keras3-jax", "keras3-torch")
RATE, MOMENTUM, SCALE, GROWTH = 0.125, 0.5, 1024.0, 2


def drawn(seed, *shape):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32")


X, Y = drawn(1, 24, 5), drawn(2, 24, 2)


def batches():
    return [(X[k : k + 8], Y[k : k + 8]) for k in range(0, 24, 8)]


def dynamic(rule=None):
    rule = rule or keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    if STACK == "tf2.3":
        import tensorflow as tf

        scale = tf.mixed_precision.experimental.DynamicLossScale(SCALE, GROWTH)
        return keras.mixed_precision.experimental.LossScaleOptimizer(rule, scale)
    home = keras.optimizers if KERAS3 else keras.mixed_precision
    return home.LossScaleOptimizer(rule, initial_scale=SCALE, dynamic_growth_steps=GROWTH)


def fixed():
    rule = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    if STACK == "tf2.3":
        return keras.mixed_precision.experimental.LossScaleOptimizer(rule, SCALE)
    if not KERAS3:
        return keras.mixed_precision.LossScaleOptimizer(rule, dynamic=False, initial_scale=SCALE)
    return keras.optimizers.SGD(RATE, momentum=MOMENTUM, loss_scale_factor=SCALE)


def legacy():
    return dynamic(keras.optimizers.legacy.SGD(RATE, momentum=MOMENTUM))


def update(model, x, y):
    """One step as Keras's guide to mixed precision writes it."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        rule = model.optimizer
        scaled = rule.scale_loss(loss) if KERAS3 else rule.get_scaled_loss(loss)
    gradients = tape.gradient(scaled, model.trainable_variables)
    if not KERAS3:
        gradients = model.optimizer.get_unscaled_gradients(gradients)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss


class OwnStep(keras.Model):
    def train_step(self, data):
        return {"loss": update(self, data[0], data[1])}


def fit(model, recording):
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)


def on_batches(model, recording):
    for x, y in batches():
        model.train_on_batch(x, y)


def eager_loop(model, recording):
    for x, y in batches():
        update(model, x, y)


def compiled_loop(model, recording):
    import tensorflow as tf

    step = tf.function(lambda x, y: update(model, x, y))
    for x, y in batches():
        given = step, tf.constant(x), tf.constant(y)
        recording.step(*given) if recording else step(*given[1:])


def fit_and_loop(model, recording):
    fit(model, recording)
    eager_loop(model, recording)


WAYS = {
    # way: what trains, the optimizer, the class of the model
    "fit": (fit, dynamic, keras.Model),
    "fit, fixed": (fit, fixed, keras.Model),
    "train_on_batch": (on_batches, dynamic, keras.Model),
}
if TENSORFLOW:
    WAYS.update(
        {
            "own train_step": (fit, dynamic, OwnStep),
            "eager loop": (eager_loop, dynamic, keras.Model),
            "compiled loop": (compiled_loop, dynamic, keras.Model),
            "fit and eager loop": (fit_and_loop, dynamic, keras.Model),
        }
    )
if STACK in ("tf2.15", "tf-keras"):
    WAYS["fit, legacy"] = fit, legacy, keras.Model


def made(optimizer, cls):
    first = keras.Input((5,))
    hidden = keras.layers.Dense(4, activation="tanh", name="hidden")(first)
    model = cls(first, keras.layers.Dense(2, name="out")(hidden))
    model.set_weights([drawn(3, 5, 4), drawn(4, 4), drawn(5, 4, 2), drawn(6, 2)])
    model.compile(optimizer=optimizer(), loss="mse")
    return model


def same(one, other):
    pairs = zip(one.get_weights(), other.get_weights())
    return all(np.array_equal(a, b) for a, b in pairs)


if __name__ == "__main__":
    found = {}
    for way, (train, optimizer, cls) in WAYS.items():
        plain, recorded = made(optimizer, cls), made(optimizer, cls)
        train(plain, None)
        path = Path(sys.argv[1], way + ".zarr")
        if train is fit:
            callbacks = [TraceCallback(path)]
            recorded.fit(
                X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks
            )
        else:
            with record(recorded, path) as recording:
                train(recorded, recording)
        found[way] = same(plain, recorded)
        if way == "fit":
            again = made(optimizer, cls)
            with record(again, Path(sys.argv[1], "fit in a block.zarr")) as recording:
                fit(again, recording)
            found["fit in a block"] = same(plain, again)
    print(json.dumps(found))
