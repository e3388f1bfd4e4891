"""`fit` on two replicas: batches, optimizers, precisions, and what Keras lets a user choose."""

import numpy as np
from training_kit import TF2, TF_KERAS, problem

from training_ways.bench import way
from training_ways.replicas_bench import redo, rows

CLIPPING = ("tf2.15", "tf-keras", "keras3")
"""TensorFlow 2.3 refuses to clip under a strategy."""


@way(*TF2)
def two_replicas(bench):
    x, y = problem(22)
    tf = bench.kit.tf
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    bench.thrice(bench.kit.mlp, lambda m, c: m.fit(data, epochs=2, verbose=0, callbacks=c))


@way(*TF2)
def adam_with_weights(bench):
    weights = np.linspace(0.5, 2, 22).astype("float32")
    train = rows(22, sample_weight=weights)
    bench.note(weights=weights)
    bench.thrice(lambda: bench.kit.mlp(bench.kit.adam()), train)
    redo(bench, bench.kit.adam())


@way(*TF2)
def a_part_too_small(bench):
    # 17 rows: the last batch is one row, and one replica has none.
    bench.thrice(bench.kit.mlp, rows(17, epochs=1), alone=False)


@way(*TF2)
def parts_of_unequal_size(bench):
    bench.thrice(bench.kit.mlp, rows(15, epochs=1), alone=False)


@way(*CLIPPING)
def clipped(bench):
    keras = bench.kit.keras
    rule = keras.optimizers.SGD
    bench.thrice(lambda: bench.kit.mlp(rule(0.25, clipnorm=0.125)), rows(22))


@way(*TF2)
def statistics_and_dropout(bench):
    kit = bench.kit
    layers = kit.keras.layers

    def model():
        stack = [
            kit.input(3),
            layers.Dense(6, name="hidden"),
            layers.BatchNormalization(name="normed"),
            layers.Dropout(0.25, name="drop"),
            layers.Dense(2, name="out"),
        ]
        made = kit.keras.models.Sequential(stack)
        made.compile(optimizer=kit.adam(), loss="mse", metrics=["mae"])
        return made

    bench.thrice(model, rows(22), alone=False, activations=True)


@way(*TF2)
def sparse(bench):
    kit = bench.kit
    layers = kit.keras.layers
    stream = np.random.RandomState(3)
    x, y = stream.randint(0, 9, (22, 3)), problem(22)[1]

    def model():
        word = kit.keras.layers.Input((3,), dtype="int32")
        h = layers.Embedding(9, 4, name="words")(word)
        h = layers.GlobalAveragePooling1D(name="mean")(h)
        made = kit.keras.models.Model(word, layers.Dense(2, name="out")(h))
        made.compile(optimizer=kit.sgd(), loss="mse")
        return made

    def train(model, callbacks):
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)

    bench.thrice(model, train)


@way(*TF2)
def custom_train_step(bench):
    kit = bench.kit

    class Model(kit.keras.models.Model):
        def train_step(self, data):
            x, y = data
            with kit.tf.GradientTape() as tape:
                error = kit.tf.reduce_mean((self(x, training=True) - y) ** 2)
                loss = error / kit.tf.distribute.get_strategy().num_replicas_in_sync
            trained = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained))
            return {"loss": error}

    def model():
        x = kit.input(3)
        h = kit.keras.layers.Dense(4, activation="tanh", name="hidden")(x)
        made = Model(x, kit.keras.layers.Dense(2, name="out")(h))
        made.compile(optimizer=kit.sgd(), loss="mse")
        return made

    bench.thrice(model, rows(22))


@way(*TF2)
def run_eagerly(bench):
    bench.thrice(lambda: bench.kit.mlp(bench.kit.adam(), run_eagerly=True), rows(12, epochs=1))


@way(*TF_KERAS)
def steps_per_execution(bench):
    key = (
        "experimental_steps_per_execution"
        if bench.kit.flavour == "tf2.3"
        else ("steps_per_execution")
    )
    bench.thrice(lambda: bench.kit.mlp(**{key: 2}), rows(22))


def of_precision(bench, name):
    """Makes models of a policy, which Keras 3 forgets when a session is cleared."""
    keras = bench.kit.keras
    old = bench.kit.flavour == "tf2.3"
    mixed = keras.mixed_precision.experimental if old else keras.mixed_precision
    set_policy = mixed.set_policy if old else mixed.set_global_policy

    def model():
        set_policy(name)
        try:
            made = bench.kit.mlp()
            layer = made.layers[1]
            dtype = getattr(layer, "compute_dtype", None) or layer._compute_dtype
            bench.facts["computes_in"] = str(dtype)
            return made
        finally:
            set_policy("float32")

    return model


@way(*TF2)
def mixed_precision(bench):
    bench.thrice(of_precision(bench, "mixed_bfloat16"), rows(22))


@way(*TF2)
def scaled_loss(bench):
    bench.thrice(of_precision(bench, "mixed_float16"), rows(22))
