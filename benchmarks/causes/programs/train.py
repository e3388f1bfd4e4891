"""Trains and records the runs that a file of JSON lists, one after the other, on any stack.

Usage: train.py RUNS.json, a list of {"path": ..., "run": {...}}; `RUN` has every key with its
default. Runs of one process share its number of threads.
"""

import json
import sys
import traceback

import numpy as np

RUN = {
    "keras": None,  # "tensorflow" for tf.keras where Keras is installed beside it
    "model": "mlp",
    "settings": {},  # by layer
    "optimizer": ["SGD", {"learning_rate": 0.05}],
    "init": 11,  # seed of numpy's weights, or null for those of the framework
    "edits": [],  # of the weights
    "seed": 1,  # of the framework
    "data": [],
    "batch": 16,
    "epochs": 2,
    "shuffle": False,
    "loss": None,  # null: what suits the labels
    "loss_options": {},
    "loss_weights": None,
    "metric": "accuracy",
    "class_weight": None,
    "frozen": [],
    "frozen_late": [],  # set after compile
    "meddle": None,  # [step, index of the weight, what to add]
    "rates": None,  # by epoch
    "decay": 0.0,  # the schedule 1 / (1 + decay * step), by a callback
    "slots": None,  # [index, value] of a variable of the optimizer, set before training
    "count": None,  # the step counter to begin with
    "precision": None,
    "activations": False,
    "level": "full",
    "threads": 1,
}


def main(path):
    """Trains every run of the file; says at the end which failed."""
    with open(path) as file:  # noqa: PTH123 # Python 3.7 programs open as they always did
        wanted = json.load(file)
    failed = 0
    for one in wanted:
        run = dict(RUN, **one["run"])
        try:
            _train(one["path"], run)
        except Exception:  # noqa: BLE001 # One run that fails says nothing about the others
            failed += 1
            print("failed:", one["path"], json.dumps(one["run"]))
            traceback.print_exc(file=sys.stdout)
    return 1 if failed else 0


def _modules(run):
    """Returns Keras and the backend's functions as this run is to see them."""
    keras = None
    if run["keras"] != "tensorflow":
        try:
            import keras
        except ImportError:
            keras = None
    if not hasattr(keras, "layers"):
        from tensorflow import keras
    return keras


def _prepare(keras, run):
    import tensorflow as tf

    np.random.seed(run["seed"])
    threads = run["threads"]
    if tf.__version__.startswith("1."):
        keras.backend.clear_session()
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        )
        tf.compat.v1.set_random_seed(run["seed"])
        session = tf.compat.v1.Session(config=config)
        if run["keras"] == "tensorflow":
            tf.compat.v1.keras.backend.set_session(session)
        else:
            keras.backend.set_session(session)
        tf.compat.v1.set_random_seed(run["seed"])
        return
    keras.backend.clear_session()
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.random.set_seed(run["seed"])
    if keras.__version__.startswith("3."):
        keras.utils.set_random_seed(run["seed"])


def _precision(keras, policy):
    """Chooses a precision by whatever this stack calls it; None for what it starts with."""
    import tensorflow as tf

    if policy == "float64" or policy is None:
        keras.backend.set_floatx(policy or "float32")
    if keras.__version__.startswith("3."):
        keras.config.set_dtype_policy(policy or "float32")
    elif tf.__version__.startswith("2."):
        keras.mixed_precision.experimental.set_policy(policy or "float32")


def _optimizer(keras, run):
    name, arguments = run["optimizer"]
    arguments = dict(arguments)
    if keras.__version__.startswith("2.3") and "learning_rate" in arguments:
        arguments["lr"] = arguments.pop("learning_rate")
    return getattr(keras.optimizers, name)(**arguments)


def _loss(keras, run, y):
    loss = run["loss"]
    if loss is None:
        if y.dtype == np.float32 and y.ndim == 1:
            loss = "mean_squared_error"
        else:
            loss = "sparse_categorical_crossentropy" if y.ndim == 1 else "categorical_crossentropy"
    return getattr(keras.losses, loss)(**run["loss_options"]) if run["loss_options"] else loss


def _metric(keras, name):
    if name in (None, "accuracy", "mae"):
        return [] if name is None else [name]

    # Something else under the same name
    def accuracy(y_true, y_pred):
        import tensorflow as tf

        return tf.reduce_max(y_pred, axis=-1)

    if keras.__version__.startswith("3."):
        return [keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")]
    return [accuracy]


def _callbacks(keras, run):
    found = []
    if run["rates"]:
        rates = run["rates"]
        found.append(keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch]))
    step, index, amount = run["meddle"] or (None, 0, 0.0)
    decay = run["decay"]
    if step is None and not decay:
        return found

    class Meddler(keras.callbacks.Callback):
        """Changes one weight before a step, or the rate before every step."""

        steps = 0

        def on_batch_begin(self, batch, logs=None):
            if self.steps == step:
                weights = self.model.get_weights()
                weights[index] = weights[index] + np.float32(amount)
                self.model.set_weights(weights)
            if decay:
                name = "learning_rate" if hasattr(self.model.optimizer, "learning_rate") else "lr"
                rate = run["optimizer"][1]["learning_rate"] / (1.0 + decay * self.steps)
                if keras.__version__.startswith("3."):
                    self.model.optimizer.learning_rate.assign(rate)
                else:
                    keras.backend.set_value(getattr(self.model.optimizer, name), rate)
            self.steps += 1

        on_train_batch_begin = on_batch_begin

    found.append(Meddler())
    return found


def _train(path, run):
    import data
    import models

    from tracediff_hooks import TraceCallback

    keras = _modules(run)
    _prepare(keras, run)
    if run["precision"]:
        _precision(keras, run["precision"])
    try:
        inputs, y, sampled = data.samples(run["model"], run["data"], run["batch"])
        if run["precision"] == "float64":
            inputs = [x.astype("float64") for x in inputs]
        model = models.build(keras, run["model"], run["settings"])
        if run["init"] is not None:
            models.weights(model, run["init"], run["edits"])
        for name in run["frozen"]:
            model.get_layer(name).trainable = False
        model.compile(
            optimizer=_optimizer(keras, run),
            loss=_loss(keras, run, y),
            loss_weights=run["loss_weights"],
            metrics=_metric(keras, run["metric"] if y.dtype != np.float32 else "mae"),
        )
        for name in run["frozen_late"]:
            model.get_layer(name).trainable = False
        optimizer = model.optimizer
        if run["count"] is not None:
            if keras.__version__.startswith("3."):
                optimizer.build(model.trainable_variables)
                optimizer.iterations.assign(run["count"])
            else:
                keras.backend.set_value(optimizer.iterations, run["count"])
        if run["slots"] is not None:
            optimizer.build(model.trainable_variables)
            variable = optimizer.variables[run["slots"][0]]
            variable.assign(variable + run["slots"][1])
        outputs = {"activations": True} if run["activations"] else {}
        callback = TraceCallback(path, overwrite=True, level=run["level"], **outputs)
        options = {}
        if sampled is not None:
            options["sample_weight"] = sampled
        if run["class_weight"]:
            weights = {int(key): value for key, value in run["class_weight"].items()}
            options["class_weight"] = weights
        model.fit(
            inputs if len(inputs) > 1 else inputs[0],
            y,
            batch_size=run["batch"],
            epochs=run["epochs"],
            shuffle=run["shuffle"],
            verbose=0,
            callbacks=[*_callbacks(keras, run), callback],
            **options,
        )
    finally:
        if run["precision"]:
            _precision(keras, None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
