"""Trains models of many shapes for one step each and prints what the traces call their tensors.

usage: namings.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from frameworks import GRAPH, KERAS3, LEGACY, STANDALONE, keras, start
from recorded import Recorded

from tracediff_hooks import TraceCallback

layers = keras.layers
Sequential, Model, Input = keras.models.Sequential, keras.models.Model, layers.Input

# Its shapes are those of Keras 2.3 only so; what differs between the stacks is no matter of names.
UNRESET = {"reset_after": False}


def looking_automatic():
    return Sequential(
        [layers.Dense(3, name="dense_1", input_shape=(4,)), layers.Dense(2, name="dense_2")]
    )


def automatic():
    return Sequential(
        [
            layers.Dense(3, activation="relu", input_shape=(4,)),
            layers.Dense(5),
            layers.BatchNormalization(),
            layers.Dropout(0.1),
            layers.Dense(2),
        ]
    )


def explicit():
    return Sequential(
        [layers.Dense(3, name="hidden", input_shape=(4,)), layers.Dense(2, name="out")]
    )


def some_explicit():
    return Sequential(
        [
            layers.Dense(3, input_shape=(4,)),
            layers.Dense(3, name="middle"),
            layers.Dense(3, name="dense_77"),
            layers.Dense(2),
        ]
    )


def unbuilt():
    return Sequential([layers.Dense(3), layers.Dense(2)])


def functional():
    a, b = Input((4,)), Input((3,))
    one = layers.Dense(3)(a)
    two = layers.Dense(3)(b)
    both = layers.Concatenate()([one, two])
    return Model([a, b], [layers.Dense(2)(both), layers.Dense(1)(both)])


def shared():
    a, b = Input((4,)), Input((4,))
    tower = layers.Dense(3)
    both = layers.Add()([tower(a), tower(b)])
    return Model([a, b], layers.Dense(2)(both))


def nested():
    inner = Input((4,))
    encoder = Model(inner, layers.Dense(3)(layers.Dense(5)(inner)), name="encoder")
    decoder = Sequential([layers.Dense(6, input_shape=(3,)), layers.BatchNormalization()])
    x = Input((4,))
    return Model(x, layers.Dense(2)(decoder(encoder(x))))


def recurrent():
    return Sequential(
        [
            layers.Bidirectional(layers.LSTM(2, return_sequences=True), input_shape=(5, 4)),
            layers.TimeDistributed(layers.Dense(3)),
            layers.GRU(3, return_sequences=True, **UNRESET),
            layers.LSTM(3, return_sequences=True),
            layers.SimpleRNN(3),
            layers.Dense(2),
        ]
    )


def named_recurrent():
    return Sequential(
        [
            layers.Bidirectional(
                layers.GRU(2, name="inner", return_sequences=True, **UNRESET),
                name="both_ways", input_shape=(5, 4),
            ),
            layers.TimeDistributed(layers.Dense(3, name="step"), name="each"),
            layers.Bidirectional(layers.LSTM(2), merge_mode="sum"),
            layers.Dense(2),
        ]
    )  # fmt: skip


def cells():
    return Sequential(
        [
            layers.RNN([layers.LSTMCell(3), layers.GRUCell(2, **UNRESET)], input_shape=(5, 4)),
            layers.Dense(2),
        ]
    )


def convolutional():
    return Sequential(
        [
            layers.Conv2D(3, 3, input_shape=(9, 9, 2)),
            layers.BatchNormalization(),
            layers.SeparableConv2D(4, 3),
            layers.BatchNormalization(scale=False),
            layers.DepthwiseConv2D(2),
            layers.Conv2DTranspose(3, 2),
            layers.PReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def sequence():
    return Sequential(
        [
            layers.Embedding(11, 3, **({} if KERAS3 else {"input_length": 5})),
            layers.Conv1D(3, 2),
            layers.SeparableConv1D(3, 2),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2),
        ]
    )


def normalised():
    return Sequential(
        [layers.Dense(3, input_shape=(4,)), layers.LayerNormalization(), layers.Dense(2)]
    )


class Subclassed(Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(3, activation="relu")
        self.normal = layers.BatchNormalization()
        self.named = layers.Dense(3, name="kept")
        self.last = layers.Dense(2)

    def call(self, x, training=None):
        return self.last(self.named(self.normal(self.first(x), training=training)))


class Tower(Model):
    def __init__(self):
        super().__init__()
        self.inside = layers.Dense(3)

    def call(self, x):
        return self.inside(x)


class Towers(Model):
    def __init__(self):
        super().__init__()
        self.left = Tower()
        self.right = Tower()
        self.last = layers.Dense(2)

    def call(self, x):
        return self.last(self.left(x) + self.right(x))


def subclassed():
    return Subclassed()


def subclassed_of_subclassed():
    return Towers()


# The largest last: a graph stack looks at all that went before at every new one.
MODELS = [
    looking_automatic, automatic, explicit, some_explicit, unbuilt, functional, shared, nested,
    subclassed,
]  # fmt: skip
LARGE = [sequence, convolutional, cells, recurrent, named_recurrent]
if not STANDALONE:
    # Keras 2.3 has neither this layer, nor models of models that are both subclassed.
    MODELS += [normalised, subclassed_of_subclassed]

SHAPES = {
    "functional": [(4,), (3,)], "shared": [(4,), (4,)], "recurrent": [(5, 4)],
    "named_recurrent": [(5, 4)], "cells": [(5, 4)], "convolutional": [(9, 9, 2)],
    "sequence": [(5,)],
}  # fmt: skip


def optimizers(opt):
    """Each optimizer as a module of optimizers makes it."""
    found = {
        "SGD": lambda: opt.SGD(0.01, momentum=0.9),
        "Adam": opt.Adam,
        "Adam amsgrad": lambda: opt.Adam(amsgrad=True),
        "RMSprop": opt.RMSprop,
        "Adagrad": opt.Adagrad,
        "Adadelta": opt.Adadelta,
        "Adamax": opt.Adamax,
        "Nadam": opt.Nadam,
    }
    if not STANDALONE:
        found["RMSprop momentum"] = lambda: opt.RMSprop(momentum=0.9)
        found["RMSprop centered"] = lambda: opt.RMSprop(momentum=0.9, centered=True)
        found["Ftrl"] = opt.Ftrl
    return found


OPTIMIZERS = optimizers(keras.optimizers)
if LEGACY is not None:
    OPTIMIZERS.update({"legacy " + name: make for name, make in optimizers(LEGACY).items()})


def fit(model, name, store, optimizer):
    x = [np.ones((2, *shape), "float32") for shape in SHAPES.get(name, [(4,)])]
    y = [np.ones((2, 2), "float32")]
    if name == "functional":
        y.append(np.ones((2, 1), "float32"))
    model.compile(optimizer=optimizer, loss="mse")
    model.fit(
        x if len(x) > 1 else x[0], y if len(y) > 1 else y[0], epochs=1, verbose=0,
        callbacks=[TraceCallback(str(store))],
    )  # fmt: skip
    return Recorded(store)


def names(trace):
    """The names of each role in the documented order, and those with nothing before step 0."""
    lines = sorted(trace.about["tensors"], key=lambda t: (t["order"], t["name"]))
    by_role = {}
    for line in lines:
        by_role.setdefault(line["role"], []).append(line["name"])
    in_order = sorted(trace.about["tensors"], key=lambda t: t["order"])
    by_role["weight"] = [t["name"] for t in in_order if t["role"] == "weight"]
    by_role["gradient"] = [t["name"] for t in in_order if t["role"] == "gradient"]
    state = [t for t in trace.about["tensors"] if t["table"] == "state"]
    return {
        "names": by_role,
        "layers": [layer["name"] for layer in trace.about["model"]["layers"]],
        "trainable": [t["name"] for t in in_order if t["role"] == "weight" and t["trainable"]],
        "unknown before step 0": [
            t["name"] for t in state if trace.versions["state"][0, t["column"]] < 0
        ],
        "shapes": {t["name"]: t["shape"] for t in state},
        "events": trace.about["events"],
    }


def defaults(folder):
    """A model made with as few arguments as can be; all that its trace says of the run."""
    model = Sequential(
        [
            layers.LSTM(3, input_shape=(5, 4)),
            layers.BatchNormalization(),
            layers.Dense(2, name="out"),
        ]
    )
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.fit(
        np.ones((6, 5, 4), "float32"), np.ones((6, 2), "float32"), batch_size=3, epochs=2,
        verbose=0, callbacks=[TraceCallback(str(folder / "defaults.zarr"))],
    )  # fmt: skip
    about = Recorded(folder / "defaults.zarr").about
    about.pop("tensors")
    return about


def clear():
    if GRAPH:
        # Everything lives in one graph, and each training takes longer the larger it has become.
        keras.backend.clear_session()
        start(1)


def main(folder):
    start(1)
    report = {"models": {}, "optimizers": {}}

    def train(build, name=None):
        name = name or build.__name__
        trace = fit(build(), build.__name__, folder / (name + ".zarr"), keras.optimizers.Adam())
        report["models"][name] = names(trace)

    for build in MODELS:
        train(build)
    train(automatic, "automatic again")
    train(looking_automatic, "looking_automatic again")
    clear()
    for number, (name, optimizer) in enumerate(OPTIMIZERS.items()):
        trace = fit(explicit(), "explicit", folder / f"optimizer-{number}.zarr", optimizer())
        report["optimizers"][name] = names(trace)
    report["about"] = defaults(folder)
    for build in LARGE:
        clear()
        train(build)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
