"""Prints what recording costs on this stack, as ratios to a plain fit of the same model.

`python recording.py [MODEL ...] [--name STACK] [--steps N] [--rounds N]` prints rows of a table in
Markdown. Runs on every stack. The conditions take turns in one process, so that a noisy machine
disturbs them alike; the first fit of each compiles and is not counted, nor are the first steps of
each fit. Two rows are no training: how long the same process takes to hash as many bytes as a step
has, and to copy them, with one thread and nothing else to do.
"""

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import xxhash

try:
    import keras
except ImportError:
    keras = None
if not hasattr(keras, "layers"):
    from tensorflow import keras

from tracediff_hooks import TraceCallback

SKIPPED = 3
"""Steps at the beginning of each fit that are not counted: runs begin there."""


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


def large():
    """The same with 25.8 million parameters."""
    make = keras.layers
    layers = [
        make.Dense(4096, activation="relu", input_shape=(784,)),
        make.Dense(4096, activation="relu"),
        make.Dense(1408, activation="relu"),
        make.Dense(10, activation="softmax"),
    ]
    return keras.models.Sequential(layers), (784,), 128


class Clock(keras.callbacks.Callback):
    """Notes when each step ended, and how much memory the process has then."""

    def __init__(self):
        super().__init__()
        self.ends = []
        self.peak = 0

    def on_train_batch_end(self, batch, logs=None):  # noqa: ARG002 - Keras passes them
        """Notes the time, and the processor time of all threads."""
        self.ends.append((time.perf_counter(), time.process_time()))
        self.peak = max(self.peak, resident())


class RawBytes(keras.callbacks.Callback):
    """Appends the weights, the slots and as much again as gradients to one file, in a thread.

    What the fastest writer of the same amount could reach: nothing is hashed, named or indexed.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_begin(self, logs=None):  # noqa: ARG002 - Keras passes it
        """Opens the file and starts the thread."""
        self.file = self.path.open("wb", buffering=0)
        self.free, self.full = [], []
        self.ready = threading.Semaphore(0)
        self.room = threading.Semaphore(8)
        self.thread = threading.Thread(target=self.write)
        self.thread.start()

    def write(self):
        """Writes what comes, until that is None."""
        while True:
            self.ready.acquire()
            buffer = self.full.pop(0)
            if buffer is None:
                return
            self.file.write(buffer)
            self.free.append(buffer)
            self.room.release()

    def on_train_batch_end(self, batch, logs=None):  # noqa: ARG002 - Keras passes them
        """Hands a copy of everything to the thread."""
        values = self.values()
        self.room.acquire()
        size = sum(value.nbytes for value in values)
        buffer = self.free.pop() if self.free else np.empty(size, np.uint8)
        start = 0
        for value in values:
            part = buffer[start : start + value.nbytes]
            np.copyto(part, np.ascontiguousarray(value).reshape(-1).view(np.uint8))
            start += value.nbytes
        self.full.append(buffer)
        self.ready.release()

    def values(self):
        """Everything that is to be written of a step."""
        weights = self.model.get_weights()
        optimizer = self.model.optimizer
        if hasattr(optimizer, "get_weights"):
            slots = [np.asarray(value) for value in optimizer.get_weights()]
        else:
            slots = [np.asarray(variable.numpy()) for variable in optimizer.variables]
        return [*weights, *slots, *weights]

    def on_train_end(self, logs=None):  # noqa: ARG002 - Keras passes it
        """Waits for the thread."""
        self.full.append(None)
        self.ready.release()
        self.thread.join()
        self.file.close()


def resident():
    """Memory of this process in bytes."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def size_of(folder):
    """What the files below a folder take on disk, in bytes."""
    return sum(512 * file.stat().st_blocks for file in Path(folder).rglob("*") if file.is_file())


def tensorboard(folder):
    """Histograms of weights, once an epoch."""
    return keras.callbacks.TensorBoard(log_dir=str(folder / "logs"), histogram_freq=1)


def smdebug(folder):
    """The debugger of SageMaker, where it is installed."""
    import smdebug.tensorflow as smd

    save = smd.SaveConfig(save_interval=1)
    return smd.KerasHook(out_dir=str(folder / "smd"), save_config=save, save_all=True)


CONDITIONS = {
    "plain": None,
    "digest": lambda folder: TraceCallback(folder / "a.zarr", level="digest"),
    "sketch": lambda folder: TraceCallback(folder / "a.zarr", level="sketch"),
    "full": lambda folder: TraceCallback(folder / "a.zarr", level="full", budget="40GB"),
    "raw bytes": lambda folder: RawBytes(folder / "raw"),
    "TensorBoard": tensorboard,
    "smdebug": smdebug,
}


