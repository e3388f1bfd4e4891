"""Asks for replays that cannot be, and prints what each attempt came to.

Usage: refusals.py FOLDER. Prints one JSON object: attempt -> the message of `ReplayRefused`, or
null, with the number of batches that were trained.
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
from frameworks import keras, start

from tracediff_hooks import Replay, ReplayRefused, TraceCallback
from tracediff_hooks import record as record_block

FOLDER = Path(sys.argv[1])
STREAM = np.random.RandomState(3)
X = STREAM.randn(24, 4).astype("float32")
Y = STREAM.randint(0, 3, 24)


class Counting(keras.callbacks.Callback):
    batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


def model(width=5, outputs=3, name="hidden", loss="sparse_categorical_crossentropy"):
    start(7)
    made = keras.models.Sequential(
        [
            keras.layers.Dense(width, name=name, input_shape=(4,)),
            keras.layers.Dense(outputs, activation="softmax", name=name + "_out"),
        ]
    )
    made.compile("sgd", loss)
    return made


def record(name, **options):
    trace = TraceCallback(FOLDER / f"{name}.zarr", **options)
    model().fit(X, Y, batch_size=8, epochs=1, verbose=0, callbacks=[trace])
    return FOLDER / f"{name}.zarr"


def attempt(name, source, made=None, x=X, y=Y, fits=1, epochs=1, **options):
    counting, message = Counting(), None
    made = made or model()
    try:
        replay = Replay(source, **options)
        trace = TraceCallback(FOLDER / f"b-{name}.zarr", replay=replay)
        for _ in range(fits):
            made.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[trace, counting])
    except ReplayRefused as error:
        message = str(error)
    return [message, counting.batches]


def block(source):
    try:
        with record_block(model(), FOLDER / "b-block.zarr", replay=Replay(source)):
            return [None, 1]
    except ReplayRefused as error:
        return [str(error), 0]


def damaged(source):
    import shutil

    copy = FOLDER / "damaged.zarr"
    shutil.copytree(str(source), str(copy))
    (chunk,) = (copy / "run-0/values/weight/hidden/kernel").glob("[0-9]*")
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(bytes(content))
    return copy


def mapping(a, b):
    """A mapping file by hand: the layers of one model are those of the other under another name."""
    pairs = [(layer, weight) for layer in ("", "_out") for weight in ("kernel", "bias")]
    lines = [{"a": f"{a}{layer}/{weight}", "b": f"{b}{layer}/{weight}"} for layer, weight in pairs]
    path = FOLDER / "map.json"
    path.write_text(json.dumps({"tracediff_map": 1, "tensors": lines}))
    return path


def main():
    good = record("good")
    one_hot = np.eye(3, dtype="float32")[Y]
    yield "fits", attempt("fits", good)
    yield "missing", attempt("missing", FOLDER / "nowhere.zarr")
    yield "no trace", attempt("no-trace", FOLDER)
    yield "digests", attempt("digests", record("digests", level="digest"))
    yield "other model", attempt("other-model", good, model(6, name="other"))
    renamed = mapping("hidden", "other")
    yield "mapped", attempt("mapped", good, model(name="other"), mapping=renamed)
    yield "labels", attempt("labels", good, model(loss="categorical_crossentropy"), y=one_hot)
    yield "damaged", attempt("damaged", damaged(good))
    yield "longer", attempt("longer", good, epochs=3)
    yield "second fit", attempt("second-fit", good, fits=2)
    yield "block", block(good)


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        found = dict(main())
    print(json.dumps(found))
