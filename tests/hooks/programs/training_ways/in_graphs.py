"""Ways that only graphs have: an optimizer of two models, data that are tensors of the graph."""

import numpy as np
from training_kit import GRAPH, TF2, problem

from training_ways.bench import way

FIT = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}


@way(*GRAPH)
def optimizer_of_two_models(bench):
    kit = bench.kit
    x, y = problem()

    def train(callbacks):
        key = "lr" if kit.flavour == "keras2.3" else "learning_rate"
        optimizer = kit.keras.optimizers.SGD(momentum=0.5, **{key: 0.25})
        first, second = kit.mlp(optimizer), kit.mlp(optimizer)
        for model in (first, second):
            model.train_on_batch(x[:4], y[:4])
        first.fit(x, y, callbacks=callbacks, **FIT)
        return first

    bench.twice(train, witnessed=False)


@way(*GRAPH)
def data_in_the_graph(bench):
    kit = bench.kit
    layers = kit.keras.layers
    x, y = problem()

    def train(callbacks):
        given = layers.Input(tensor=kit.keras.backend.constant(x))
        h = layers.Dense(4, activation="tanh", name="hidden")(given)
        model = kit.keras.models.Model(given, layers.Dense(2, name="out")(h))
        model.compile(kit.sgd(), "mse", target_tensors=[kit.keras.backend.constant(y)])
        model.fit(steps_per_epoch=3, epochs=2, verbose=0, callbacks=callbacks)
        return model

    bench.twice(train, witnessed=False)


@way("keras2.3")
def wrapped_optimizer_of_tensorflow_1(bench):
    kit = bench.kit

    def train(callbacks):
        plain = kit.tf.compat.v1.train.GradientDescentOptimizer(0.25)
        model = kit.mlp(kit.keras.optimizers.TFOptimizer(plain))
        model.fit(*problem(), callbacks=callbacks, **FIT)
        return model

    bench.twice(train, witnessed=False)


@way(*GRAPH, *TF2)
def frozen_without_compile(bench):
    moved = []

    def train(callbacks):
        model = bench.kit.mlp()
        x, y = problem()
        model.fit(x, y, callbacks=callbacks, **FIT)
        hidden = model.get_layer("hidden")
        hidden.trainable = False
        before = hidden.get_weights()[0]
        model.fit(x, y, callbacks=callbacks, **FIT)
        moved.append(bool((np.array(hidden.get_weights()[0]) != before).any()))
        return model

    bench.twice(train, witnessed=False)
    return {"moved": moved}
