"""Ways that few scripts take: methods put on a model, steps with logs and optimizers of their own.

And what may happen amid a fit, or be done with the callback besides.
"""

import numpy as np
from training_kit import GRAPH, TF2, callback_of, fail_loudly, problem

from training_ways.bench import way

FIT = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}


def _model_of(kit, model_class):
    """A model of a class, with the layers of `Kit.mlp`."""
    plain = kit.mlp(compiled=False)
    return model_class(plain.inputs, plain.outputs)


def _loss_of(kit, model, data):
    x, y = data
    return kit.tf.reduce_mean((model(x, training=True) - y) ** 2)


def _stepping(kit, logs=None, trained=None):
    """A class of models with a step of its own.

    Args:
        kit: the Keras to train with.
        logs: makes of the loss what the step returns; by default ``{"own": loss}``.
        trained: which weights of the model are trained; by default all.
    """

    class Stepping(kit.keras.Model):
        def train_step(self, data):
            with kit.tf.GradientTape() as tape:
                loss = _loss_of(kit, self, data)
            weights = self.trainable_variables if trained is None else trained(self)
            gradients = tape.gradient(loss, weights)
            self.optimizer.apply_gradients(zip(gradients, weights))
            return {"own": loss} if logs is None else logs(loss)

    return Stepping


@way(*TF2)
def step_put_on_the_model(bench):
    kit = bench.kit
    kept = []

    def train(callbacks):
        model = kit.mlp()

        def step(data):
            with kit.tf.GradientTape() as tape:
                loss = _loss_of(kit, model, data) * 3.0
            weights = model.trainable_variables
            model.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
            return {"own": loss}

        model.train_step = step
        x, y = problem()
        model.fit(x, y, callbacks=callbacks, **FIT)
        kept.append(model.__dict__.get("train_step") is step)
        # Without the recorder, and with the step of the script still.
        model.fit(x, y, **FIT)
        return model

    bench.twice(train)
    return {"kept": kept}


@way(*TF2)
def train_function_of_its_own(bench):
    tf = bench.kit.tf
    made = []

    class Making(bench.kit.keras.Model):
        def make_train_function(self):
            if self.train_function is None:
                made.append(1)
                function = tf.function(lambda iterator: self.train_step(next(iterator)))
                self.train_function = function
            return self.train_function

    def train(callbacks):
        model = _model_of(bench.kit, Making)
        model.compile(bench.kit.sgd(), "mse")
        model.fit(*problem(), callbacks=callbacks, **FIT)
        return model

    bench.twice(train)
    return {"made": len(made)}


@way(*TF2)
def head_alone(bench):
    counts = []

    def head(model):
        return model.get_layer("out").trainable_variables

    def train(callbacks):
        model = _model_of(bench.kit, _stepping(bench.kit, trained=head))
        model.compile(bench.kit.adam())
        model.fit(*problem(), callbacks=callbacks, **FIT)
        variables = model.optimizer.variables
        counts.append(len(variables() if callable(variables) else variables))
        return model

    bench.twice(train)
    return {"counts": counts}


@way("keras3")  # the others refuse such logs
def logs_by_number(bench):
    def train(callbacks):
        model = _model_of(bench.kit, _stepping(bench.kit, logs=lambda loss: {0: loss}))
        model.compile(bench.kit.sgd())
        model.fit(*problem(), callbacks=callbacks, **FIT)
        return model

    bench.twice(train)


@way(*TF2)
def logs_in_dictionaries(bench):
    def nested(loss):
        return {"own": loss, "more": {"twice": loss * 2}}

    def train(callbacks):
        model = _model_of(bench.kit, _stepping(bench.kit, logs=nested))
        model.compile(bench.kit.sgd())
        model.fit(*problem(), callbacks=callbacks, **FIT)
        return model

    bench.twice(train)


class _Around:
    """What a script may take for an optimizer: something with `apply_gradients`."""

    def __init__(self, optimizer):
        self.inside = [optimizer]

    def apply_gradients(self, pairs):
        return self.inside[0].apply_gradients(pairs)


@way(*TF2)
def optimizer_of_the_script(bench):
    kit = bench.kit

    class Stepping(kit.keras.Model):
        def train_step(self, data):
            with kit.tf.GradientTape() as tape:
                loss = _loss_of(kit, self, data)
            weights = self.trainable_variables
            self.around.apply_gradients(zip(tape.gradient(loss, weights), weights))
            return {"own": loss}

    def train(callbacks):
        model = _model_of(kit, Stepping)
        model.around = _Around(kit.sgd())
        model.compile()
        model.fit(*problem(), callbacks=callbacks, **FIT)
        return model

    bench.twice(train)


