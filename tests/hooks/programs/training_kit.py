"""What the programs of the hook tests share.

One face for the Keras of every stack, small models, and a witness of the weights.

Nothing here knows the hook. Runs on Python 3.7 with Keras 2.3 and on Python 3.11 with Keras 3.
"""

import contextlib
import importlib
import io
import random
import sys
from pathlib import Path

import numpy as np

GRAPH = ("keras2.3", "tf1.15")
TF_KERAS = ("tf2.3", "tf2.15", "tf-keras")
KERAS3 = ("keras3", "keras3-jax", "keras3-torch")
TF2 = (*TF_KERAS, "keras3")
"""TensorFlow 2, where a step is a `tf.function`."""
EVERYWHERE = (*GRAPH, *TF_KERAS, *KERAS3)


class Kit:
    """The Keras of one flavour."""

    def __init__(self, flavour):
        self.flavour = flavour
        with contextlib.redirect_stderr(io.StringIO()):  # "Using TensorFlow backend."
            self.keras3 = flavour.startswith("keras3")
            if flavour not in ("keras3-jax", "keras3-torch"):
                self.tf = importlib.import_module("tensorflow")
            if flavour == "keras3-torch":
                self.torch = importlib.import_module("torch")
            if flavour == "keras2.3" or self.keras3:
                self.keras = importlib.import_module("keras")
            elif flavour == "tf-keras":
                self.keras = importlib.import_module("tf_keras")
            else:
                self.keras = self.tf.keras
        self.graph = flavour in GRAPH

    def seed(self, number):
        random.seed(number)
        np.random.seed(number)  # noqa: NPY002 - the stream that Keras draws from
        if self.graph:
            self.tf.compat.v1.set_random_seed(number)
        elif self.flavour == "tf2.3":
            self.tf.random.set_seed(number)
        else:
            self.keras.utils.set_random_seed(number)

    def fresh(self, number=1):
        """Forgets every model made so far, and seeds what is random."""
        self.keras.backend.clear_session()
        self.seed(number)

    def sgd(self, rate=0.25):
        key = "lr" if self.flavour == "keras2.3" else "learning_rate"
        return self.keras.optimizers.SGD(**{key: rate})

    def adam(self, rate=0.01):
        key = "lr" if self.flavour == "keras2.3" else "learning_rate"
        return self.keras.optimizers.Adam(**{key: rate})

    def input(self, width, name=None):
        return self.keras.layers.Input((width,), name=name)

    def mlp(self, optimizer=None, *, frozen=False, compiled=True, **compile_arguments):
        """3 inputs, 4 tanh units, 2 outputs; mean squared error; plain SGD."""
        layers = self.keras.layers
        x = self.input(3)
        h = layers.Dense(4, activation="tanh", name="hidden", trainable=not frozen)(x)
        y = layers.Dense(2, name="out")(h)
        model = self.keras.models.Model(x, y)
        if compiled:
            model.compile(optimizer=optimizer or self.sgd(), loss="mse", **compile_arguments)
        return model

    def get_rate(self, model):
        return (
            float(self.keras.backend.get_value(model.optimizer.lr))
            if not self.keras3
            else float(model.optimizer.learning_rate)
        )

    def set_rate(self, model, rate):
        if self.keras3:
            model.optimizer.learning_rate = rate
        else:
            self.keras.backend.set_value(model.optimizer.lr, rate)


def problem(rows=22, seed=5):
    """Rows that all differ, and labels that follow from them."""
    stream = np.random.RandomState(seed)
    x = stream.uniform(-1, 1, (rows, 3)).astype("float32")
    y = np.stack([x.sum(axis=1), x[:, 0] - x[:, 2]], axis=1).astype("float32")
    return x, y


def same_weights(one, other):
    return len(one) == len(other) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one, other)
    )


def witness_of(kit):
    """A callback that notes the weights around each step with the framework's own `get_weights`."""

    class Witness(kit.keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.before = []
            self.after = []

        def _weights(self):
            model = self.model
            if not kit.graph and not kit.keras3 and not model.built:
                return []
            return [np.array(w) for w in model.get_weights()]

        def on_train_batch_begin(self, batch, logs=None):
            self.before.append(self._weights())

        def on_train_batch_end(self, batch, logs=None):
            self.after.append(self._weights())

        def facts(self):
            found = {"count": np.array(len(self.after))}
            for moment in ("before", "after"):
                for step, weights in enumerate(getattr(self, moment)):
                    for place, weight in enumerate(weights):
                        found[f"{moment}/{step}/{place}"] = weight
            return found

    return Witness()


def callback_of(kit, **actions):
    """A callback made of functions: `on_epoch_end=lambda model, number, logs: ...`."""

    class Acting(kit.keras.callbacks.Callback):
        pass

    def method(action):
        return lambda self, number=None, logs=None: action(self.model, number, logs)

    for name, action in actions.items():
        setattr(Acting, name, method(action))
    return Acting()


def snapshot(folder):
    """Every file below a folder with its size and time of change."""
    found = {}
    for path in Path(folder).rglob("*"):
        if path.is_file():
            status = path.stat()
            found[str(path.relative_to(folder))] = [status.st_size, status.st_mtime_ns]
    return found


def traces_of_us(model):
    """Attributes of a model, its optimizer and its train function that come from the recorder."""
    found = []
    things = [("model", model), ("optimizer", getattr(model, "optimizer", None))]
    function = getattr(model, "train_function", None)
    # A step that draws random numbers goes on with its streams, recorded or not.
    kept = hasattr(function, "tracediff_kept") and _draws(model)
    if function is not None and not kept:
        things.append(("train_function", function))
    for owner, thing in things:
        if _ours(thing):
            found.append(owner)
        for name, value in getattr(thing, "__dict__", {}).items():
            if _ours(value) and not (kept and value is function):
                found.append(f"{owner}.{name}")
            if name == "fetches":
                found.extend(f"{owner} extra fetch" for _ in value)
            if name == "fetch_callbacks":
                found.extend(f"{owner} callback" for _ in value)
    return found


def _draws(model):
    return any(word in type(one).__name__ for one in model.layers for word in ("Dropout", "Noise"))


def _ours(value):
    modules = {
        getattr(value, "__module__", None),
        getattr(type(value), "__module__", None),
        getattr(getattr(value, "__func__", None), "__module__", None),
    }
    return any(str(module).startswith("tracediff") for module in modules)


def fail_loudly(action):
    """Runs an action and returns what it raised, or None."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001 - what is raised is what the test asks for
        return error
    return None


def said_by_us(action):
    """Runs an action and returns the recorder's lines on stderr, but for what it announces."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        action()
    lines = [line for line in said.getvalue().splitlines() if line.startswith("tracediff: ")]
    return [line for line in lines if ", at most " not in line]


def hide_output():
    """Keeps progress bars and framework talk out of the program's answer."""
    return contextlib.redirect_stdout(sys.stderr)
