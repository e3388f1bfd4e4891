"""Trains small models in every way that a flavour of Keras offers, each recorded into a trace.

`python ways.py FLAVOUR FOLDER [WAY ...]`: writes `FOLDER/<way>.zarr`, what a witness saw into
`FOLDER/<way>.npz`, and prints one JSON object: way -> facts, or {"error": traceback}.
"""

import json
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np
from training_kit import (
    EVERYWHERE,
    GRAPH,
    KERAS3,
    TF2,
    TF_KERAS,
    Kit,
    callback_of,
    hide_output,
    problem,
    same_weights,
    snapshot,
    traces_of_us,
    witness_of,
)

WAYS = {}


def way(*flavours):
    """Registers a way of training; it exists in these flavours, or in all."""

    def register(function):
        WAYS[function.__name__] = (function, flavours or EVERYWHERE)
        return function

    return register


class Bench:
    """One way's workplace."""

    def __init__(self, kit, folder, name):
        self.kit = kit
        self.folder = folder
        self.path = folder / (name + ".zarr")
        self.witness = witness_of(kit)
        self.arrays = {}
        self._name = name

    def trace(self, path=None, **options):
        from tracediff_hooks import TraceCallback

        return TraceCallback(path or self.path, **options)

    def beside(self, name):
        """A workplace for something else that has to happen in the same place."""
        return Bench(self.kit, self.folder, name)

    def callbacks(self, *others):
        return [self.witness, self.trace(), *others]

    def note(self, **arrays):
        self.arrays.update(arrays)

    def save(self):
        np.savez(str(self.folder / (self._name + ".npz")), **self.witness.facts(), **self.arrays)


# Stands first: when it begins, nobody has imported the recorder.
@way()
def trained_before_the_import(bench):
    assert "tracediff_hooks" not in sys.modules
    x, y = problem()
    early, later = bench.kit.mlp(), bench.kit.mlp()
    early.fit(x, y, batch_size=8, verbose=0)
    import tracediff_hooks  # noqa: F401

    later.fit(x, y, batch_size=8, verbose=0)
    early.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
    other = bench.beside("trained_before_the_callback")
    later.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=other.callbacks())
    other.note(x=x, y=y)
    other.save()


@way()
def arrays(bench):
    model = bench.kit.mlp()
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
    left = traces_of_us(model)
    recorded = snapshot(bench.path)
    before = model.get_weights()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    return {
        "left_behind": left,
        "untouched_by_a_later_fit": snapshot(bench.path) == recorded,
        "later_fit_trained": not same_weights(before, model.get_weights()),
        "left_behind_later": traces_of_us(model),
    }


@way()
def shuffled(bench):
    model = bench.kit.mlp()
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=True, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


def _batches(log, count):
    x, y = problem(100, seed=11)
    start = 0
    for number in range(count):
        size = (5, 8, 3)[number % 3]
        batch = x[start : start + size], y[start : start + size]
        start += size
        log.append(batch)
        yield batch


@way()
def generator(bench):
    model = bench.kit.mlp()
    log = []
    model.fit(
        _batches(log, 18), steps_per_epoch=3, epochs=2, verbose=0, callbacks=bench.callbacks()
    )
    for step, (x, y) in enumerate(log[:6]):
        bench.note(**{f"yielded/{step}/x": x, f"yielded/{step}/y": y})
    return {"left_behind": traces_of_us(model)}


@way(*GRAPH, *TF_KERAS)
def fit_generator(bench):
    model = bench.kit.mlp()
    log = []
    model.fit_generator(
        _batches(log, 18), steps_per_epoch=3, epochs=2, verbose=0, callbacks=bench.callbacks()
    )
    for step, (x, y) in enumerate(log[:6]):
        bench.note(**{f"yielded/{step}/x": x, f"yielded/{step}/y": y})


