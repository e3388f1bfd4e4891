"""Ways of training in a block: `train_on_batch`, `fit`, and loops written by hand."""

import numpy as np
from training_kit import TF2, fail_loudly, problem, said_by_us, same_weights, traces_of_us

from training_ways.bench import way
from training_ways.loops import batches, loop_by_hand


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


@way(*TF2, "keras3-torch")
def eager_loop(bench):
    made = []

    def make():
        made.append(bench.kit.sgd())
        return bench.kit.mlp(compiled=False)

    bench.twice_in_a_block(make, loop_by_hand(bench, lambda: made[-1], told=True))


@way(*TF2, "keras3-torch")
def eager_loop_that_tells_nothing(bench):
    made = []

    def make():
        made.append(bench.kit.adam())
        return bench.kit.mlp(compiled=False)

    bench.twice_in_a_block(make, loop_by_hand(bench, lambda: made[-1], told=False))


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
