"""Trainings on four replicas: alone, in groups of steps, compiled by XLA, and by hand."""

import numpy as np
from training_kit import TF2, TF_KERAS, fail_loudly, problem, said_by_us, same_weights

from training_ways.bench import way
from training_ways.replicas_bench import rows

BY_XLA = ("tf2.15", "tf-keras", "keras3")


def _grouped(bench, steps=2):
    key = "experimental_" if bench.kit.flavour == "tf2.3" else ""
    return {key + "steps_per_execution": steps}


def _endless(bench):
    """Batches of eight rows, over and over."""
    data = bench.kit.tf.data.Dataset.from_tensor_slices(problem(24)).batch(8)
    return lambda model, callbacks: model.fit(
        data.repeat(), epochs=2, steps_per_epoch=5, verbose=0, callbacks=callbacks
    )


def _counted(train, counted):
    def counting(model, callbacks):
        train(model, callbacks)
        counter = getattr(model.optimizer.iterations, "value", model.optimizer.iterations)
        counted.append(int(np.asarray(counter() if callable(counter) else counter)))

    return counting


@way(*TF2)
def four_replicas(bench):
    bench.thrice(bench.kit.mlp, rows(24))


@way(*TF_KERAS)
def groups(bench):
    # Five steps an epoch in executions of two: the last has one.
    counted = []
    train = _counted(_endless(bench), counted)
    bench.thrice(lambda: bench.kit.mlp(**_grouped(bench)), train, alone=False)
    return {"counted": counted}


@way("keras3")
def groups_run_eagerly(bench):
    # Keras 3 runs whole groups: of five steps an epoch in executions of two it makes six.
    counted = []
    train = _counted(_endless(bench), counted)
    model = lambda: bench.kit.mlp(run_eagerly=True, **_grouped(bench))  # noqa: E731 - beside others
    bench.thrice(model, train, alone=False)
    return {"counted": counted}


def _ends_alike(bench, model, train):
    """What a training that the framework cannot do ends with, without the recorder and with it."""
    from tracediff_hooks import TraceCallback

    ends = []

    def once(callbacks):
        bench.kit.fresh()
        made = bench.make(model)
        before = made.get_weights()
        error = fail_loudly(lambda: train(made, callbacks))
        ends.append([type(error).__name__, same_weights(before, made.get_weights())])

    once([])
    bench.facts["said"] = said_by_us(lambda: once([TraceCallback(bench.path)]))
    bench.facts["ends"] = ends
    bench.facts["left_on_strategy"] = "run" in vars(bench.strategy)


@way("keras3")
def compiled_groups(bench):
    _ends_alike(bench, lambda: bench.kit.mlp(**_grouped(bench)), rows(24))


@way(*BY_XLA)
def jit_compiled(bench):
    _ends_alike(bench, lambda: bench.kit.mlp(jit_compile=True), rows(24))


@way(*TF2)
def eager_loop(bench):
    tf = bench.kit.tf
    x, y = problem(16)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    def loop(model, recording):
        trained = model.trainable_variables

        def one(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2) / 4
            model.optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained))

        for batch in bench.strategy.experimental_distribute_dataset(data):
            bench.strategy.run(one, args=batch)

    bench.facts["said"] = said_by_us(
        lambda: bench.twice_in_a_block(lambda: bench.make(bench.kit.mlp), loop)
    )
