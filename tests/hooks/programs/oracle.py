"""Trains with the recorder, then does every step again by hand and says how far the record is off.

What one stack does by hand is in the `oracle_*.py` beside this; here is what they share: the
models, the data, and the order of questions. Distances are in units in the last place (ULP) of
float32: 0 is equality of bits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from frameworks import KERAS3, LEGACY, NEW_OPTIMIZERS, STACK, STANDALONE, keras, start
from recorded import Recorded, densified

SAMPLES, BATCH, EPOCHS = 10, 4, 2  # batches of 4, 4 and 2
STEPS_PER_EPOCH = 3

layers = keras.layers


class Spec:
    """A model, its data, and its weights by hand: their names in the order of `get_weights`."""

    def __init__(self, build, inputs, outputs, weights, frozen=(), loss_weights=None):
        self.build = build
        self.inputs = inputs
        self.outputs = outputs
        self.weights = weights
        self.trained = [name for name in weights if name not in frozen]
        self.loss_weights = loss_weights or [1.0] * len(outputs)

    @property
    def losses(self):
        return [
            "categorical_crossentropy" if size > 1 else "mean_squared_error"
            for size in self.outputs
        ]

    def data(self):
        random = np.random.RandomState(5)
        x = [
            random.randint(0, 12, (SAMPLES, *shape))
            if self.build is embedding
            else random.normal(size=(SAMPLES, *shape)).astype("float32")
            for shape in self.inputs
        ]
        y = []
        for size in self.outputs:
            if size > 1:
                y.append(np.eye(size, dtype="float32")[random.randint(0, size, SAMPLES)])
            else:
                y.append(random.normal(size=(SAMPLES, 1)).astype("float32"))
        return x, y


def mlp():
    return keras.Sequential(
        [
            layers.Dense(5, activation="tanh", name="hidden", input_shape=(6,)),
            layers.Dense(3, activation="softmax", name="out"),
        ]
    )


def cnn():
    return keras.Sequential(
        [
            layers.Conv2D(4, 3, name="conv", input_shape=(6, 6, 2)),
            layers.BatchNormalization(name="bn"),
            layers.Activation("relu", name="relu"),
            layers.Flatten(name="flat"),
            layers.Dense(3, activation="softmax", name="out"),
        ]
    )


def lstm():
    return keras.Sequential(
        [
            layers.LSTM(4, name="memory", input_shape=(5, 3)),
            layers.Dense(3, activation="softmax", name="out"),
        ]
    )


def gru():
    return keras.Sequential(
        [
            layers.GRU(4, name="memory", input_shape=(5, 3)),
            layers.Dense(3, activation="softmax", name="out"),
        ]
    )


def embedding():
    length = {} if KERAS3 else {"input_length": 5}
    return keras.Sequential(
        [
            layers.Embedding(12, 4, name="table", **length),
            layers.Flatten(name="flat"),
            layers.Dense(3, activation="softmax", name="out"),
        ]
    )


def two_by_two():
    a = layers.Input((4,), name="a")
    b = layers.Input((3,), name="b")
    left = layers.Dense(3, activation="tanh", name="left")(a)
    right = layers.Dense(3, activation="tanh", name="right")(b)
    both = layers.Concatenate(name="both")([left, right])
    first = layers.Dense(3, activation="softmax", name="first")(both)
    second = layers.Dense(1, name="second")(both)
    return keras.models.Model([a, b], [first, second])


SPECS = {
    "mlp": Spec(mlp, [(6,)], [3], ["hidden/kernel", "hidden/bias", "out/kernel", "out/bias"]),
    "cnn": Spec(
        cnn,
        [(6, 6, 2)],
        [3],
        [
            "conv/kernel", "conv/bias", "bn/gamma", "bn/beta", "bn/moving_mean",
            "bn/moving_variance", "out/kernel", "out/bias",
        ],
        frozen=["bn/moving_mean", "bn/moving_variance"],
    ),
    "lstm": Spec(
        lstm,
        [(5, 3)],
        [3],
        ["memory/kernel", "memory/recurrent_kernel", "memory/bias", "out/kernel", "out/bias"],
    ),
    "gru": Spec(
        gru,
        [(5, 3)],
        [3],
        ["memory/kernel", "memory/recurrent_kernel", "memory/bias", "out/kernel", "out/bias"],
    ),
    "embedding": Spec(embedding, [(5,)], [3], ["table/embeddings", "out/kernel", "out/bias"]),
    "two_by_two": Spec(
        two_by_two,
        [(4,), (3,)],
        [3, 1],
        [
            "left/kernel", "left/bias", "right/kernel", "right/bias",
            "first/kernel", "first/bias", "second/kernel", "second/bias",
        ],
        loss_weights=[1.0, 0.25],
    ),
}  # fmt: skip


class Rule:
    """An optimizer and its slots by hand.

    `constant` is the same rule without clipping and at a fixed rate: what it makes of the applied
    gradient is what the recorded step has to be.
    """

    def __init__(self, make, constant, slots=()):
        self.make = make
        self.constant = constant
        self.slots = slots


def halving():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


def rules(opt):
    """Each optimizer as a module of optimizers makes it."""
    return {
        "momentum": Rule(
            lambda: opt.SGD(0.1, momentum=0.9), lambda r: opt.SGD(r, momentum=0.9), ["momentum"]
        ),
        "adam": Rule(lambda: opt.Adam(0.01), opt.Adam, ["m", "v"]),
        "rmsprop": Rule(lambda: opt.RMSprop(0.01), opt.RMSprop, ["rms"]),
        "adagrad": Rule(lambda: opt.Adagrad(0.05), opt.Adagrad, ["accumulator"]),
        "adam-clipnorm": Rule(lambda: opt.Adam(0.01, clipnorm=0.05), opt.Adam, ["m", "v"]),
        "sgd-clipvalue": Rule(lambda: opt.SGD(0.1, clipvalue=0.02), opt.SGD),
        "sgd-global-clipnorm": Rule(lambda: opt.SGD(0.1, global_clipnorm=0.05), opt.SGD),
        "sgd-decay": Rule(lambda: opt.SGD(0.1, decay=0.5), opt.SGD),
        "adam-decay": Rule(lambda: opt.Adam(0.01, decay=0.5), opt.Adam, ["m", "v"]),
        "sgd-schedule": Rule(lambda: opt.SGD(halving()), opt.SGD),
    }


RULES = rules(keras.optimizers)
if LEGACY is not None:
    RULES.update({"legacy-" + name: rule for name, rule in rules(LEGACY).items()})

CELLS = [
    "mlp:momentum", "mlp:adam", "mlp:rmsprop", "mlp:adagrad", "mlp:adam-clipnorm",
    "cnn:momentum", "lstm:adam-clipnorm", "gru:momentum", "embedding:momentum",
    "embedding:adam", "two_by_two:adam", "two_by_two:sgd-clipvalue",
]  # fmt: skip
CELLS += [] if KERAS3 or NEW_OPTIMIZERS else ["mlp:sgd-decay", "mlp:adam-decay"]
CELLS += [] if STANDALONE else ["mlp:sgd-schedule"]
CELLS += ["two_by_two:sgd-global-clipnorm"] if KERAS3 or NEW_OPTIMIZERS else []
if LEGACY is not None:
    CELLS += [
        "mlp:legacy-momentum", "mlp:legacy-adam-clipnorm", "cnn:legacy-adam",
        "embedding:legacy-adam", "mlp:legacy-adam-decay", "mlp:legacy-sgd-schedule",
        "two_by_two:legacy-sgd-global-clipnorm",
    ]  # fmt: skip


def ulps(a, b):
    """The largest distance of two float32 arrays in units in the last place."""
    a, b = (np.ascontiguousarray(v, np.float32).view(np.int32).astype(np.int64) for v in (a, b))
    a, b = (np.where(v < 0, -(v & 0x7FFFFFFF), v) for v in (a, b))
    return int(np.abs(a - b).max()) if a.size else 0


def scaled(a, b):
    """The largest distance of two arrays in units in the last place of their largest element."""
    return float(np.abs(a - b).max() / np.spacing(np.abs(b).max())) if a.size else 0.0


class Logs(keras.callbacks.Callback):
    """What the framework tells any callback at the end of a batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append({k: np.float32(v) for k, v in logs.items() if k not in ("batch", "size")})


