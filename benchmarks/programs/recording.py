"""Prints what recording costs on this stack: time of a fit with the hook over time of a plain one.

Runs on every stack. The conditions take turns in one process, so that a noisy machine disturbs them
alike; the first fit of each compiles and is not counted.
"""

import shutil
import sys
import tempfile
import time

import numpy as np

try:
    import keras
except ImportError:
    keras = None
if not hasattr(keras, "layers"):
    from tensorflow import keras

from tracediff_hooks import TraceCallback

ROUNDS = 5
STEPS = 40


def mlp():
    """Makes a dense model; returns it, the shape of an input row, and a batch size."""
    make = keras.layers
    layers = [
        make.Dense(512, activation="relu", input_shape=(784,)),
        make.Dense(512, activation="relu"),
        make.Dense(10, activation="softmax"),
    ]
    return keras.models.Sequential(layers), (784,), 128


def cnn():
    """The same with convolutions."""
    make = keras.layers
    layers = [
        make.Conv2D(32, 3, activation="relu", input_shape=(28, 28, 1)),
        make.Conv2D(64, 3, activation="relu"),
        make.MaxPooling2D(),
        make.Flatten(),
        make.Dense(48, activation="relu"),
        make.Dense(10, activation="softmax"),
    ]
    return keras.models.Sequential(layers), (28, 28, 1), 64


def seconds(model, x, y, batch, level):
    """Takes the time of one epoch, recorded at a level or, for None, plain."""
    folder = tempfile.mkdtemp()
    try:
        hook = [] if level is None else [TraceCallback(folder + "/a.zarr", level=level)]
        began = time.perf_counter()
        model.fit(x, y, batch_size=batch, epochs=1, shuffle=False, verbose=0, callbacks=hook)
        return time.perf_counter() - began
    finally:
        shutil.rmtree(folder)


def main():
    """Prints one line for each model."""
    for name, make in (("mlp", mlp), ("cnn", cnn)):
        model, shape, batch = make()
        model.compile("adam", "sparse_categorical_crossentropy")
        generator = np.random.RandomState(0)
        x = generator.rand(STEPS * batch, *shape).astype("float32")
        y = generator.randint(0, 10, STEPS * batch)
        taken = {level: [] for level in (None, "digest", "full")}
        for turn in range(ROUNDS + 1):
            for level, times in taken.items():
                spent = seconds(model, x, y, batch, level)
                if turn:
                    times.append(spent)
        plain = np.median(taken[None])
        print(f"{name:<4} plain {1000 * plain / STEPS:6.1f} ms a step", end="")
        for level in ("digest", "full"):
            ratios = np.array(taken[level]) / np.array(taken[None])
            print(
                f"   {level} {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
                end="",
            )
        print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