@way()
def sequence(bench):
    utils = bench.kit.keras.utils
    base = utils.PyDataset if bench.kit.keras3 else utils.Sequence
    x, y = problem()

    class Batches(base):
        def __len__(self):
            return 3

        def __getitem__(self, number):
            part = slice(8 * number, 8 * number + 8)
            return x[part], y[part]

    model = bench.kit.mlp()
    model.fit(Batches(), epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


@way("tf1.15", *TF2)
def dataset(bench):
    model = bench.kit.mlp()
    x, y = problem()
    data = bench.kit.tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    model.fit(data, epochs=2, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


@way()
def sample_weight(bench):
    model = bench.kit.mlp()
    x, y = problem()
    weight = np.linspace(0.2, 3.0, len(x)).astype("float32")
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        sample_weight=weight,
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(x=x, y=y, weight=weight)


@way()
def class_weight(bench):
    kit = bench.kit
    layers = kit.keras.layers
    inputs = kit.input(3)
    h = layers.Dense(4, activation="tanh", name="hidden")(inputs)
    model = kit.keras.models.Model(inputs, layers.Dense(1, name="out")(h))
    model.compile(optimizer=kit.sgd(), loss="mse")
    x, _ = problem()
    y = (x[:, :1] > 0).astype("float32")
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        class_weight={0: 1.0, 1: 3.0},
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(x=x, y=y)


def _two_in_two_out(kit):
    layers = kit.keras.layers
    left, right = kit.input(3, "left"), kit.input(2, "right")
    both = layers.concatenate([left, right], name="both")
    # The second output is listed first, and made of the input listed second.
    outputs = [layers.Dense(2, name="of_both")(both), layers.Dense(1, name="of_left")(left)]
    model = kit.keras.models.Model([left, right], outputs)
    model.compile(optimizer=kit.sgd(), loss=["mse", "mse"], loss_weights=[1.0, 0.5])
    return model


def _two_in_two_out_data():
    left, of_both = problem()
    right = left[:, :2] * 3 + 1
    of_left = left[:, :1] * 2 - 1
    return left, right, of_both, of_left


@way()
def many_inputs_and_outputs(bench):
    model = _two_in_two_out(bench.kit)
    left, right, of_both, of_left = _two_in_two_out_data()
    model.fit(
        [left, right],
        [of_both, of_left],
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(left=left, right=right, of_both=of_both, of_left=of_left)


@way()
def dictionaries(bench):
    model = _two_in_two_out(bench.kit)
    left, right, of_both, of_left = _two_in_two_out_data()
    model.fit(
        {"right": right, "left": left},
        {"of_left": of_left, "of_both": of_both},
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(left=left, right=right, of_both=of_both, of_left=of_left)


@way()
def validated(bench):
    model = bench.kit.mlp()
    x, y = problem()
    other, labels = problem(10, seed=77)
    asked = []

    def ask(model, epoch, logs):
        asked.append(model.evaluate(other, labels, batch_size=5, verbose=0))
        model.predict(other, verbose=0)

    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=(other, labels),
        callbacks=bench.callbacks(callback_of(bench.kit, on_epoch_end=ask)),
    )
    bench.note(x=x, y=y)
    return {"evaluations": len(asked)}


@way()
def twice(bench):
    model = bench.kit.mlp()
    x, y = problem()
    start = model.get_weights()
    callbacks = bench.callbacks()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.set_weights(start)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def two_callbacks(bench):
    model = bench.kit.mlp()
    x, y = problem()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=bench.callbacks())
    first = snapshot(bench.path)
    other = bench.trace(bench.folder / "two_callbacks_second.zarr")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[bench.witness, other])
    bench.note(x=x, y=y)
    return {"first_untouched": snapshot(bench.path) == first}


@way()
def two_models(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    one, other = bench.kit.mlp(), bench.kit.mlp()
    for model in (one, other, one):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def recompiled(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    model = bench.kit.mlp()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.compile(optimizer=bench.kit.adam(0.01), loss="mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def recompiled_with_another_rate(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    model = bench.kit.mlp(bench.kit.sgd(0.25))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.compile(optimizer=bench.kit.sgd(0.125), loss="mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def unfrozen(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    model = bench.kit.mlp(frozen=True)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.get_layer("hidden").trainable = True
    model.compile(optimizer=bench.kit.sgd(), loss="mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def meddled_with(bench):
    model = bench.kit.mlp()
    x, y = problem()
    steps = []

    def meddle(model, batch, logs):
        steps.append(batch)
        weights = model.get_weights()
        if len(steps) == 2:
            weights[1] = weights[1] + 1  # hidden/bias, before step 2
            model.set_weights(weights)
        if len(steps) == 4:
            weights[2] = weights[2] * 0  # out/kernel, before step 4
            model.set_weights(weights)
        if len(steps) == 5:
            model.set_weights(weights)  # no other value: no change

    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(callback_of(bench.kit, on_train_batch_end=meddle)),
    )
    bench.note(x=x, y=y)


@way()
def scheduled(bench):
    model = bench.kit.mlp()
    x, y = problem()
    schedule = bench.kit.keras.callbacks.LearningRateScheduler(lambda epoch: 0.25 / 2**epoch)
    seen = []
    rate = callback_of(
        bench.kit,
        on_train_batch_begin=lambda model, batch, logs: seen.append(bench.kit.get_rate(model)),
    )
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(schedule, rate),
    )
    bench.note(x=x, y=y)
    return {"rates": seen}


@way()
def rate_changed_between_steps(bench):
    model = bench.kit.mlp()
    x, y = problem()

    def halve(model, batch, logs):
        bench.kit.set_rate(model, bench.kit.get_rate(model) / 2)

    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(callback_of(bench.kit, on_train_batch_end=halve)),
    )
    bench.note(x=x, y=y)
    return {"rates": [0.25 / 2**step for step in range(6)]}


@way()
def frozen(bench):
    model = bench.kit.mlp(frozen=True)
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


@way(*TF2, "keras3-jax")
def eager(bench):
    model = bench.kit.mlp(run_eagerly=True)
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
    return {"left_behind": traces_of_us(model)}


@way(*TF2, "keras3-jax")
def grouped(bench):
    key = (
        "experimental_steps_per_execution"
        if bench.kit.flavour == "tf2.3"
        else "steps_per_execution"
    )
    x, y = problem(52)  # seven batches: two groups of three, and one batch
    results = []
    for recorded in (False, True):
        bench.kit.fresh()
        model = bench.kit.mlp(**{key: 3})
        seen = []
        watch = callback_of(
            bench.kit, on_train_batch_end=lambda model, batch, logs, seen=seen: seen.append(batch)
        )
        callbacks = [bench.trace(), watch] if recorded else [watch]
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        counter = getattr(model.optimizer.iterations, "value", model.optimizer.iterations)
        counted = counter() if callable(counter) else counter
        results.append((model.get_weights(), seen, int(np.asarray(counted))))
    bench.note(x=x, y=y)
    return {
        "same_weights": same_weights(results[0][0], results[1][0]),
        "counted": [results[0][2], results[1][2]],
        "callbacks_plain": results[0][1],
        "callbacks_recorded": results[1][1],
        "setting": int(getattr(model, "steps_per_execution", 0) or model._steps_per_execution),
    }


@way(*TF_KERAS, *KERAS3)
def custom_step(bench):
    kit = bench.kit

    class Custom(kit.keras.Model):
        def _tf_step(self, data):
            x, y = data
            with kit.tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = kit.tf.reduce_mean((predicted - y) ** 2)
            variables = self.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables))
            return {"own": loss}

        def _torch_step(self, data):
            x, y = data[:2]
            self.zero_grad()
            loss = ((self(x, training=True) - y) ** 2).mean()
            loss.backward()
            weights = self.trainable_weights
            with kit.torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in weights], weights)
            return {"own": loss}

        def _jax_step(self, state, data):
            import jax

            trained, others, slots, metrics = state
            x, y = data[:2]

            def loss_of(trained):
                predicted, _ = self.stateless_call(trained, others, x, training=True)
                return ((predicted - y) ** 2).mean()

            loss, gradients = jax.value_and_grad(loss_of)(trained)
            trained, slots = self.optimizer.stateless_apply(slots, gradients, trained)
            return {"own": loss}, (trained, others, slots, metrics)

    steps = {"keras3-jax": Custom._jax_step, "keras3-torch": Custom._torch_step}
    Custom.train_step = steps.get(kit.flavour, Custom._tf_step)
    layers = kit.keras.layers
    inputs = kit.input(3)
    h = layers.Dense(4, activation="tanh", name="hidden")(inputs)
    model = Custom(inputs, layers.Dense(2, name="out")(h))
    model.compile(optimizer=kit.sgd())
    x, y = problem()
    history = model.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks()
    )
    bench.note(x=x, y=y)
    return {"logs": sorted(history.history), "left_behind": traces_of_us(model)}