def record(spec, rule, store):
    """Trains once with the recorder, and returns what the framework told another callback."""
    from tracediff_hooks import TraceCallback

    model = spec.build()
    model.compile(
        optimizer=rule.make(),
        loss=spec.losses,
        loss_weights=spec.loss_weights,
        metrics=[["accuracy"]] + [["mae"]] * (len(spec.outputs) - 1),
    )
    x, y = spec.data()
    logs = Logs()
    model.fit(
        x if len(x) > 1 else x[0],
        y if len(y) > 1 else y[0],
        batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0,
        callbacks=[TraceCallback(str(store)), logs],
    )  # fmt: skip
    return logs.seen, model.get_weights()


def check(cell, folder, by_hand):
    """Holds the record of one training against the same steps done by hand."""
    spec, rule = (SPECS[cell.split(":")[0]], RULES[cell.split(":")[1]])
    store = Path(folder) / (cell.replace(":", "-") + ".zarr")
    logs, final = record(spec, rule, store)
    trace = Recorded(store)
    x, y = spec.data()
    found = {
        "steps": trace.steps,
        "logged": len(logs),
        "external": trace.external,
        "status": trace.about["status"],
        "weights": trace.names("weight"),
        "gradients": trace.names("gradient"),
        "iterations": [
            int(trace.state(row, "slot", "optimizer/iteration")) for row in range(trace.steps + 1)
        ],
        "final": max(
            ulps(a, trace.state(trace.steps, "weight", name))
            for a, name in zip(final, spec.weights)
        ),
        "sparse": sorted(
            t["name"] for t in trace.about["tensors"]
            if t["role"] == "gradient" and t["layout"] == "sparse"
        ),
        "one tensor": sorted(
            t["name"] for t in trace.about["tensors"] if t["same_as"] == "gradient"
        ),
        "rates": [
            float(trace.observed(k, "learning_rate", "optimizer/learning_rate"))
            for k in range(trace.steps)
        ],
        "batch": [], "loss": [], "gradient": {}, "applied": {}, "after": {}, "after, scaled": {},
        "untrained": {}, "whole": {}, "metrics": [],
        "clipped": 0, "moved": 0,
    }  # fmt: skip
    step_by_hand = by_hand(spec, rule)
    for k in range(trace.steps):
        first = BATCH * (k % STEPS_PER_EPOCH)
        cut = [[part[first : first + BATCH] for part in whole] for whole in (x, y)]
        for role, parts in zip(("input", "label"), cut):
            for i, part in enumerate(parts):
                seen = trace.observed(k, role, f"{role}/{i}")
                found["batch"].append(seen.shape == part.shape and bool((seen == part).all()))
        before = [trace.state(k, "weight", name) for name in spec.weights]
        weights_before = dict(zip(spec.weights, before))
        slots = {
            ("slot", name + "/" + slot): trace.state(k, "slot", name + "/" + slot)
            for name in spec.trained for slot in rule.slots
        }  # fmt: skip
        raw = {n: trace.observed(k, "gradient", n) for n in spec.trained}
        applied = {n: trace.observed(k, "applied_gradient", n) for n in spec.trained}

        loss, gradients = step_by_hand.gradients(before, *cut)
        found["loss"].append(ulps(loss, trace.observed(k, "loss", "loss")))
        for name, gradient in zip(spec.trained, gradients):
            worse(found["gradient"], name, ulps(gradient, densified(raw[name], gradient.shape)))

        for name, value in step_by_hand.untrained().items():
            worse(found["untrained"], name, ulps(value, trace.state(k + 1, "weight", name)))

        clipped = step_by_hand.clipped([raw[n] for n in spec.trained])
        for name, gradient in zip(spec.trained, clipped):
            shape = trace.table["weight", name]["shape"]
            kept = densified(applied[name], shape)
            worse(found["applied"], name, ulps(densified(gradient, shape), kept))
            found["clipped"] += int((densified(raw[name], shape) != kept).any())

        rate = trace.observed(k, "learning_rate", "optimizer/learning_rate")
        weights, after = step_by_hand.update(
            k, rate, weights_before, slots, [applied[n] for n in spec.trained],
            {n: trace.state(k + 1, "weight", n) for n in spec.trained},
        )  # fmt: skip
        after.update((("weight", name), weights[name]) for name in spec.trained)
        for (role, name), value in after.items():
            now = trace.state(k + 1, role, name)
            worse(found["after"], name, ulps(value, now))
            worse(found["after, scaled"], name, scaled(value, now))
            found["moved"] += int(role == "weight" and (now != weights_before[name]).any())
        if step_by_hand.whole_step is not None:
            whole = step_by_hand.whole_step(k, weights_before, slots, *cut)
            for (role, name), value in whole.items():
                worse(found["whole"], name, ulps(value, trace.state(k + 1, role, name)))

        for name in trace.names("metric"):
            value = trace.observed(k, "metric", name)
            told = name.split("/", 1)[1]
            found["metrics"].append(ulps(value, logs[k][CALLED.get(told, told)]))
    found["metric names"] = trace.names("metric")
    found["notes"] = step_by_hand.notes
    return found


# tf.keras of TensorFlow 1.15 calls metrics by other names than all others.
CALLED = {
    "accuracy": "acc", "first_accuracy": "first_acc", "second_mae": "second_mean_absolute_error",
} if STACK == "tf1.15" else {}  # fmt: skip


def worse(table, name, distance):
    table[name] = max(distance, table.get(name, 0))


def main(by_hand):
    folder, cells = sys.argv[1], sys.argv[2:] or CELLS
    start(3)
    print(json.dumps({cell: check(cell, folder, by_hand) for cell in cells}))
