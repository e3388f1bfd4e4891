"""Trains runs that agree but for rounding, and such with a small change, and records each.

Runs on every stack: Python 3.7 and Keras 2.3 upwards. Usage: rounding.py OUT RUN..., where a run is
the name of one in `RUNS`, or such a name, a colon and a change: ``rate`` makes the learning rate
one part in 10^4 larger, ``pixel`` adds a thousandth to one number of an epoch's last batch, ``bit``
a part in 10^9 (of a run in float64),
``weight`` adds a ten-thousandth to one initial weight, ``moved`` makes the last kernel a hundredth
larger before step 70 or half-way, ``momentum`` makes one of 0.9 a part in 10^4 larger; ``again``
changes nothing.
"""

import os
import sys
from pathlib import Path

import numpy as np

from tracediff_hooks import TraceCallback

if os.environ["TRACEDIFF_STACK"].startswith("tf"):
    from tensorflow import keras
else:
    import keras

# name -> model, widths or filters, activation, rows in a batch, steps, learning rate
RUNS = {
    "deep": ("dense", [24] + [32] * 12 + [4], "tanh", 32, 100, 0.05),
    "batch": ("dense", [40, 64, 32, 5], "sigmoid", 512, 60, 0.5),
    "softplus": ("dense", [30, 50, 40, 4], "softplus", 64, 200, 0.1),
    "fast": ("dense", [20, 32, 32, 4], "relu", 32, 300, 0.8),
    "value": ("regression", [13, 64, 64, 1], "relu", 32, 300, 0.02),
    "norm": ("bn", [8, 12], "relu", 16, 150, 0.05),
    # Rounding grows into all of the weights within 60 steps.
    "chaos": ("cnn", [8, 16], "selu", 16, 200, 0.2),
    # Units come to the edge of their activations.
    "kinks": ("dense", [20, 64, 64, 4], "relu", 16, 200, 2.0),
    # Drops units by random numbers that no one seeded.
    "dropout": ("dropout", [20, 32, 4], "relu", 32, 60, 0.1),
    # The same with a momentum of 0.9.
    "heavy": ("dropout", [20, 32, 4], "relu", 32, 60, 0.03),
    # In float64, and in float16 with weights in float32.
    "double": ("dense", [20, 16, 4], "tanh", 16, 60, 0.1),
    "half": ("dense", [20, 16, 4], "tanh", 16, 20, 0.1),
    # Rounding grows a hundredfold within one forward pass.
    "loop": ("loop", [3, 24, 4], "tanh", 8, 40, 0.2),
    # Those of the exhaustive tests only.
    "shallow": ("dense", [20, 16, 3], "relu", 16, 400, 0.05),
    "deeper": ("dense", [16] + [24] * 24 + [4], "elu", 8, 150, 0.02),
    "wide": ("dense", [300, 400, 10], "relu", 128, 60, 0.1),
    "single": ("dense", [12, 24, 24, 3], "relu", 1, 400, 0.02),
    "selu": ("dense", [25, 60, 30, 30, 3], "selu", 20, 300, 0.05),
    "linear": ("regression", [50, 1], "linear", 64, 300, 0.02),
    "cnn": ("cnn", [8, 16], "relu", 16, 150, 0.05),
    "wild": ("cnn", [8, 16], "tanh", 16, 400, 1.0),
}


def threads(count):
    """Gives Keras on TensorFlow 1 a session of so many threads."""
    import tensorflow as tf

    if tf.__version__.startswith("1."):
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=count, inter_op_parallelism_threads=count
        )
        keras.backend.clear_session()
        keras.backend.set_session(tf.compat.v1.Session(config=config))


