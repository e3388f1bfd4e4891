"""Trains in the ways that are less common, each once without the recorder and once with it.

`python more_ways.py FLAVOUR FOLDER [WAY ...]`: writes `FOLDER/<way>.zarr`, arrays of the training
into `FOLDER/<way>.npz`, and prints one JSON object: way -> facts, or {"error": traceback}. The
fact ``same_weights`` says whether both trainings ended with the same bits.
"""

import copy
import json
import pickle
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np
from training_kit import (
    EVERYWHERE,
    KERAS3,
    TF2,
    TF_KERAS,
    Kit,
    callback_of,
    fail_loudly,
    hide_output,
    problem,
    said_by_us,
    same_weights,
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
        self.path = folder / (name + ".zarr")
        self.folder = folder
        self.arrays = {}
        self.facts = {}
        self._name = name

    def note(self, **arrays):
        self.arrays.update(arrays)

    def twice(self, train, **options):
        """Runs ``train(callbacks)`` without the recorder and with it, from the same beginning."""
        from tracediff_hooks import TraceCallback

        self.kit.fresh()
        plain = train([witness_of(self.kit)]).get_weights()
        self.kit.fresh()
        witness = witness_of(self.kit)
        model = train([witness, TraceCallback(self.path, **options)])
        self.note(**witness.facts())
        self._compare(plain, model)
        return model

    def twice_in_a_block(self, make, loop, **options):
        """Runs ``loop(model, recording)`` without a recording and inside one."""
        import tracediff_hooks

        self.kit.fresh()
        model = make()
        loop(model, None)
        plain = model.get_weights()
        self.kit.fresh()
        model = make()
        with tracediff_hooks.record(model, self.path, **options) as recording:
            loop(model, recording)
        self._compare(plain, model)
        return model

    def _compare(self, plain, model):
        recorded = model.get_weights()
        self.facts["same_weights"] = same_weights(plain, recorded)
        self.facts["apart"] = max(float(np.abs(a - b).max()) for a, b in zip(plain, recorded))
        self.facts["left_behind"] = traces_of_us(model)
        self.note(**{f"final/{place}": weight for place, weight in enumerate(recorded)})

    def save(self):
        np.savez(str(self.folder / (self._name + ".npz")), **self.arrays)


def batches(rows=22, size=8):
    x, y = problem(rows)
    return [(x[start : start + size], y[start : start + size]) for start in range(0, rows, size)]


# --- blocks


@way()
def train_on_batch(bench):
    def loop(model, recording):
        for x, y in batches() * 2:
            model.train_on_batch(x, y)

    model = bench.twice_in_a_block(bench.kit.mlp, loop)
    x, y = problem()
    before = model.get_weights()
    model.train_on_batch(x, y)
    bench.facts["later_step_trained"] = not same_weights(before, model.get_weights())
    bench.facts["left_behind_later"] = traces_of_us(model)


@way()
def train_on_batch_with_weights(bench):
    weight = np.linspace(0.2, 3.0, 22).astype("float32")
    bench.note(weight=weight)

    def loop(model, recording):
        for number, (x, y) in enumerate(batches() * 2):
            start = number % 3 * 8
            model.train_on_batch(x, y, sample_weight=weight[start : start + 8])
            model.evaluate(x, y, verbose=0)
            model.test_on_batch(x, y)

    bench.twice_in_a_block(bench.kit.mlp, loop)


@way()
def fits_in_a_block(bench):
    x, y = problem()

    def loop(model, recording):
        for _ in range(2):
            model.fit(x, y, batch_size=8, shuffle=False, verbose=0)

    bench.twice_in_a_block(bench.kit.mlp, loop)


@way()
def block_left_by_an_exception(bench):
    import tracediff_hooks

    model = bench.kit.mlp()
    error = KeyboardInterrupt()

    def run():
        with tracediff_hooks.record(model, bench.path):
            for number, (x, y) in enumerate(batches()):
                if number == 2:
                    raise error
                model.train_on_batch(x, y)

    bench.facts["same_error"] = fail_loudly(run) is error
    bench.facts["left_behind"] = traces_of_us(model)


def _torch_loop(bench, optimizer, told):
    import torch

    def loop(model, recording):
        for x, y in batches() * 2:
            with torch.no_grad():
                model(x, training=False)  # nothing is differentiated: no input of the step
            model.zero_grad()
            loss = ((model(x, training=True) - torch.tensor(y)) ** 2).mean()
            loss.backward()
            weights = model.trainable_weights
            gradients = [weight.value.grad for weight in weights]
            if recording is not None and told:
                recording.batch(y=y, loss=loss)
            with torch.no_grad():
                optimizer().apply(gradients, weights)

    return loop


def _eager_loop(bench, optimizer, told):
    if bench.kit.flavour == "keras3-torch":
        return _torch_loop(bench, optimizer, told)
    tf = bench.kit.tf

    def loop(model, recording):
        for x, y in batches() * 2:
            model(x, training=False)  # what is not on the tape is no input of the step
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            if recording is not None and told:
                recording.batch(y=y, loss=loss)
            optimizer().apply_gradients(zip(gradients, model.trainable_variables))

    return loop


@way(*TF2, "keras3-torch")
def eager_loop(bench):
    made = []

    def make():
        made.append(bench.kit.sgd())
        return bench.kit.mlp(compiled=False)

    bench.twice_in_a_block(make, _eager_loop(bench, lambda: made[-1], told=True))


@way(*TF2, "keras3-torch")
def eager_loop_that_tells_nothing(bench):
    made = []

    def make():
        made.append(bench.kit.adam())
        return bench.kit.mlp(compiled=False)

    bench.twice_in_a_block(make, _eager_loop(bench, lambda: made[-1], told=False))


def _compiled_loop(bench, made, through_the_recording):
    tf = bench.kit.tf

    def loop(model, recording):
        optimizer = made[-1]

        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables))
            return loss

        for x, y in batches() * 2:
            batch = tf.constant(x), tf.constant(y)
            if recording is not None and through_the_recording:
                recording.step(step, *batch)
            else:
                step(*batch)

    return loop


