"""Ways of feeding `fit`: what batches, labels and sample weights come from."""

import numpy as np
from training_kit import GRAPH, TF2, TF_KERAS, problem, same_weights, snapshot, traces_of_us

from training_ways.bench import way


@way()
def arrays(bench):
    model = bench.kit.mlp()
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
    left = traces_of_us(model)
    recorded = snapshot(bench.path)
    before = model.get_weights()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    return {
        "left_behind": left,
        "untouched_by_a_later_fit": snapshot(bench.path) == recorded,
        "later_fit_trained": not same_weights(before, model.get_weights()),
        "left_behind_later": traces_of_us(model),
    }


@way()
def shuffled(bench):
    model = bench.kit.mlp()
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=True, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


def _batches(log, count):
    x, y = problem(100, seed=11)
    start = 0
    for number in range(count):
        size = (5, 8, 3)[number % 3]
        batch = x[start : start + size], y[start : start + size]
        start += size
        log.append(batch)
        yield batch


@way()
def generator(bench):
    model = bench.kit.mlp()
    log = []
    model.fit(
        _batches(log, 18), steps_per_epoch=3, epochs=2, verbose=0, callbacks=bench.callbacks()
    )
    for step, (x, y) in enumerate(log[:6]):
        bench.note(**{f"yielded/{step}/x": x, f"yielded/{step}/y": y})
    return {"left_behind": traces_of_us(model)}


@way(*GRAPH, *TF_KERAS)
def fit_generator(bench):
    model = bench.kit.mlp()
    log = []
    model.fit_generator(
        _batches(log, 18), steps_per_epoch=3, epochs=2, verbose=0, callbacks=bench.callbacks()
    )
    for step, (x, y) in enumerate(log[:6]):
        bench.note(**{f"yielded/{step}/x": x, f"yielded/{step}/y": y})


@way()
def sequence(bench):
    utils = bench.kit.keras.utils
    base = utils.PyDataset if bench.kit.keras3 else utils.Sequence
    x, y = problem()

    class Batches(base):
        def __len__(self):
            return 3

        def __getitem__(self, number):
            part = slice(8 * number, 8 * number + 8)
            return x[part], y[part]

    model = bench.kit.mlp()
    model.fit(Batches(), epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


@way("tf1.15", *TF2)
def dataset(bench):
    model = bench.kit.mlp()
    x, y = problem()
    data = bench.kit.tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    model.fit(data, epochs=2, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


@way()
def sample_weight(bench):
    model = bench.kit.mlp()
    x, y = problem()
    weight = np.linspace(0.2, 3.0, len(x)).astype("float32")
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        sample_weight=weight,
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(x=x, y=y, weight=weight)


@way()
def sample_weight_and_validation_without(bench):
    """Keras of graphs has other placeholders for weights after it, the train function has not."""
    model = bench.kit.mlp()
    x, y = problem()
    weight = np.linspace(0.2, 3.0, len(x)).astype("float32")
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        sample_weight=weight,
        validation_data=problem(10, seed=77),
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(x=x, y=y, weight=weight)


@way()
def class_weight(bench):
    kit = bench.kit
    layers = kit.keras.layers
    inputs = kit.input(3)
    h = layers.Dense(4, activation="tanh", name="hidden")(inputs)
    model = kit.keras.models.Model(inputs, layers.Dense(1, name="out")(h))
    model.compile(optimizer=kit.sgd(), loss="mse")
    x, _ = problem()
    y = (x[:, :1] > 0).astype("float32")
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        class_weight={0: 1.0, 1: 3.0},
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(x=x, y=y)


def _two_in_two_out(kit):
    layers = kit.keras.layers
    left, right = kit.input(3, "left"), kit.input(2, "right")
    both = layers.concatenate([left, right], name="both")
    # The second output is listed first, and made of the input listed second.
    outputs = [layers.Dense(2, name="of_both")(both), layers.Dense(1, name="of_left")(left)]
    model = kit.keras.models.Model([left, right], outputs)
    model.compile(optimizer=kit.sgd(), loss=["mse", "mse"], loss_weights=[1.0, 0.5])
    return model


def _two_in_two_out_data():
    left, of_both = problem()
    right = left[:, :2] * 3 + 1
    of_left = left[:, :1] * 2 - 1
    return left, right, of_both, of_left


@way()
def many_inputs_and_outputs(bench):
    model = _two_in_two_out(bench.kit)
    left, right, of_both, of_left = _two_in_two_out_data()
    model.fit(
        [left, right],
        [of_both, of_left],
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(left=left, right=right, of_both=of_both, of_left=of_left)


@way()
def dictionaries(bench):
    model = _two_in_two_out(bench.kit)
    left, right, of_both, of_left = _two_in_two_out_data()
    model.fit(
        {"right": right, "left": left},
        {"of_left": of_left, "of_both": of_both},
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(),
    )
    bench.note(left=left, right=right, of_both=of_both, of_left=of_left)
