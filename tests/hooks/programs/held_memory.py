"""Trains with memory that is written to again, and leaves traces and what was in it.

`python held_memory.py FLAVOUR FOLDER`: `reused.zarr`, whose batches were all fed in the same two
arrays, and `meddled.zarr`, between whose steps one weight was added to in place; beside each an npz
file of what was fed, or of the weight before and after each step.
"""

import sys
import threading
from pathlib import Path

import numpy as np
from training_kit import Kit, callback_of, hide_output, problem, witness_of

STEPS = 9


def aligned(*shape):
    """An array where frameworks like it: they take such memory over without a copy."""
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


def reused(kit, folder):
    """One step a batch, all of them fed in the memory of the first."""
    import tracediff_hooks

    model = kit.mlp()
    x, y = problem(8 * STEPS)
    feed_x, feed_y = aligned(8, 3), aligned(8, 2)
    with tracediff_hooks.record(model, folder / "reused.zarr", level="full"):
        for step in range(STEPS):
            feed_x[:], feed_y[:] = x[8 * step : 8 * step + 8], y[8 * step : 8 * step + 8]
            model.train_on_batch(feed_x, feed_y)
            feed_x[:], feed_y[:] = -1, -1
    np.savez(str(folder / "reused.npz"), x=x, y=y)


def meddled(kit, folder):
    """After every third step another thread adds to a weight, in place."""
    from tracediff_hooks import TraceCallback

    model = kit.mlp()
    steps = []
    # Made beforehand: a graph that is recorded gets no operations.
    bias = model.get_layer("hidden").bias
    ones = np.ones(4, "float32")
    if kit.graph:
        session = kit.keras.backend.get_session()
        add = bias.assign_add(ones)

        def change():
            session.run(add)
    else:

        def change():
            (bias.value if kit.keras3 else bias).assign_add(ones)

    def meddle(model, batch, logs):
        steps.append(batch)
        if len(steps) % 3 == 0:
            thread = threading.Thread(target=change)
            thread.start()
            thread.join()

    witness = witness_of(kit)
    x, y = problem(8 * STEPS)
    trace = TraceCallback(folder / "meddled.zarr", level="digest")
    callbacks = [trace, witness, callback_of(kit, on_train_batch_end=meddle)]
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    np.savez(str(folder / "meddled.npz"), **witness.facts())


def main(flavour, folder):
    kit = Kit(flavour)
    for action in (reused, meddled):
        kit.fresh()
        with hide_output():
            action(kit, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
