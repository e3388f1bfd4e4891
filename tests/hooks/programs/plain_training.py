"""A training script as users have them: it knows nothing of the recorder.

`python plain_training.py FLAVOUR OUT.npz --epochs 2` saves the weights that it ends with and prints
what it sees of its interpreter.
"""

import json
import pickle
import sys

import numpy as np
from training_kit import Kit, hide_output, problem


class Marker:
    """Something that can be pickled only if this module is `__main__`."""


def main():
    flavour, target, option, epochs = sys.argv[1:]
    assert option == "--epochs"
    kit = Kit(flavour)
    kit.fresh()
    epochs_seen = []
    model = kit.mlp()
    x, y = problem()
    own = kit.keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs_seen.append([epoch, sorted(logs)])
    )
    with hide_output():
        # x, y, batch_size, epochs, verbose, callbacks: all by position, as old scripts have it
        history = model.fit(x, y, 8, int(epochs), 0, [own])
    np.savez(target, *model.get_weights())
    facts = {
        "argv": sys.argv,
        "name": __name__,
        "file": __file__,
        "path": sys.path[0],
        "main": sys.modules["__main__"].__file__,
        "pickled": type(pickle.loads(pickle.dumps(Marker()))).__name__,
        "epochs": epochs_seen,
        "history": history.history["loss"],
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
