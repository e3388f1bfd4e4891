"""Trains a small network with one thing changed at a time, and records each run at a level.

Runs on every stack: Python 3.7 and Keras 2.3 upwards. Usage: levels.py OUT RUN..., where a run is
LEVEL/OPTIMIZER or LEVEL/OPTIMIZER:CHANGE, such as ``digest/adam:epsilon``.
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

GRAPH = keras.__version__.startswith("2.3.")
STEPS, BATCH = 16, 16
RATES = {"momentum": 0.05, "adam": 0.01, "adagrad": 0.05}
SETTINGS = {
    "momentum": {"momentum": 0.9},
    "adam": {"epsilon": 1e-7},
    "adagrad": {"epsilon": 1e-7, "initial_accumulator_value": 0.0},
}
CHANGES = {
    "epsilon": {"epsilon": 1e-8},
    "momentum": {"momentum": 0.8999},
    "slots": {"initial_accumulator_value": 1e-3},
}


def start():
    """Begins with one thread where threads would add up in any order."""
    keras.backend.clear_session()
    if GRAPH:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
        )
        keras.backend.set_session(tf.compat.v1.Session(config=config))


def model():
    make = keras.layers
    return keras.models.Sequential(
        [
            make.Dense(48, activation="relu", name="wide", input_shape=(20,)),
            make.Dense(32, activation="tanh", name="narrow"),
            make.Dense(4, activation="softmax", name="say"),
        ]
    )


def optimizer(kind, change):
    rate = RATES[kind] * {"rate": 1.0001, "high": 1.01}.get(change, 1.0)
    settings = dict(SETTINGS[kind])
    settings.update(CHANGES.get(change, {}))
    settings["lr" if GRAPH else "learning_rate"] = rate
    names = {"momentum": "SGD", "adam": "Adam", "adagrad": "Adagrad"}
    return getattr(keras.optimizers, names[kind])(**settings)


def train(out, run):
    level, _, what = run.partition("/")
    kind, _, change = what.partition(":")
    start()
    random = np.random.RandomState(5)
    x = random.randn(STEPS * BATCH, 20).astype("float32")
    y = random.randint(0, 4, len(x))
    if change == "pixel":
        x[9 * BATCH + 3, 7] += np.float32(1e-3)
    trained = model()
    trained.compile(optimizer(kind, change), "sparse_categorical_crossentropy")
    random = np.random.RandomState(11)
    weights = [
        (random.uniform(-0.3, 0.3, one.shape) if one.ndim > 1 else one).astype("float32")
        for one in trained.get_weights()
    ]
    if change == "weight":
        weights[2].flat[5] += np.float32(1e-4)
    trained.set_weights(weights)
    path = Path(out, what.replace(":", "-") + "-" + level + ".zarr")
    trained.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[TraceCallback(path, level=level)],
    )


if __name__ == "__main__":
    for run in sys.argv[2:]:
        train(sys.argv[1], run)