def samples(kind, widths, rows, steps, fresh):
    """Returns labels by chance, of a few samples seen again and again or of fresh ones."""
    generator = np.random.RandomState(5)
    count = rows * steps if fresh else rows * min(steps, max(20, 200 // rows))
    if kind == "cnn":
        x = generator.rand(count, 10, 10, 3)
        y = generator.randint(0, 4, count)
    else:
        x = generator.randn(count, *([25] if kind == "loop" else []), widths[0])
        y = generator.randint(0, 3 if kind == "bn" else widths[-1], count)
    if kind == "regression":
        y = (x[:, :3].sum(axis=1) + 0.3 * generator.randn(count)).astype("float32")
    return x.astype(keras.backend.floatx()), y


def layers(kind, widths, activation):
    make = keras.layers
    if kind == "cnn":
        first, second = widths
        return [
            make.Conv2D(first, 3, name="conv", activation=activation, input_shape=(10, 10, 3)),
            make.MaxPooling2D(2, name="pool"),
            make.Conv2D(second, 3, name="conv_b", activation=activation),
            make.Flatten(name="flat"),
            make.Dense(4, activation="softmax", name="out"),
        ]
    if kind == "loop":
        return [
            make.SimpleRNN(widths[1], name="rnn", input_shape=(25, widths[0])),
            make.Dense(widths[2], activation="softmax", name="out"),
        ]
    if kind == "bn":
        return [
            make.Dense(widths[1], name="before", input_shape=(widths[0],)),
            make.BatchNormalization(name="bn"),
            make.Activation(activation, name="act"),
            make.Dense(3, activation="softmax", name="out"),
        ]
    if kind == "dropout":
        return [
            make.Dense(widths[1], activation=activation, name="d0", input_shape=(widths[0],)),
            make.Dropout(0.3, name="drop"),
            make.Dense(widths[2], activation="softmax", name="out"),
        ]
    last = "linear" if kind == "regression" else "softmax"
    inner = [
        make.Dense(
            width,
            activation=activation,
            name="d%d" % number,  # noqa: UP031 # Names that sort
            **({} if number else {"input_shape": (widths[0],)}),
        )
        for number, width in enumerate(widths[1:-1])
    ]
    first = {} if inner else {"input_shape": (widths[0],)}
    return [*inner, make.Dense(widths[-1], activation=last, name="out", **first)]


def set_weights(model, gain=1.0):
    generator = np.random.RandomState(11)
    weights = []
    for weight in model.get_weights():
        drawn = weight
        if weight.ndim > 1:
            limit = np.sqrt(6.0 / (weight.shape[-1] + np.prod(weight.shape[:-1])))
            drawn = generator.uniform(-limit, limit, weight.shape).astype(weight.dtype)
            if weight.shape[0] == weight.shape[1]:
                drawn *= np.asarray(gain, weight.dtype)
        weights.append(drawn)
    model.set_weights(weights)


class Mover(keras.callbacks.Callback):
    """Changes a kernel between two steps."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            layer = self.model.get_layer("out")
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * np.float32(1.01), bias])


def train(out, name):
    plan, _, change = name.partition(":")
    kind, widths, activation, rows, steps, rate = RUNS[plan]
    threads(2)
    keras.backend.set_floatx("float64" if plan == "double" else "float32")
    if plan == "half":
        keras.mixed_precision.set_dtype_policy("mixed_float16")
    elif hasattr(keras, "ops"):
        keras.mixed_precision.set_dtype_policy(keras.backend.floatx())
    x, y = samples(kind, widths, rows, steps, plan == "wild")
    if change == "pixel":
        x[(len(x) // rows - 1) * rows].flat[1] += np.float32(1e-3)
    elif change == "bit":
        x[(len(x) // rows - 1) * rows].flat[1] += 1e-9
    model = keras.models.Sequential(layers(kind, widths, activation))
    chosen = rate * (1.0001 if change == "rate" else 1.0)
    momentum = 0.9 if plan == "heavy" else 0.0
    optimizer = keras.optimizers.SGD(chosen, momentum * (1.0001 if change == "momentum" else 1.0))
    loss = "mse" if kind == "regression" else "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer, loss=loss)
    set_weights(model, 2.0 if kind == "loop" else 1.0)
    if change == "weight":
        weights = model.get_weights()
        weights[0].flat[3] += np.float32(1e-4)
        model.set_weights(weights)
    movers = [Mover(min(70, steps // 2))] if change == "moved" else []
    callback = TraceCallback(Path(out, name.replace(" ", "-").replace(":", "-") + ".zarr"))
    model.fit(
        x,
        y,
        batch_size=rows,
        epochs=steps * rows // len(x) or 1,
        shuffle=False,
        verbose=0,
        callbacks=[*movers, callback],
    )


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        train(sys.argv[1], wanted)
