"""Batches of tensors that consist of several: ragged ones, and sparse ones."""

import numpy as np
from training_kit import TF2, fail_loudly, problem

from training_ways.bench import way

LENGTHS = (1, 2, 3, 1, 4, 2, 2, 5, 3, 1, 1, 2, 6, 1, 2, 3)
WIDE = 300000
"""So many columns that a row takes more than a mebibyte."""


def ragged_rows():
    """The values of all rows, three numbers each, one row after the other."""
    stream = np.random.RandomState(7)
    return stream.uniform(-1, 1, (sum(LENGTHS), 3)).astype("float32")


def entries(width=5):
    """Where a matrix of 16 rows has entries, in order, and which."""
    stream = np.random.RandomState(9)
    places = [(row, width - 1 - column) for row in range(16) for column in range(row % 3, -1, -1)]
    return np.array(places, "int64"), stream.uniform(0.5, 1, len(places)).astype("float32")


def _labels():
    return problem(16)[1]


def _ragged_model(bench):
    kit = bench.kit
    rows = kit.keras.layers.Input((None, 3), ragged=True)
    mean = kit.keras.layers.Lambda(lambda t: kit.tf.reduce_mean(t, axis=1))(rows)
    model = kit.keras.models.Model(rows, kit.keras.layers.Dense(2, name="out")(mean))
    model.compile(optimizer=kit.sgd(), loss="mse")
    return model


def _dense_model(bench, width=5):
    kit = bench.kit
    # In a graph only a dense input takes what scipy makes: Keras turns each batch into arrays.
    sparse = kit.keras.layers.Input((width,), sparse=not kit.graph)
    out = kit.keras.layers.Dense(2, name="out", kernel_initializer="ones")(sparse)
    model = kit.keras.models.Model(sparse, out)
    model.compile(optimizer=kit.sgd(), loss="mse")
    return model


def _fit(bench, make, data):
    def train(callbacks):
        model = make()
        model.fit(*data, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    bench.twice(train, witnessed=False)


@way(*TF2)
def ragged(bench):
    rows = bench.kit.tf.RaggedTensor.from_row_lengths(ragged_rows(), LENGTHS)
    _fit(bench, lambda: _ragged_model(bench), (rows, _labels()))


@way(*TF2)
def ragged_in_an_eager_loop(bench):
    tf = bench.kit.tf
    rows = tf.RaggedTensor.from_row_lengths(ragged_rows(), LENGTHS)
    data = tf.data.Dataset.from_tensor_slices((rows, _labels())).batch(8)

    def loop(model, recording):
        trained = model.trainable_variables
        for x, y in data:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            model.optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained))

    bench.twice_in_a_block(lambda: _ragged_model(bench), loop)


@way(*TF2)
def twice_ragged(bench):
    # Two rows of rows of numbers: (16, None, None)
    kit = bench.kit
    inner = [1, 2, 1, 3] * 8
    values = ragged_rows().reshape(-1)[: sum(inner)]
    rows = kit.tf.RaggedTensor.from_nested_row_lengths(values, [[2] * 16, inner])

    def make():
        x = kit.keras.layers.Input((None, None), ragged=True)
        total = kit.keras.layers.Lambda(
            lambda t: kit.tf.expand_dims(kit.tf.reduce_sum(t, axis=[1, 2]), 1)
        )(x)
        model = kit.keras.models.Model(x, kit.keras.layers.Dense(2, name="out")(total))
        model.compile(optimizer=kit.sgd(), loss="mse")
        return model

    bench.note(values=values, inner=np.array(inner))
    _fit(bench, make, (rows, _labels()))


@way(*TF2)
def sparse(bench):
    matrix = bench.kit.tf.SparseTensor(*entries(), (16, 5))
    _fit(bench, lambda: _dense_model(bench), (matrix, _labels()))


@way(*TF2)
def sparse_with_wide_rows(bench):
    tf = bench.kit.tf
    data = tf.data.Dataset.from_tensor_slices(
        (tf.SparseTensor(*entries(WIDE), (16, WIDE)), _labels())
    )

    def train(callbacks):
        model = _dense_model(bench, WIDE)
        model.fit(data.batch(8), verbose=0, callbacks=callbacks)
        return model

    bench.twice(train, witnessed=False, level="full")


@way("keras2.3", "tf1.15", "keras3-jax")
def scipy_matrix(bench):
    import scipy.sparse

    places, values = entries()
    matrix = scipy.sparse.csr_matrix((values, places.T), shape=(16, 5))
    _fit(bench, lambda: _dense_model(bench), (matrix, _labels()))


@way(*TF2)
def replays(bench):
    from tracediff_hooks import Replay, TraceCallback

    rows = bench.kit.tf.RaggedTensor.from_row_lengths(ragged_rows(), LENGTHS)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    _ragged_model(bench).fit(rows, _labels(), callbacks=[TraceCallback(bench.path)], **fit)

    def onto(model, x, name):
        replay = Replay(bench.path, initial_weights=False)
        trace = TraceCallback(bench.folder / (name + ".zarr"), replay=replay)
        return str(fail_loudly(lambda: model.fit(x, _labels(), callbacks=[trace], **fit)))

    dense = np.ones((16, 3), "float32")
    return {
        "ragged": onto(_ragged_model(bench), rows, "onto_ragged"),
        "dense": onto(_dense_model(bench, 3), dense, "onto_dense"),
    }
