"""Trains a convolutional model at two levels of recording, with and without a fault.

Runs on every stack: Python 3.7 and Keras 2.3 upwards. Usage: sketched.py OUT.
"""

import sys
from pathlib import Path

import numpy as np

try:
    import keras
except ImportError:
    keras = None
if not hasattr(keras, "layers"):
    from tensorflow import keras

from tracediff_hooks import TraceCallback

GRAPH = keras.__version__.startswith("2.3.")
make = keras.layers
STEPS, BATCH = 12, 10


def model():
    if GRAPH:
        import tensorflow as tf

        keras.backend.clear_session()
        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        keras.backend.set_session(tf.Session(config=config))
    first = keras.Input((8, 8, 3))
    one = make.Conv2D(16, 3, activation="relu", name="look")
    two = make.Dense(24, activation="tanh", name="mix")
    last = make.Dense(5, activation="softmax", name="say")
    found = keras.Model(first, last(two(make.Flatten(name="flat")(one(first)))))
    generator = np.random.RandomState(3)
    for layer in (one, two, last):
        layer.set_weights([generator.normal(0, 0.1, value.shape) for value in layer.get_weights()])
    return found


def train(path, level, rate=0.05, corrupt=None):
    generator = np.random.RandomState(0)
    x = generator.rand(STEPS * BATCH, 8, 8, 3).astype("float32")
    y = np.eye(5, dtype="float32")[generator.randint(0, 5, len(x))]
    if corrupt is not None:
        x[corrupt * BATCH + 3] = 0.0
    trained = model()
    trained.compile(keras.optimizers.SGD(rate, momentum=0.9), "categorical_crossentropy")
    trained.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[TraceCallback(str(path), level=level)],
    )


if __name__ == "__main__":
    out = Path(sys.argv[1])
    for level in ("full", "sketch"):
        train(out / (f"base-{level}.zarr"), level)
        train(out / (f"rate-{level}.zarr"), level, rate=0.0505)
        train(out / (f"corrupted-{level}.zarr"), level, corrupt=7)
