"""Ways of recording layer outputs."""

from training_kit import TF2

from training_ways.bench import way
from training_ways.loops import batches, fit_of, loop_by_hand


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
    fit = fit_of(bench)
    bench.twice(lambda callbacks: fit(callbacks, _nested(bench.kit)), activations=True)


@way()
def outputs_as_digests(bench):
    fit = fit_of(bench)
    bench.twice(
        lambda callbacks: fit(callbacks, _nested(bench.kit)), activations=True, level="digest"
    )


@way()
def outputs_by_pattern(bench):
    fit = fit_of(bench)
    bench.twice(lambda callbacks: fit(callbacks, _nested(bench.kit)), activations="^inner/s")


@way()
def outputs_by_name(bench):
    fit = fit_of(bench)
    bench.twice(
        lambda callbacks: fit(callbacks, _nested(bench.kit)), activations=["out", "nowhere"]
    )


@way(*TF2, "keras3-torch")
def outputs_in_an_eager_loop(bench):
    made = []

    def make():
        made.append(bench.kit.sgd())
        return bench.kit.mlp(compiled=False)

    loop = loop_by_hand(bench, lambda: made[-1], told=True)
    bench.twice_in_a_block(make, loop, activations=True)


@way()
def outputs_of_train_on_batch(bench):
    def loop(model, recording):
        for x, y in batches() * 2:
            model.train_on_batch(x, y)

    bench.twice_in_a_block(bench.kit.mlp, loop, activations=["hidden"])
