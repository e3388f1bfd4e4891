"""Ways in which two things come together: groups and their data, loops and moving averages."""

import numpy as np
from training_kit import KERAS3, TF2, TF_KERAS, callback_of, problem

from training_ways.bench import way
from training_ways.loops import batches


def _grouped(bench, steps=3):
    key = "experimental_" if bench.kit.flavour == "tf2.3" else ""
    return {key + "steps_per_execution": steps}


def _counted(model):
    counter = getattr(model.optimizer.iterations, "value", model.optimizer.iterations)
    return int(np.asarray(counter() if callable(counter) else counter))


def _endless():
    while True:
        yield from batches()


@way(*TF2, "keras3-jax")
def groups_beyond_the_epoch(bench):
    counted = []

    def train(callbacks):
        model = bench.kit.mlp(bench.kit.adam(), **_grouped(bench))
        options = {"epochs": 2, "steps_per_epoch": 5, "verbose": 0}
        model.fit(_endless(), callbacks=callbacks, **options)
        counted.append(_counted(model))
        return model

    bench.twice(train)
    return {"counted": counted}


@way(*TF2, "keras3-torch")
def frozen_amid_a_fit(bench):
    def freeze(model, epoch, logs):
        model.get_layer("hidden").trainable = epoch == 0

    def train(callbacks):
        model = bench.kit.mlp(run_eagerly=True)
        freezing = callback_of(bench.kit, on_epoch_begin=freeze)
        x, y = problem()
        options = {"epochs": 2, "shuffle": False, "verbose": 0}
        model.fit(x, y, batch_size=8, callbacks=[freezing, *callbacks], **options)
        return model

    bench.twice(train)


@way("keras3", "keras3-jax")  # others refuse data of unknown size
def groups_beyond_the_data(bench):
    counted = []

    def train(callbacks):
        model = bench.kit.mlp(bench.kit.adam(), **_grouped(bench))
        # Nobody knows how many batches there are until they are used up, amid a group.
        data = (batch for batch in batches() + batches()[:2])
        model.fit(data, verbose=0, callbacks=callbacks)
        counted.append(_counted(model))
        return model

    bench.twice(train)
    return {"counted": counted}


@way("keras3")
def train_on_batch_of_a_grouped_model(bench):
    def loop(model, recording):
        for x, y in batches():
            model.train_on_batch(x, y)

    bench.twice_in_a_block(lambda: bench.kit.mlp(**_grouped(bench)), loop)


def _with_dropout(bench):
    layers = bench.kit.keras.layers
    x = bench.kit.input(3)
    h = layers.Dropout(0.5)(layers.Dense(4, activation="tanh", name="hidden")(x))
    return bench.kit.keras.models.Model(x, layers.Dense(2, name="out")(h))


@way(*TF2)
def groups_with_dropout(bench):
    def train(callbacks):
        model = _with_dropout(bench)
        model.compile(bench.kit.sgd(), "mse", **_grouped(bench))
        x, y = problem()
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    bench.twice(train)


@way(*TF_KERAS)
def groups_with_draws_of_their_own(bench):
    tf = bench.kit.tf

    class Noisy(bench.kit.keras.Model):
        def train_step(self, data):
            x, y = data
            return super().train_step((x + tf.random.normal(tf.shape(x)), y))

    def train(callbacks):
        plain = bench.kit.mlp(compiled=False)
        model = Noisy(plain.inputs, plain.outputs)
        model.compile(bench.kit.sgd(), "mse", **_grouped(bench))
        x, y = problem()
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    bench.twice(train)


@way(*TF2, "keras3-torch")
def eager_loop_with_moving_averages(bench):
    kit = bench.kit
    made = []

    def make():
        made.append(kit.sgd())
        layers = kit.keras.layers
        x = kit.input(3)
        h = layers.BatchNormalization(name="norm", momentum=0.75)(x)
        return kit.keras.models.Model(x, layers.Dense(2, name="out")(h))

    def loop(model, recording):
        seen = []
        for x, y in batches() * 2:
            seen.append([np.array(weight) for weight in model.get_weights()])
            _eager_step(kit, model, made[-1], x, y)
        if recording is not None:
            bench.note(
                **{f"before/{k}/{i}": w for k, ws in enumerate(seen) for i, w in enumerate(ws)}
            )

    bench.twice_in_a_block(make, loop)


def _eager_step(kit, model, optimizer, x, y):
    if kit.flavour == "keras3-torch":
        import torch

        model.zero_grad()
        ((model(x, training=True) - torch.tensor(y)) ** 2).mean().backward()
        weights = model.trainable_weights
        gradients = [weight.value.grad for weight in weights]
        with torch.no_grad():
            optimizer.apply(gradients, weights)
        return
    tf = kit.tf
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    weights = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))


@way(*TF_KERAS, *KERAS3)
def metric_in_an_attribute(bench):
    keras = bench.kit.keras

    class Tracking(keras.Model):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.tracked = keras.metrics.Mean(name="tracked")

        @property
        def metrics(self):
            return [self.tracked]

    def train(callbacks):
        plain = bench.kit.mlp(compiled=False)
        model = Tracking(plain.inputs, plain.outputs)
        model.compile(bench.kit.sgd(), "mse")
        x, y = problem()
        options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
        model.fit(x, y, callbacks=callbacks, **options)
        return model

    bench.twice(train)


@way(*TF2)
def looked_up_words(bench):
    kit = bench.kit
    layers = kit.keras.layers
    words = np.array([["a"], ["b"], ["c"], ["a"], ["b"], ["c"], ["a"], ["b"]])
    if kit.flavour == "tf2.3":
        lookup = layers.experimental.preprocessing.StringLookup
    else:
        lookup = layers.StringLookup

    def train(callbacks):
        word = layers.Input((1,), dtype="string")
        place = lookup(vocabulary=["a", "b", "c"], name="words")(word)
        vector = layers.Flatten()(layers.Embedding(6, 3, name="vectors")(place))
        model = kit.keras.models.Model(word, layers.Dense(2, name="out")(vector))
        model.compile(kit.sgd(), "mse")
        data = kit.tf.data.Dataset.from_tensor_slices((words, problem(8)[1])).batch(4)
        model.fit(data, epochs=2, verbose=0, callbacks=callbacks)
        return _NumbersOnly(model)

    bench.twice(train, witnessed=False)  # a witness would note the words among the weights
    bench.note(words=np.array([ord(word) for word in words[:, 0]]))


class _NumbersOnly:
    """A model whose weights leave out the words, which are no weights anybody trains."""

    def __init__(self, model):
        self.optimizer = model.optimizer
        self._model = model

    def get_weights(self):
        weights = [np.asarray(weight) for weight in self._model.get_weights()]
        return [weight for weight in weights if weight.dtype.kind == "f"]
