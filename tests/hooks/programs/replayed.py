"""Trains small models, each recorded, and under control of other traces where that is asked for.

Runs on every stack. Usage: replayed.py OUT SEED SOURCE CELL...

A cell is "model:optimizer", recorded to OUT/model-optimizer.zarr, or "model:optimizer:LEVEL", which
replays SOURCE/model-optimizer.zarr and is recorded to OUT/model-optimizer-LEVEL.zarr. Initial
weights and shuffling follow from SEED.
"""

import sys
from pathlib import Path

import numpy as np
from frameworks import GRAPH, keras, single_thread, start

from tracediff_hooks import Replay, TraceCallback

ROWS, BATCH, EPOCHS = 40, 16, 2  # two full batches and a partial one
L = keras.layers
LEVELS = {
    "weights": {"batches": False},
    "batches": {"initial_weights": False},
    "both": {},
    "lockstep": {"state": "every-step"},
}


def data(kind):
    stream = np.random.RandomState(5)
    shapes = {"mlp": (6,), "dropout": (6,), "unbuilt": (6,), "cnn": (8, 8, 2)}
    x = stream.randn(ROWS, *shapes.get(kind, (5, 3))).astype("float32")
    return x, stream.randint(0, 3, ROWS)


def layers(kind):
    if kind == "cnn":
        yield L.Conv2D(4, 3, name="conv", input_shape=(8, 8, 2))
        yield L.BatchNormalization(name="bn")
        yield L.Activation("relu", name="act")
        yield L.Flatten(name="flat")
    elif kind == "lstm":
        yield L.LSTM(5, name="rnn", input_shape=(5, 3), recurrent_activation="sigmoid")
    elif kind in ("gru", "gru_default"):
        same = {} if kind == "gru_default" else {"reset_after": False}
        yield L.GRU(5, name="rnn", input_shape=(5, 3), recurrent_activation="sigmoid", **same)
    else:
        shape = {} if kind == "unbuilt" else {"input_shape": (6,)}
        yield L.Dense(8, activation="tanh", name="hidden", **shape)
        if kind == "dropout":
            yield L.Dropout(0.5, name="drop")
    yield L.Dense(3, activation="softmax", name="out")


def optimizer(name):
    make = keras.optimizers
    momentum = {
        "sgd": {},
        "momentum": {"momentum": 0.9},
        "nesterov": {"momentum": 0.9, "nesterov": True},
    }
    if name in momentum:
        return make.SGD(0.05, **momentum[name])
    # Every rule by its default rate and epsilon would hide the formula behind the defaults.
    return getattr(make, name)(0.01, epsilon=1e-4)


def train(out, seed, source, cell):
    kind, rule, *level = cell.split(":")
    start(seed)
    x, y = data(kind)
    model = keras.models.Sequential(list(layers(kind)))
    model.compile(optimizer(rule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    replay = Replay(Path(source, f"{kind}-{rule}.zarr"), **LEVELS[level[0]]) if level else None
    callback = TraceCallback(Path(out, cell.replace(":", "-") + ".zarr"), replay=replay)
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[callback])


if __name__ == "__main__":
    if GRAPH:
        single_thread()
    for cell in sys.argv[4:]:
        train(sys.argv[1], int(sys.argv[2]), sys.argv[3], cell)
