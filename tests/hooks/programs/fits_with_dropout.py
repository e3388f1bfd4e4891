"""Trains a model with dropout in several fits, some of them recorded, and prints what came of it.

Runs on TensorFlow 2 and later. Usage: fits_with_dropout.py FOLDER [CASE ...]. Cases that begin with
``replicas`` train on two. Prints JSON: for each case how far the final weights are from
those of the same fits without the recorder, and its traces.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from tracediff_hooks import TraceCallback, record

STACK = os.environ["TRACEDIFF_STACK"]
if STACK == "tf-keras":
    import tensorflow as tf
    import tf_keras as keras
elif STACK.startswith("tf"):
    import tensorflow as tf
    from tensorflow import keras
else:
    import keras
    import tensorflow as tf

FOLDER = Path(sys.argv[1])
CASES = ("callback callback", "callback plain", "block plain", "block block", "callback short",
         "callback compile callback", "block-compile plain", "callback fails plain",
         "callback outputs", "plain callback", "replicas callback callback",
         "replicas callback plain", "replicas block other block", "block other block",
         "groups callback callback", "groups callback plain")  # fmt: skip


def two_devices():
    """A strategy of two replicas."""
    config = tf.config.experimental
    (cpu,) = config.list_physical_devices("CPU")
    config.set_virtual_device_configuration(cpu, [config.VirtualDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])


STRATEGY = two_devices()


class Stop(keras.callbacks.Callback):
    """Ends a fit by an exception."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise RuntimeError("enough")


def make(case):
    """A model, on two replicas, or of two steps an execution, where the case begins so."""
    keras.backend.clear_session()
    if STACK.startswith("tf"):
        tf.random.set_seed(5)
    if hasattr(keras.utils, "set_random_seed"):
        keras.utils.set_random_seed(5)
    steps = ("experimental_" if STACK == "tf2.3" else "") + "steps_per_execution"
    groups = {steps: 2} if case.startswith("groups") else {}
    first, last = (keras.initializers.GlorotUniform(seed=seed) for seed in (3, 4))
    layers = keras.layers
    with STRATEGY.scope() if case.startswith("replicas") else contextlib.ExitStack():
        model = keras.Sequential(
            [
                layers.Dense(8, kernel_initializer=first),
                layers.Dropout(0.4),
                layers.Dense(1, kernel_initializer=last),
            ]
        )
        model.build((None, 5))
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", **groups)
    return model


def train(case, *, recorded):
    """Goes through the words of a case; returns the final weights and the traces."""
    model, traces = make(case), []
    random = np.random.RandomState(0)
    x, y = random.rand(24, 5).astype("float32"), random.rand(24, 1).astype("float32")
    usual = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}

    def path():
        traces.append(str(FOLDER / "{}-{}.zarr".format(case.replace(" ", "_"), len(traces))))
        return traces[-1]

    callback = None
    for word in case.split():
        if word == "compile":
            model.compile(keras.optimizers.Adam(0.01), "mae")
        elif word in ("replicas", "groups"):
            continue
        elif word == "other":
            # Of other shapes, so that the step is traced again.
            model.fit(x[:12], y[:12], batch_size=4, shuffle=False, verbose=0)
        elif word == "plain" or (not recorded and word in ("callback", "block", "outputs")):
            model.fit(x, y, **usual)
        elif word == "short":
            model.fit(x[:10], y[:10], callbacks=[callback] if recorded else [], **usual)
        elif word == "fails":
            callbacks = [*([callback] if recorded else []), Stop()]
            with contextlib.suppress(RuntimeError):
                model.fit(x, y, callbacks=callbacks, **usual)
        elif word == "callback":
            callback = callback or TraceCallback(path())
            model.fit(x, y, callbacks=[callback], **usual)
        elif word == "outputs":
            model.fit(x, y, callbacks=[TraceCallback(path(), activations=True)], **usual)
        elif word == "block":
            with record(model, path()):
                model.fit(x, y, **usual)
        elif word == "block-compile" and recorded:
            with record(model, path()):
                model.fit(x, y, **usual)
                model.compile(keras.optimizers.Adam(0.01), "mae")
                model.fit(x, y, **usual)
        else:
            model.fit(x, y, **usual)
            model.compile(keras.optimizers.Adam(0.01), "mae")
            model.fit(x, y, **usual)
    return [np.array(weight) for weight in model.get_weights()], traces


found = {}
for case in sys.argv[2:] or CASES:
    (plain, _), (again, _) = train(case, recorded=False), train(case, recorded=False)
    weights, traces = train(case, recorded=True)
    off = [max(float(np.abs(a - b).max()) for a, b in zip(plain, w)) for w in (again, weights)]
    found[case] = {"again": off[0], "recorded": off[1], "traces": traces}
    np.savez(str(FOLDER / (case.replace(" ", "_") + ".npz")), *weights)
print(json.dumps(found))
