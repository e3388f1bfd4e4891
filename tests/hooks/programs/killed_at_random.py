"""Trains and is killed with `kill -9`, again and again, each time after another while.

`python killed_at_random.py FLAVOUR FOLDER SEED TIMES`: leaves `FOLDER/<n>.zarr`, and in
`FOLDER/<n>.txt` how many steps had been trained, and how many flushed, when it was killed.

The framework is imported once; each training is a child of this process, forked before the
framework has run anything.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from training_kit import Kit, callback_of, problem


def train(kit, trace, notes):
    """Trains until it is killed, and notes every step and every flush in a file."""
    from tracediff_hooks import TraceCallback, store, writer

    writer.FLUSH_SECONDS = 0.2
    numbers = np.zeros(2, np.int64)
    file = os.open(str(notes), os.O_CREAT | os.O_RDWR)
    plain = store.RunGroup.flush

    def flush(self, steps):
        plain(self, steps)
        numbers[1] = steps
        os.pwrite(file, numbers.tobytes(), 0)

    def trained(model, batch, logs):
        numbers[0] += 1
        os.pwrite(file, numbers.tobytes(), 0)

    store.RunGroup.flush = flush
    kit.fresh()
    model = kit.mlp()
    x, y = problem()
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=100000,
        shuffle=False,
        verbose=0,
        callbacks=[TraceCallback(trace), callback_of(kit, on_train_batch_end=trained)],
    )


def main(flavour, folder, seed, times):
    kit = Kit(flavour)
    draw = random.Random(int(seed))
    for number in range(int(times)):
        notes = Path(folder) / f"{number}.txt"
        child = os.fork()
        if not child:
            train(kit, Path(folder) / f"{number}.zarr", notes)
            os._exit(1)
        while not notes.exists() or notes.stat().st_size < 16:
            if os.waitpid(child, os.WNOHANG)[0]:
                sys.exit("the training ended by itself")
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 1.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
