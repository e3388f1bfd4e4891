"""Trainings on replicas in which something goes wrong, or that are no `fit` on two replicas."""

import numpy as np
from training_kit import TF2, TF_KERAS, callback_of, fail_loudly, problem, said_by_us

from training_ways.bench import way
from training_ways.replicas_bench import rows

# --- what goes wrong


@way(*TF2)
def a_copy_that_goes_its_own_way(bench):
    def part(model, number, logs):
        kernel = model.trainable_weights[0]
        native = getattr(kernel, "value", kernel) if bench.kit.keras3 else kernel
        native.values[1].assign_add(np.ones((3, 4), "float32"))

    train = rows(16)

    def parting(model, callbacks):
        train(model, [callback_of(bench.kit, on_epoch_begin=part), *callbacks])

    bench.thrice(bench.kit.mlp, parting, alone=False)


@way(*TF2)
def an_exception(bench):
    from tracediff_hooks import TraceCallback

    def stop(model, number, logs):
        if number == 1:
            raise KeyboardInterrupt

    model = bench.make(bench.kit.mlp)
    callbacks = [callback_of(bench.kit, on_train_batch_end=stop), TraceCallback(bench.path)]
    raised = fail_loudly(lambda: rows(22)(model, callbacks))
    bench.facts["raised"] = type(raised).__name__
    bench.facts["left_on_strategy"] = "run" in vars(bench.strategy)
    rows(22)(model, [])
    bench.facts["trains_on"] = bool(np.isfinite(model.get_weights()[0]).all())


@way(*TF2)
def a_recorder_that_fails_on_one_replica(bench):
    from tracediff_hooks.generations.replicas import ReplicaTaps, replica

    batch = ReplicaTaps.batch

    def failing(self, *parts):
        if replica() == 1:
            raise RuntimeError("for the test")
        return batch(self, *parts)

    def train(model, callbacks):
        ReplicaTaps.batch = failing
        try:
            rows(22)(model, callbacks)
        finally:
            ReplicaTaps.batch = batch

    bench.thrice(bench.kit.mlp, train, alone=False)


# --- blocks


@way(*TF2)
def train_on_batch(bench):
    x, y = problem(22)

    def loop(model, recording):
        for start in (0, 8, 16):
            model.train_on_batch(x[start : start + 8], y[start : start + 8])

    bench.facts["said"] = said_by_us(
        lambda: bench.twice_in_a_block(lambda: bench.make(bench.kit.mlp), loop)
    )


@way(*TF2)
def hand_written_loop(bench):
    tf = bench.kit.tf
    x, y = problem(16)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    def loop(model, recording):
        spread = bench.strategy.experimental_distribute_dataset(data)
        trained = model.trainable_variables

        def one(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2) / 2
            model.optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained))

        @tf.function
        def step(batch):
            bench.strategy.run(one, args=batch)

        for number, batch in enumerate(spread):
            if recording is None or number:
                step(batch)
            else:
                recording.step(step, batch)

    bench.facts["said"] = said_by_us(
        lambda: bench.twice_in_a_block(lambda: bench.make(bench.kit.mlp), loop)
    )


# --- other strategies


@way(*TF2)
def one_device(bench):
    bench.strategy = bench.kit.tf.distribute.OneDeviceStrategy("/cpu:0")
    bench.thrice(lambda: bench.kit.mlp(bench.kit.adam()), rows(22))


@way(*TF2)
def one_replica(bench):
    bench.strategy = bench.kit.tf.distribute.MirroredStrategy(["/cpu:0"])
    bench.thrice(lambda: bench.kit.mlp(bench.kit.adam()), rows(22))


@way(*TF_KERAS)
def another_strategy(bench):
    central = bench.kit.tf.distribute.experimental.CentralStorageStrategy
    bench.strategy = central(["/cpu:0", "/cpu:1"], "/cpu:0")
    bench.thrice(bench.kit.mlp, rows(16), alone=False)


@way(*TF2)
def replay(bench):
    from tracediff_hooks import Replay, TraceCallback

    bench.kit.fresh()
    rows(22)(bench.kit.mlp(), [TraceCallback(bench.beside("one"))])
    model = bench.make(bench.kit.mlp)
    again = TraceCallback(bench.path, replay=Replay(bench.beside("one")))
    bench.facts["said"] = said_by_us(
        lambda: bench.facts.update(raised=str(fail_loudly(lambda: rows(22)(model, [again]))))
    )