@way("tf2.3")
def optimizer_without_a_rate(bench):
    kit = bench.kit

    class Descent(kit.keras.optimizers.Optimizer):
        def __init__(self):
            super().__init__("Descent")
            self._set_hyper("pace", 0.25)

        def _resource_apply_dense(self, grad, var, apply_state=None):
            return var.assign_sub(self._get_hyper("pace", "float32") * grad)

        def get_config(self):
            return super().get_config()

    def train(callbacks):
        model = kit.mlp(Descent())
        model.fit(*problem(), callbacks=callbacks, **FIT)
        return model

    bench.twice(train)


@way("tf2.3")
def optimizer_of_tensorflow_1(bench):
    def train(callbacks):
        model = bench.kit.mlp(bench.kit.tf.compat.v1.train.GradientDescentOptimizer(0.25))
        model.fit(*problem(), callbacks=callbacks, **FIT)
        return model

    bench.twice(train)


@way()
def evaluated_with_the_callback(bench):
    x, y = problem()
    attached = []

    def train(callbacks):
        model = bench.kit.mlp()
        for fits in (0, 1):
            for _ in range(fits):
                model.fit(x, y, callbacks=callbacks, **FIT)
            model.evaluate(x, y, verbose=0, callbacks=callbacks)
            model.predict(x, verbose=0, callbacks=callbacks)
            attached.append("train_step" in vars(model) or "_make_train_function" in vars(model))
        # Without the callback, so that it is not recorded.
        model.fit(x, y, **FIT)
        for callback in callbacks:
            getattr(callback, "close", lambda: None)()
        return model

    bench.twice(train, witnessed=False)
    return {"attached": attached}


@way(*GRAPH, *TF2)
def batch_amid_a_fit(bench):
    x, y = problem()

    def train(callbacks):
        model = bench.kit.mlp()

        def train_a_batch(model, epoch, logs):
            if epoch == 1:
                model.train_on_batch(x[:4], y[:4])

        amid = callback_of(bench.kit, on_epoch_begin=train_a_batch)
        model.fit(x, y, callbacks=[*callbacks, amid], **FIT)
        return model

    bench.twice(train, witnessed=False)
    bench.note(x=x, y=np.array(y))


@way(*TF2)
def sizes_of_batches(bench):
    kit = bench.kit

    def train(callbacks):
        layers = kit.keras.layers
        given = kit.input(3)
        h = layers.Dropout(0.5)(layers.Dense(4, activation="tanh", name="hidden")(given))
        model = kit.keras.models.Model(given, layers.Dense(2, name="out")(h))
        model.compile(kit.sgd(), "mse")
        options = {"shuffle": False, "verbose": 0}
        x, y = problem()
        model.fit(x, y, batch_size=8, callbacks=callbacks, **options)
        model.fit(x, y, batch_size=5, **options)
        model.fit(x, y, batch_size=5, callbacks=callbacks, **options)
        return model

    bench.twice(train, witnessed=False)


def _rate_by_function(bench, **compile_arguments):
    kit = bench.kit
    calls = []

    def train(callbacks):
        rates, count = [0.25], []

        def rate():
            count.append(1)
            return rates[0]

        def lower(model, epoch, logs):
            rates[0] = 0.125

        model = kit.mlp(kit.sgd(rate), **compile_arguments)
        lowering = callback_of(kit, on_epoch_end=lower)
        model.fit(*problem(), callbacks=[*callbacks, lowering], **FIT)
        calls.append(len(count))
        return model

    bench.twice(train)
    return {"calls": calls}


@way("tf2.3", "keras3")  # tf_keras makes a variable of a rate
def rate_by_function(bench):
    return _rate_by_function(bench)


@way("tf2.3", "keras3")
def rate_by_function_eagerly(bench):
    return _rate_by_function(bench, run_eagerly=True)


@way(*GRAPH, *TF2)
def batch_after_an_interruption(bench):
    x, y = problem()

    def train(callbacks):
        model = bench.kit.mlp()

        def interrupt(model, batch, logs):
            if batch == 1:
                raise KeyboardInterrupt

        broken = callback_of(bench.kit, on_train_batch_end=interrupt)
        fail_loudly(lambda: model.fit(x, y, callbacks=[*callbacks, broken], **FIT))
        model.train_on_batch(x[:4], y[:4])
        for callback in callbacks:
            getattr(callback, "close", lambda: None)()
        return model

    bench.twice(train, witnessed=False)
