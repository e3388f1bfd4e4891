"""Ways in which a model makes its step, or is made: eager, grouped, subclassed, another rule."""

import numpy as np
from training_kit import KERAS3, TF2, TF_KERAS, callback_of, problem, same_weights, traces_of_us

from training_ways.bench import way


@way(*TF_KERAS, *KERAS3)
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
def adam(bench):
    model = bench.kit.mlp(bench.kit.adam(0.01))
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