def measure(model, x, y, batch, condition):
    """One epoch; returns seconds and processor seconds a step, bytes, memory, seconds to end."""
    folder = Path(tempfile.mkdtemp())
    steps = len(x) // batch
    try:
        clock = Clock()
        hook = [] if condition is None else [condition(folder)]
        before = resident()
        data = {"x": x, "y": y}
        if condition is tensorboard:
            data["validation_data"] = (x[:batch], y[:batch])  # Keras 2.3 refuses it without
        model.fit(
            **data,
            batch_size=batch,
            epochs=1,
            shuffle=False,
            verbose=0,
            callbacks=[*hook, clock],
        )
        ended = time.perf_counter()
        ends = np.array(clock.ends)
        apart, busy = np.diff(ends, axis=0)[SKIPPED:].mean(axis=0)
        return (
            apart,
            busy,
            size_of(folder) / steps,
            max(0, clock.peak - before),
            ended - ends[-1, 0],
        )
    finally:
        shutil.rmtree(str(folder))


def limits(size, plain):
    """Rows for hashing and for copying as many bytes as a step has, as ratios to a plain step."""
    memory, copy = np.ones(size, np.uint8), np.empty(size, np.uint8)
    actions = {
        "(hashing a step's bytes)": lambda: xxhash.xxh3_128_intdigest(memory),
        "(copying a step's bytes)": lambda: np.copyto(copy, memory),
    }
    for name, action in actions.items():
        action()
        taken = []
        for _ in range(9):
            start = time.perf_counter()
            action()
            taken.append((time.perf_counter() - start) / plain)
        yield (
            name,
            f"+ {np.median(taken):.3f}",
            f"{min(taken):.3f} to {max(taken):.3f}",
            "",
            "",
            "",
            "",
        )


def not_measured(error):
    """Why a condition has no numbers, in a few words."""
    missing = getattr(error, "name", None)
    if missing:
        return f"not measured: {missing} is not installed"
    return "not measured: " + str(error).split("\n", 1)[0]


def compare(name, stack, make, steps, rounds):
    """Prints the rows of one model."""
    model, shape, batch = make()
    model.compile("adam", "sparse_categorical_crossentropy")
    generator = np.random.RandomState(0)
    x = generator.rand(steps * batch, *shape).astype("float32")
    y = generator.randint(0, 10, steps * batch)
    found, missing = {}, {}
    for turn in range(rounds + 1):
        for condition, action in CONDITIONS.items():
            if condition in missing:
                continue
            try:
                result = measure(model, x, y, batch, action)
            except Exception as error:  # noqa: BLE001 - a tool that this stack lacks
                missing[condition] = not_measured(error)
                continue
            if turn:
                found.setdefault(condition, []).append(result)
    plain, plain_busy = np.array(found["plain"])[:, :2].T
    rows = [
        (
            f"plain, {model.count_params() / 1e6:.2f} M parameters",
            f"{1000 * np.median(plain):.1f} ms",
            f"{1000 * plain.min():.1f} to {1000 * plain.max():.1f} ms",
            f"{1000 * np.median(plain_busy):.1f} ms",
            "",
            "",
            "",
        )
    ]
    for condition in list(CONDITIONS)[1:]:
        if condition in missing:
            rows.append((condition, missing[condition], "", "", "", "", ""))
            continue
        seconds, busy, size, memory, end = np.array(found[condition]).T
        ratios = seconds / plain
        rows.append(
            (
                condition,
                f"{np.median(ratios):.2f}",
                f"{ratios.min():.2f} to {ratios.max():.2f}",
                f"{np.median(busy / plain_busy):.2f}",
                f"{np.median(size) / 1e6:.3g}",
                f"{np.median(memory) / 1e6:.0f}",
                f"{np.median(end):.2f}",
            )
        )
    # Adam: weights, two slots and gradients.
    rows += limits(16 * model.count_params() + x[:batch].nbytes, np.median(plain))
    for row in rows:
        print("| " + " | ".join((stack, name, *row)) + " |", flush=True)


def main():
    """Prints the rows of each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["mlp", "cnn", "large"])
    parser.add_argument("--name", default="this")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=None)
    options = parser.parse_args()
    default = {"mlp": (60, 5), "cnn": (15, 3), "large": (7, 2)}
    for name in options.models or default:
        make = {"mlp": mlp, "cnn": cnn, "large": large}[name]
        steps, rounds = default[name]
        compare(name, options.name, make, options.steps or steps, options.rounds or rounds)


if __name__ == "__main__":
    sys.exit(main())
