"""A training script as users have them: it knows nothing of the recorder.

`python plain_training.py FLAVOUR OUT.npz --epochs 2` trains one model that long, then others for an
epoch in all the places where scripts call `fit`. It saves the weights that they end with, by place
and position, and prints what it sees of its interpreter.
"""

import json
import pickle
import sys
import threading

import numpy as np
from training_kit import Kit, hide_output, problem


class Marker:
    """Something that can be pickled only if this module is `__main__`."""


class Trainer:
    """Trains in a method, as frameworks upon a framework do."""

    def __init__(self, model):
        self.model = model

    def run(self, **arguments):
        self.model.fit(**arguments)


class Places:
    """Each method trains a model of its own and returns its weights."""

    def __init__(self, kit):
        self.kit = kit
        x, y = problem()
        self.arguments = {"x": x, "y": y, "batch_size": 8, "verbose": 0}

    def in_a_class(self):
        model = self.kit.mlp()
        Trainer(model).run(**self.arguments)
        return model.get_weights()

    def in_a_model_class_with_a_fit_of_its_own(self):
        class Own(self.kit.keras.models.Model):
            def fit(self, *args, **kwargs):
                return super().fit(*args, **kwargs)

        plain = self.kit.mlp(compiled=False)
        model = Own(plain.inputs, plain.outputs)
        model.compile(optimizer=self.kit.sgd(), loss="mse")
        model.fit(**self.arguments)
        return model.get_weights()

    def through_a_reference(self):
        fit = self.kit.keras.models.Model.fit
        model = self.kit.mlp()
        fit(model, **self.arguments)
        return model.get_weights()

    def in_a_thread(self):
        found = []

        def train():
            self.kit.seed(2)  # in TensorFlow 1.15 each thread has a graph of its own
            found.append(self.in_a_class())

        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        return found[0]


PLACES = (
    "in_a_class",
    "in_a_model_class_with_a_fit_of_its_own",
    "through_a_reference",
    "in_a_thread",
)


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
        weights = {"in_a_function": model.get_weights()}
        for place in PLACES:
            weights[place] = getattr(Places(kit), place)()
    arrays = {f"{place}/{i}": w for place, found in weights.items() for i, w in enumerate(found)}
    np.savez(target, **arrays)
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
