"""Trains models one after the other and prints a hash of everything that training left behind.

usage: undisturbed.py {plain|full|sketch|digest} FOLDER {all|one} MODEL:OPTIMIZER...

Every process that is compared with another trains the same cells in the same order: the seeds of a
model's operations count those of the models before it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from frameworks import (
    GRAPH,
    KERAS3,
    LEGACY,
    TF2,
    keras,
    optimizer_values,
    single_thread,
    start,
)

SAMPLES, BATCH, EPOCHS, CLASSES = 20, 8, 3, 3

layers = keras.layers


def mlp():
    return keras.Sequential(
        [
            layers.Dense(12, activation="relu", input_shape=(6,)),
            layers.Dropout(0.3),
            layers.Dense(8, activation="tanh"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def cnn():
    return keras.Sequential(
        [
            layers.Conv2D(6, 3, padding="same", input_shape=(8, 8, 2)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def lstm():
    return keras.Sequential(
        [
            layers.LSTM(5, return_sequences=True, input_shape=(6, 4)),
            layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def embedding():
    return keras.Sequential(
        [
            layers.Embedding(30, 6, input_length=6) if not KERAS3 else layers.Embedding(30, 6),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.2),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def gru():
    return keras.Sequential(
        [
            layers.Conv1D(4, 2, input_shape=(6, 4)),
            layers.GRU(5, recurrent_dropout=0.1),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def separable():
    return keras.Sequential(
        [
            layers.SeparableConv2D(6, 3, depth_multiplier=2, input_shape=(8, 8, 2)),
            layers.BatchNormalization(scale=False, momentum=0.9),
            layers.LeakyReLU(),
            layers.DepthwiseConv2D(3),
            layers.BatchNormalization(center=False),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax", kernel_regularizer="l2"),
        ]
    )


def normalised():
    return keras.Sequential(
        [
            layers.Dense(12, input_shape=(6,)),
            layers.LayerNormalization(),
            layers.Activation("relu"),
            layers.Dense(8, kernel_regularizer=keras.regularizers.l1_l2(1e-3, 1e-3)),
            layers.BatchNormalization(),
            layers.PReLU(),
            layers.Dense(CLASSES, activation="softmax", kernel_constraint="max_norm"),
        ]
    )


def attention():
    x = keras.Input((6, 4))
    if KERAS3:
        h = layers.MultiHeadAttention(2, 3)(x, x)
    else:
        h = layers.Attention(use_scale=True)([x, x])
    h = layers.LayerNormalization()(layers.Add()([x, h]))
    h = layers.Add()([h, layers.Dense(4, activation="gelu" if KERAS3 else "relu")(h)])
    h = layers.LayerNormalization(epsilon=1e-6)(h)
    h = layers.GlobalAveragePooling1D()(h)
    return keras.Model(x, layers.Dense(CLASSES, activation="softmax")(h))


def residual():
    x = keras.Input((8, 8, 2))
    first = layers.Conv2D(4, 3, padding="same")(x)
    h = layers.Activation("relu")(layers.BatchNormalization()(first))
    h = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(h))
    h = layers.Activation("relu")(layers.Add()([first, h]))
    h = layers.GlobalAveragePooling2D()(h)
    return keras.Model(x, layers.Dense(CLASSES, activation="softmax")(h))


def convlstm():
    return keras.Sequential(
        [
            layers.ConvLSTM2D(3, 2, input_shape=(3, 4, 4, 2)),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


INPUTS = {
    "mlp": (6,), "cnn": (8, 8, 2), "lstm": (6, 4), "embedding": (6,), "gru": (6, 4),
    "separable": (8, 8, 2), "normalised": (6,), "attention": (6, 4), "residual": (8, 8, 2),
    "convlstm": (3, 4, 4, 2),
}  # fmt: skip


def rmsprop(opt):
    if KERAS3 or TF2:
        return opt.RMSprop(0.01, momentum=0.9, centered=True)
    return opt.RMSprop(0.01)


def optimizer(rule):
    """The optimizer of a cell; `legacy-...` is that of the generation before 2.11."""
    if rule.startswith("legacy-"):
        return OPTIMIZERS[rule[len("legacy-") :]](LEGACY)
    return OPTIMIZERS[rule](keras.optimizers)


OPTIMIZERS = {
    "nesterov": lambda opt: opt.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda opt: opt.Adam(0.01),
    "adam-clipnorm": lambda opt: opt.Adam(0.01, clipnorm=0.1),
    "rmsprop": rmsprop,
    "adagrad": lambda opt: opt.Adagrad(0.05),
    "adadelta": lambda opt: opt.Adadelta(0.5),
    "adamax": lambda opt: opt.Adamax(0.01),
    "nadam": lambda opt: opt.Nadam(0.01),
    "sgd-clipvalue": lambda opt: opt.SGD(0.05, clipvalue=0.01),
    "nesterov-clipnorm": lambda opt: opt.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=0.1),
    "global-clipnorm": lambda opt: opt.Adam(0.01, global_clipnorm=0.1),
    "amsgrad": lambda opt: opt.Adam(0.01, amsgrad=True),
    "adamw": lambda opt: opt.AdamW(0.01, clipnorm=0.1),
    "ftrl": lambda opt: opt.Ftrl(0.05),
    "lion": lambda opt: opt.Lion(0.01),
    "sgd-decay": lambda opt: opt.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.5), momentum=0.5, weight_decay=1e-3
    ),
}


def data(model):
    random = np.random.RandomState(11)
    shape = (SAMPLES,) + INPUTS[model]
    x = random.normal(size=shape).astype("float32")
    if model == "embedding":
        x = random.randint(0, 30, size=shape)
    return x, np.eye(CLASSES, dtype="float32")[random.randint(0, CLASSES, size=SAMPLES)]


def hashes(arrays):
    return [hashlib.sha1(np.ascontiguousarray(a).tobytes()).hexdigest()[:16] for a in arrays]


def train(mode, folder, name, rule):
    model = globals()[name]()
    model.compile(loss="categorical_crossentropy", optimizer=optimizer(rule), metrics=["accuracy"])
    x, y = data(name)
    if not model.built:
        model.build((None,) + INPUTS[name])
    initial = model.get_weights()
    callbacks = []
    if mode != "plain":
        from tracediff_hooks import TraceCallback

        store = Path(folder) / f"{name}-{rule}.zarr"
        callbacks = [TraceCallback(str(store), level=mode)]
    history = model.fit(
        x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks,
        validation_data=(x[:5], y[:5]) if name == "mlp" else None,
    )  # fmt: skip
    final = model.get_weights()
    return {
        "initial": hashes(initial),
        "weights": hashes(final),
        "sums": [float(np.abs(w.astype("float64")).sum()) for w in final],
        "optimizer": hashes(optimizer_values(model.optimizer)),
        "moved": sum(bool((a != b).any()) for a, b in zip(initial, final)),
        "history": {k: [float(v).hex() for v in h] for k, h in history.history.items()},
    }


def main(mode, folder, threads, *cells):
    if threads == "one":
        single_thread()
    start(7)
    report = {}
    for cell in cells:
        report[cell] = train(mode, folder, *cell.split(":"))
    # Its operations are numbered after all those of the training, and so are their seeds.
    report["a model built later"] = {"initial": hashes(mlp().get_weights())}
    if GRAPH:
        graph = keras.backend.get_session().graph
        report["a model built later"]["operations"] = [op.name for op in graph.get_operations()]
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
