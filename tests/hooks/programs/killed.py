"""Trains slowly, and kills itself as `kill -9` would after more than one flush of the recorder.

`python killed.py FLAVOUR FOLDER`: writes `FOLDER/a.zarr`, and into `FOLDER/steps.txt` how many
steps were trained.
"""

import os
import signal
import sys
import time
from pathlib import Path

from training_kit import Kit, callback_of, problem

SECONDS = 6.5
"""The recorder promises to flush every five seconds."""


def main(flavour, folder):
    from tracediff_hooks import TraceCallback

    kit = Kit(flavour)
    kit.fresh()
    model = kit.mlp()
    x, y = problem()
    begun = []

    def last_words(model, batch, logs):
        begun.append(time.monotonic())
        time.sleep(0.02)
        if begun[-1] - begun[0] > SECONDS:
            (Path(folder) / "steps.txt").write_text(str(len(begun)))
            os.kill(os.getpid(), signal.SIGKILL)

    model.fit(
        x,
        y,
        batch_size=8,
        epochs=100000,
        shuffle=False,
        verbose=0,
        callbacks=[
            TraceCallback(Path(folder) / "a.zarr"),
            callback_of(kit, on_train_batch_end=last_words),
        ],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
