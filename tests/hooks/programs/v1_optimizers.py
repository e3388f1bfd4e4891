"""Trains with optimizers of `tf.compat.v1.train` in tf.keras 1.15, and repeats each update.

The oracle is the optimizer itself in a graph of its own: given the recorded weights, slots and
gradients, its own update must give the recorded next weights and slots.

Usage: v1_optimizers.py FOLDER; prints one JSON object.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import zarr

from tracediff_hooks import TraceCallback

train = tf.compat.v1.train
MAKE = {
    "sgd": lambda: train.GradientDescentOptimizer(0.1),
    "momentum": lambda: train.MomentumOptimizer(0.05, 0.9),
    "nesterov": lambda: train.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
    "rmsprop": lambda: train.RMSPropOptimizer(0.01, momentum=0.5),
    "centered": lambda: train.RMSPropOptimizer(0.01, centered=True),
    "adagrad": lambda: train.AdagradOptimizer(0.05),
    "adadelta": lambda: train.AdadeltaOptimizer(0.5),
    "adam": lambda: train.AdamOptimizer(0.01),
    "ftrl": lambda: train.FtrlOptimizer(0.05),
    "rate of tensors": lambda: train.GradientDescentOptimizer(tf.constant(0.1) * 0.5),
}
STEPS = 6


def fitted(name, store):
    """Trains one model; returns its final weights."""
    tf.keras.backend.clear_session()
    tf.compat.v1.set_random_seed(3)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Dense(5, activation="tanh", input_shape=(4,), name="hidden"),
            layers.Dense(1, name="out"),
        ]
    )
    model.compile(MAKE[name](), "mse")
    draw = np.random.RandomState(1)
    model.set_weights([draw.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    x, y = draw.normal(size=(STEPS * 8, 4)), draw.normal(size=(STEPS * 8, 1))
    callbacks = [TraceCallback(store)] if store else []
    model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0, callbacks=callbacks)
    return model.get_weights()


def read(store):
    """The recorded values by (role, name): state of every moment, observed of every step."""
    run = zarr.open_group(store, mode="r")["run-0"]
    about = run.attrs["run"]
    found = {}
    for tensor in about["tensors"]:
        if tensor["column"] is None or tensor["layout"] != "fixed":
            continue
        versions = run[tensor["table"] + "/version"][:, tensor["column"]]
        values = run[tensor["path"]]
        found[tensor["role"], tensor["name"]] = [values[int(v)] for v in versions]
    return about, found


def repeated(name, found, step):
    """The largest difference in ULP of weights and slots after one update done anew."""
    rates = found["learning_rate", "optimizer/learning_rate"]
    weights = [key[1] for key in found if key[0] == "weight"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            w: tf.compat.v1.get_variable(w.replace("/", "_"), initializer=found["weight", w][step])
            for w in weights
        }
        optimizer = MAKE[name]()
        if name == "rate of tensors":
            optimizer = train.GradientDescentOptimizer(float(rates[step]))
        pairs = [(tf.constant(found["gradient", w][step]), variables[w]) for w in weights]
        update = optimizer.apply_gradients(pairs)
        session.run(tf.compat.v1.global_variables_initializer())
        slots = {}
        for w in weights:
            for slot in optimizer.get_slot_names():
                canonical = {"accum": "accum_grad", "accum_update": "accum_var"}.get(slot, slot)
                canonical = "accumulator" if (name, slot) == ("ftrl", "accum") else canonical
                slots[w + "/" + canonical] = optimizer.get_slot(variables[w], slot)
        for key, variable in slots.items():
            variable.load(found["slot", key][step], session)
        if name == "adam":
            for power, beta in zip(optimizer._get_beta_accumulators(), (0.9, 0.999)):
                value = np.float32(beta)
                for _ in range(step):
                    value = np.float32(value * np.float32(beta))
                power.load(value, session)
        session.run(update)
        after = session.run({**variables, **slots})
    worst = 0
    for key, value in after.items():
        role = "weight" if key in variables else "slot"
        expected = found[role, key][step + 1]
        worst = max(worst, int(np.abs(ordered(value) - ordered(expected)).max()))
    return worst, sorted(slots)


def ordered(values):
    """Numbers whose difference is the distance in ULP."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def main(folder):
    answers = {}
    for name in MAKE:
        store = str(Path(folder) / (name + ".zarr"))
        plain = fitted(name, None)
        again = fitted(name, store)
        about, found = read(store)
        worst, slots = 0, []
        for step in range(STEPS):
            ulp, slots = repeated(name, found, step)
            worst = max(worst, ulp)
        answers[name] = {
            "equal": all((a == b).all() for a, b in zip(plain, again)),
            "status": about["status"],
            "events": about["events"],
            "optimizer": about["optimizer"],
            "rates": [float(v) for v in found["learning_rate", "optimizer/learning_rate"]],
            "slots": slots,
            "recorded_slots": sorted(k[1] for k in found if k[0] == "slot"),
            "ulp": worst,
        }
    print(json.dumps(answers))


main(sys.argv[1])