def net(bench):
    layers = bench.kit.keras.layers

    class Net(bench.kit.keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(4, activation="tanh", name="hidden")
            self.out = layers.Dense(2, name="out")
            self.spare = layers.Dense(3, name="spare")  # Never called, and so never built

        def call(self, inputs):
            return self.out(self.hidden(inputs))

    return Net()


@way()
def subclassed(bench):
    model = net(bench)
    model.compile(optimizer=bench.kit.sgd(), loss="mse")
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
    return {"left_behind": traces_of_us(model)}


@way("tf2.3", "keras3")
def subclassed_said_built(bench):
    model = net(bench)
    model.build((None, 3))
    model.compile(optimizer=bench.kit.sgd(), loss="mse")
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
    return {}


@way()
def saved(bench):
    kit = bench.kit
    formats = ["h5"]
    if kit.keras3:
        formats = ["keras", "weights.h5"]
    if kit.flavour in TF_KERAS:
        formats = ["h5", "tf"] if kit.flavour == "tf2.3" else ["h5", "tf", "keras"]
    model = kit.mlp()
    x, y = problem()
    checkpoints = [
        kit.keras.callbacks.ModelCheckpoint(
            str(bench.folder / ("during." + kind)), save_weights_only=kind == "weights.h5"
        )
        for kind in formats
    ]
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(*checkpoints),
    )
    bench.note(x=x, y=y)
    equal = {}
    for kind in formats:
        after = str(bench.folder / ("after." + kind))
        if kind == "weights.h5":
            model.save_weights(after)
        else:
            model.save(after)
        for name in ("during." + kind, "after." + kind):
            path = str(bench.folder / name)
            if kind == "weights.h5":
                loaded = kit.mlp()
                loaded.load_weights(path)
            else:
                loaded = kit.keras.models.load_model(path)
            equal[name] = same_weights(loaded.get_weights(), model.get_weights())
    return {"equal": equal}


@way()
def adam(bench):
    model = bench.kit.mlp(bench.kit.adam(0.01))
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


def main(flavour, folder, *names):
    kit = Kit(flavour)
    answers = {}
    for name, (function, flavours) in WAYS.items():
        if flavour not in flavours or (names and name not in names):
            continue
        bench = Bench(kit, Path(folder), name)
        shutil.rmtree(bench.path, ignore_errors=True)
        kit.fresh()
        try:
            with hide_output():
                answers[name] = function(bench) or {}
            bench.save()
        except Exception:  # noqa: BLE001 - the test of this way tells it, the others go on
            answers[name] = {"error": traceback.format_exc()}
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