@way(*TF2)
def compiled_loop(bench):
    made = []

    def make():
        made.append(bench.kit.sgd())
        return bench.kit.mlp(compiled=False)

    bench.twice_in_a_block(make, _compiled_loop(bench, made, through_the_recording=True))


def _pure_loop(bench, made, through_the_recording):
    import jax

    def loop(model, recording):
        optimizer = made[-1]
        optimizer.build(model.trainable_variables)

        def loss_of(trained, others, x, y):
            predicted, others = model.stateless_call(trained, others, x, training=True)
            return ((predicted - y) ** 2).mean(), others

        @jax.jit
        def step(trained, others, slots, x, y):
            (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                trained, others, x, y
            )
            trained, slots = optimizer.stateless_apply(slots, gradients, trained)
            return loss, trained, others, slots

        state = [
            [variable.value for variable in variables]
            for variables in (
                model.trainable_variables, model.non_trainable_variables, optimizer.variables
            )
        ]  # fmt: skip
        for x, y in batches() * 2:
            _, *state = step(*state, x, y)
        for variable, value in zip(model.trainable_variables, state[0]):
            variable.assign(value)

    return loop


@way(*TF2, "keras3-jax")
def compiled_loop_unseen(bench):
    made = []

    def make():
        made.append(bench.kit.sgd())
        return bench.kit.mlp(compiled=False)

    loop = _pure_loop if bench.kit.flavour == "keras3-jax" else _compiled_loop
    loop = loop(bench, made, through_the_recording=False)
    bench.facts["said"] = said_by_us(lambda: bench.twice_in_a_block(make, loop))
    bench.facts["written"] = bench.path.exists()


# --- optimizers


class Two:
    """Two linear regressions in one model, each with an optimizer of its own."""

    @staticmethod
    def make(kit):
        layers = kit.keras.layers
        tf = getattr(kit, "tf", None)

        class Pair(kit.keras.Model):
            def __init__(self):
                super().__init__()
                self.left = layers.Dense(2, name="left")
                self.right = layers.Dense(2, name="right")

            def compile(self, left, right):
                super().compile()
                self.left_optimizer = left
                self.right_optimizer = right

            def call(self, x):
                return self.left(x) + self.right(x)

            def train_step(self, data):
                x, y = data
                logs = {}
                for name in ("left", "right"):
                    layer = getattr(self, name)
                    with tf.GradientTape() as tape:
                        loss = tf.reduce_mean((layer(x) - y) ** 2)
                    weights = layer.trainable_weights
                    gradients = tape.gradient(loss, weights)
                    optimizer = getattr(self, name + "_optimizer")
                    optimizer.apply_gradients(zip(gradients, weights))
                    logs[name + "_loss"] = loss
                return logs

            def _torch_step(self, data):
                x, y = data[:2]
                logs = {}
                for name in ("left", "right"):
                    layer = getattr(self, name)
                    self.zero_grad()
                    loss = ((layer(x) - y) ** 2).mean()
                    loss.backward()
                    weights = layer.trainable_weights
                    gradients = [weight.value.grad for weight in weights]
                    with kit.torch.no_grad():
                        getattr(self, name + "_optimizer").apply(gradients, weights)
                    logs[name + "_loss"] = loss
                return logs

        if kit.flavour == "keras3-torch":
            Pair.train_step = Pair._torch_step
        model = Pair()
        model.compile(kit.sgd(0.25), kit.keras.optimizers.SGD(0.125, momentum=0.5))
        return model


