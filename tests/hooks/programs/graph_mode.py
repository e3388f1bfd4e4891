"""Trains in graph mode on TensorFlow 2, as `disable_v2_behavior()` has it, watched and not.

`python graph_mode.py FLAVOUR FOLDER` leaves `fit.zarr`, `block.zarr` and an `.npz` beside each, and
prints facts of each; `python graph_mode.py FLAVOUR FOLDER plain` trains once and knows nothing of
the recorder.
"""

import json
import sys
from pathlib import Path

import numpy as np
from training_kit import Kit, problem, said_by_us, same_weights, traces_of_us, witness_of


def model_of(kit):
    kit.keras.backend.clear_session()
    kit.seed(1)
    optimizers = getattr(kit.keras.optimizers, "legacy", kit.keras.optimizers)
    return kit.mlp(optimizers.SGD(learning_rate=0.25))


def fit(kit, callbacks):
    model = model_of(kit)
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    return model


def watched(kit, folder):
    """A fit, whose steps a witness sees."""
    from tracediff_hooks import TraceCallback

    plain = fit(kit, []).get_weights()
    witness, models = witness_of(kit), []
    said = said_by_us(
        lambda: models.append(fit(kit, [witness, TraceCallback(folder / "fit.zarr")]))
    )
    np.savez(str(folder / "fit.npz"), **witness.facts())
    return {
        "same_weights": same_weights(plain, models[0].get_weights()),
        "left_behind": traces_of_us(models[0]),
        "said": said,
    }


def in_a_block(kit, folder):
    """The same steps through `train_on_batch`."""
    import tracediff_hooks

    plain = fit(kit, []).get_weights()
    model = model_of(kit)
    x, y = problem()
    with tracediff_hooks.record(model, folder / "block.zarr"):
        for _ in range(2):
            for start in (0, 8, 16):
                model.train_on_batch(x[start : start + 8], y[start : start + 8])
    np.savez(str(folder / "block.npz"))
    return {
        "same_weights": same_weights(plain, model.get_weights()),
        "left_behind": traces_of_us(model),
    }


def main(flavour, folder, *mode):
    kit = Kit(flavour)
    kit.tf.compat.v1.disable_v2_behavior()
    kit.graph = True
    if mode:
        fit(kit, [])
        return
    folder = Path(folder)
    print(json.dumps({"fit": watched(kit, folder), "block": in_a_block(kit, folder)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
