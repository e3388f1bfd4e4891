"""Trains, and trains again under replay with one option of `Replay` each.

Usage: replay_options.py OUT PART. Runs on every stack. Part "own" records OUT/a.zarr, and for each
pipeline OUT/b-PIPELINE.zarr and OUT/own-PIPELINE.zarr: one that gives A's batches, one that gives
the same rows in another order, one that scales them. Part "slots" (of TensorFlow 2 and later)
records OUT/adagrad.zarr, and replays of it with another initial accumulator, with A's slots and
with their own.
"""

import sys
from pathlib import Path

from frameworks import GRAPH, keras, single_thread, start
from replayed import BATCH, EPOCHS, data, layers, optimizer

from tracediff_hooks import Replay, TraceCallback

OUT = Path(sys.argv[1])
PIPELINES = {
    "same": lambda x, y: (x, y),
    "reversed": lambda x, y: (x[::-1].copy(), y[::-1].copy()),
    "scaled": lambda x, y: (x * 2, y),
}


def train(name, rule, replay=None, pipeline="same"):
    start(3)
    x, y = PIPELINES[pipeline](*data("mlp"))
    model = keras.models.Sequential(list(layers("mlp")))
    model.compile(rule, "sparse_categorical_crossentropy")
    callback = TraceCallback(OUT / f"{name}.zarr", replay=replay)
    given = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    model.fit(x, y, callbacks=[callback], **given)


def own():
    train("a", optimizer("sgd"))
    for kind in PIPELINES:
        replay = Replay(OUT / "a.zarr", own_batches=OUT / f"own-{kind}.zarr")
        train(f"b-{kind}", optimizer("sgd"), replay, kind)


def slots():
    def adagrad(begins):
        return keras.optimizers.Adagrad(0.1, initial_accumulator_value=begins)

    train("adagrad", adagrad(0.1))
    for name, taken in (("a-slots", True), ("own-slots", False)):
        train(name, adagrad(0.5), Replay(OUT / "adagrad.zarr", slots=taken))


if __name__ == "__main__":
    if GRAPH:
        single_thread()
    {"own": own, "slots": slots}[sys.argv[2]]()