@way(*TF2, "keras3-torch")
def several_optimizers(bench):
    x, y = problem()
    bench.note(x=x, y=y)

    def train(callbacks):
        model = Two.make(bench.kit)
        model.build((None, 3))
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks[1:])
        return model

    bench.twice(train)


def _fit(bench, labels=1.0, **options):
    x, y = problem()
    y = y * np.float32(labels)
    bench.note(x=x, y=y)

    def train(callbacks, model):
        model.fit(
            x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks, **options
        )
        return model

    return train


@way(*KERAS3)
def gradient_accumulation(bench):
    fit = _fit(bench)

    def train(callbacks):
        rule = bench.kit.keras.optimizers.SGD(0.25, gradient_accumulation_steps=3)
        return fit(callbacks, bench.kit.mlp(rule))

    bench.twice(train)


@way(*KERAS3, "tf2.15", "tf-keras")
def moving_average_of_weights(bench):
    fit = _fit(bench)

    def train(callbacks):
        rule = bench.kit.keras.optimizers.SGD(
            0.25, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
        )
        return fit(callbacks, bench.kit.mlp(rule))

    bench.twice(train)


@way(*TF_KERAS, *KERAS3)
def loss_scaling_that_overflows(bench):
    keras = bench.kit.keras
    fit = _fit(bench, labels=16.0)

    def train(callbacks):
        if bench.kit.flavour != "tf2.3":
            home = keras.optimizers if bench.kit.keras3 else keras.mixed_precision
            rule = home.LossScaleOptimizer(bench.kit.sgd(), initial_scale=2.0**127)
        else:
            mixed = keras.mixed_precision.experimental
            scale = bench.kit.tf.mixed_precision.experimental.DynamicLossScale(2.0**127)
            rule = mixed.LossScaleOptimizer(bench.kit.sgd(), scale)
        return fit(callbacks, bench.kit.mlp(rule))

    bench.twice(train)


@way(*TF_KERAS, *KERAS3)
def mixed_precision(bench):
    keras = bench.kit.keras
    fit = _fit(bench)
    old = bench.kit.flavour == "tf2.3"
    mixed = keras.mixed_precision.experimental if old else keras.mixed_precision
    set_policy = mixed.set_policy if old else mixed.set_global_policy
    set_policy("mixed_float16")
    try:
        bench.twice(lambda callbacks: fit(callbacks, bench.kit.mlp()))
    finally:
        set_policy("float32")


@way("tf2.15", "tf-keras", "keras3")
def jit_compiled(bench):
    fit = _fit(bench)
    bench.twice(lambda callbacks: fit(callbacks, bench.kit.mlp(jit_compile=True)))


@way(*TF2)
def mirrored(bench):
    tf = bench.kit.tf
    # Only a process that has computed nothing may be given a second device.
    cpus = tf.config.experimental.list_physical_devices("CPU")
    two = [tf.config.experimental.VirtualDeviceConfiguration()] * 2
    tf.config.experimental.set_virtual_device_configuration(cpus[0], two)
    x, y = problem(24)

    def train(callbacks):
        strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
        with strategy.scope():
            model = bench.kit.mlp()
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        model.fit(data, epochs=2, verbose=0, callbacks=callbacks)
        return model

    bench.facts["said"] = said_by_us(lambda: bench.twice(train))


# --- layer outputs


def _nested(kit):
    """A model inside a model and called twice, a layer called twice, and a dropout."""
    layers = kit.keras.layers
    inside = kit.input(3)
    first = layers.Dense(5, activation="tanh", name="first")(inside)
    inner = kit.keras.models.Model(inside, layers.Dense(3, name="second")(first), name="inner")
    shared = layers.Dense(3, name="shared")
    outside = kit.input(3)
    h = inner(shared(shared(inner(outside))))
    h = layers.Dropout(0.25, name="drop")(h)
    model = kit.keras.models.Model(outside, layers.Dense(2, name="out")(h))
    model.compile(optimizer=kit.sgd(0.03125), loss="mse")
    return model


