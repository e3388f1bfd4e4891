"""Ways in which updates are made: several optimizers, scaled, accumulated, averaged, compiled."""

from training_kit import KERAS3, TF2, TF_KERAS, problem

from training_ways.bench import way
from training_ways.loops import fit_of


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


@way(*KERAS3)
def gradient_accumulation(bench):
    fit = fit_of(bench)

    def train(callbacks):
        rule = bench.kit.keras.optimizers.SGD(0.25, gradient_accumulation_steps=3)
        return fit(callbacks, bench.kit.mlp(rule))

    bench.twice(train)


@way(*KERAS3, "tf2.15", "tf-keras")
def moving_average_of_weights(bench):
    fit = fit_of(bench)

    def train(callbacks):
        rule = bench.kit.keras.optimizers.SGD(
            0.25, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
        )
        return fit(callbacks, bench.kit.mlp(rule))

    bench.twice(train)


@way(*TF_KERAS, *KERAS3)
def loss_scaling_that_overflows(bench):
    keras = bench.kit.keras
    fit = fit_of(bench, labels=16.0)

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
    fit = fit_of(bench)
    old = bench.kit.flavour == "tf2.3"
    mixed = keras.mixed_precision.experimental if old else keras.mixed_precision
    set_policy = mixed.set_policy if old else mixed.set_global_policy

    def train(callbacks):
        # In Keras 3 clearing a session, as every way begins, forgets the policy.
        set_policy("mixed_float16")
        model = fit(callbacks, bench.kit.mlp())
        dtype = getattr(model.layers[1], "compute_dtype", None) or model.layers[1]._compute_dtype
        bench.facts["computes_in"] = str(dtype)
        return model

    try:
        bench.twice(train)
    finally:
        set_policy("float32")


@way("tf2.15", "tf-keras", "keras3", "keras3-jax")
def jit_compiled(bench):
    fit = fit_of(bench)
    bench.twice(lambda callbacks: fit(callbacks, bench.kit.mlp(jit_compile=True)))
