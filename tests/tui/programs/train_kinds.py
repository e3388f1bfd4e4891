"""Train one small model with one thing changed at a time: ``train_kinds.py FOLDER NAME ...``.

Runs on every stack; each name becomes a trace.
"""

import os
import sys

import numpy as np

from tracediff_hooks import Replay, TraceCallback

STACK = os.environ["TRACEDIFF_STACK"]
if STACK.startswith(("tf2", "tf1")):
    from tensorflow import keras
else:
    import keras

BATCH, STEPS = 8, 6
RANDOM = np.random.RandomState(3)
X = RANDOM.rand(BATCH * STEPS, 40).astype("float32")
Y = RANDOM.randint(0, 4, BATCH * STEPS)


def initial(shapes, seed):
    random = np.random.RandomState(seed)
    return [(random.randn(*shape) * 0.2 * (len(shape) > 1)).astype("float32") for shape in shapes]


def model(activation, extra):
    layers = [
        keras.layers.Dense(16, activation="tanh", input_shape=(40,), name="first"),
        keras.layers.Dense(8, activation=activation, name="second"),
    ]
    if extra:
        layers.append(keras.layers.Dense(8, name="between"))
    return keras.models.Sequential(
        [*layers, keras.layers.Dense(4, activation="softmax", name="last")]
    )


def train(trace, epsilon=1e-7, activation="relu", extra=False, seed=1, x=X, first=0, **recorded):
    keras.backend.clear_session()
    built = model(activation, extra)
    built.set_weights(initial([w.shape for w in built.get_weights()], seed))
    rate = {"lr": 0.01} if STACK == "keras2.3" else {"learning_rate": 0.01}
    optimizer = keras.optimizers.Adam(epsilon=epsilon, **rate)
    built.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    rows = slice(first * BATCH, None)
    built.fit(
        x[rows],
        Y[rows],
        batch_size=BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[TraceCallback(trace, **recorded)],
    )


def changed(row, column, value):
    x = X.copy()
    x[row, column] = value
    return x


KINDS = {
    "base": {"activations": True},
    "again": {"activations": True},
    "epsilon": {"epsilon": 1e-3, "activations": True},
    "element": {"x": changed(27, 5, 3.0), "activations": True},
    "layer": {"activation": "elu", "activations": True},
    "draw": {"seed": 2, "activations": True},
    "nan": {"x": changed(18, 0, np.nan), "activations": True},
    "more": {"extra": True, "activations": True},
    "later": {"first": 2, "activations": True},
    "sketch": {"level": "sketch", "activations": True},
    "sketch-epsilon": {"level": "sketch", "epsilon": 1e-3, "activations": True},
    "sketch-nan": {"level": "sketch", "x": changed(18, 0, np.nan), "activations": True},
    "digest": {"level": "digest"},
    "digest-epsilon": {"level": "digest", "epsilon": 1e-3},
    "some": {"steps": "::3"},
    "some-epsilon": {"steps": "::3", "epsilon": 1e-3},
}


if __name__ == "__main__":
    folder = sys.argv[1]
    for name in sys.argv[2:]:
        options = KINDS.get(name) or {
            "epsilon": 1e-3,
            "replay": Replay(f"{folder}/base.zarr", state="every-step"),
        }
        train(f"{folder}/{name}.zarr", **options)