@way()
def outputs_of_all_layers(bench):
    fit = _fit(bench)
    bench.twice(lambda callbacks: fit(callbacks, _nested(bench.kit)), activations=True)


@way()
def outputs_as_digests(bench):
    fit = _fit(bench)
    bench.twice(
        lambda callbacks: fit(callbacks, _nested(bench.kit)), activations=True, level="digest"
    )


@way()
def outputs_by_pattern(bench):
    fit = _fit(bench)
    bench.twice(lambda callbacks: fit(callbacks, _nested(bench.kit)), activations="^inner/s")


@way()
def outputs_by_name(bench):
    fit = _fit(bench)
    bench.twice(
        lambda callbacks: fit(callbacks, _nested(bench.kit)), activations=["out", "nowhere"]
    )


@way(*TF2, "keras3-torch")
def outputs_in_an_eager_loop(bench):
    made = []

    def make():
        made.append(bench.kit.sgd())
        return bench.kit.mlp(compiled=False)

    loop = _eager_loop(bench, lambda: made[-1], told=True)
    bench.twice_in_a_block(make, loop, activations=True)


@way()
def outputs_of_train_on_batch(bench):
    def loop(model, recording):
        for x, y in batches() * 2:
            model.train_on_batch(x, y)

    bench.twice_in_a_block(bench.kit.mlp, loop, activations=["hidden"])


# --- what scripts do around the steps


@way()
def copied_and_pickled(bench):
    x, y = problem()
    copies = []
    kit = bench.kit

    def attempt(make, model):
        """How it went, and whether the copy has the weights and trains."""
        try:
            twin = make(model)
        except Exception as error:  # noqa: BLE001 - some generations cannot, with or without us
            return type(error).__name__
        equal = same_weights(twin.get_weights(), model.get_weights())
        twin.fit(x, y, batch_size=22, verbose=0)
        return [equal, not same_weights(twin.get_weights(), model.get_weights())]

    def train(callbacks):
        seen = []
        copies.append(seen)
        makers = [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]

        def make_copies(model, epoch, logs):
            if epoch == 0:
                seen.extend(attempt(make, model) for make in makers)

        act = callback_of(kit, on_epoch_end=make_copies)
        return _fit(bench)([*callbacks, act], kit.mlp())

    bench.twice(train)
    bench.facts["copies_plain"], bench.facts["copies_recorded"] = copies


@way()
def loaded_model_trains_on(bench):
    kit = bench.kit
    x, y = problem()
    stored = str(bench.folder / ("loaded_model.keras" if kit.keras3 else "loaded.h5"))
    # Adam of Keras 2.3 races with its own step counter.
    first = kit.mlp(kit.sgd() if kit.flavour == "keras2.3" else kit.adam())
    first.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    first.save(stored)

    def train(callbacks):
        return _fit(bench)(callbacks, kit.keras.models.load_model(stored))

    bench.twice(train)


@way()
def interrupted(bench):
    from tracediff_hooks import TraceCallback

    kit = bench.kit
    model = kit.mlp()
    error = KeyboardInterrupt()
    steps = []

    def stop(model, batch, logs):
        steps.append(batch)
        if len(steps) == 4:
            raise error

    act = callback_of(kit, on_train_batch_end=stop)
    trace = TraceCallback(bench.path)
    caught = fail_loudly(lambda: _fit(bench)([trace, act], model))
    bench.facts["same_error"] = caught is error
    x, y = problem()
    before = model.get_weights()
    model.fit(x, y, batch_size=8, verbose=0)
    bench.facts["later_fit_trained"] = not same_weights(before, model.get_weights())
    bench.facts["left_behind"] = traces_of_us(model)


def main(flavour, folder, *names):
    kit = Kit(flavour)
    answers = {}
    for name, (function, flavours) in WAYS.items():
        if flavour not in flavours or (names and name not in names):
            continue
        bench = Bench(kit, Path(folder), name)
        shutil.rmtree(str(bench.path), ignore_errors=True)
        kit.fresh()
        try:
            with hide_output():
                function(bench)
            bench.save()
            answers[name] = bench.facts
        except Exception:  # noqa: BLE001 - the test of this way tells it, the others go on
            answers[name] = {"error": traceback.format_exc()}
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
