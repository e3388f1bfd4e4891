"""Batches of ragged and of sparse tensors: recorded as what the step consumed, in plain arrays.

`programs/ragged_and_sparse.py` trains in each way without the recorder and with it. The data are
cut by hand here, and the gradient is computed from them in numpy.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.stacks import flavours
from support.ways import TF2, Ways, close, only, problem

import tracediff

LENGTHS = (1, 2, 3, 1, 4, 2, 2, 5, 3, 1, 1, 2, 6, 1, 2, 3)
SCIPY = ("keras2.3", "tf1.15", "keras3-jax")


@pytest.fixture(scope="module", params=flavours(*SCIPY, *TF2))
def ways(request, tmp_path_factory):
    return Ways("ragged_and_sparse.py", request.param, tmp_path_factory.mktemp(request.param))


def rows():
    """The rows of the program: of each as many triples as its length."""
    values = np.random.RandomState(7).uniform(-1, 1, (sum(LENGTHS), 3)).astype("float32")
    return np.split(values, np.cumsum(LENGTHS)[:-1])


def matrix(width=5):
    """The program's sparse matrix, dense, with its last five columns alone."""
    stream = np.random.RandomState(9)
    places = [(row, 4 - column) for row in range(16) for column in range(row % 3, -1, -1)]
    dense = np.zeros((16, 5), "float32")
    dense[tuple(np.array(places).T)] = stream.uniform(0.5, 1, len(places)).astype("float32")
    return np.add(places, [0, width - 5]), dense


def fed(run, step):
    """What a step was fed, by the name behind `input/0`."""
    inputs = [tensor for tensor in run.tensors if tensor.role == "input"]
    return {tensor.name[len("input/0") :]: run.read(tensor, step) for tensor in inputs}


def assert_gradient(run, step, x):
    """The gradient of the mean squared error of `out` is that of these inputs."""
    kernel, bias = (run.read(run.tensor("weight", f"out/{name}"), step) for name in
                    ("kernel", "bias"))  # fmt: skip
    y = problem(16)[1][8 * step :][:8]
    error = x @ kernel + bias - y
    close(run.read(run.tensor("gradient", "out/kernel"), step), 2 * x.T @ error / error.size)


def test_every_way_ends_with_the_same_bits_as_without_the_recorder(ways):
    trained = [ways[name].facts for name in ways.answers if name != "replays"]
    assert trained
    assert all(facts["same_weights"] for facts in trained)
    assert not any(facts["left_behind"] for facts in trained)


@only(*TF2)
@pytest.mark.parametrize("name", ["ragged", "ragged_in_an_eager_loop"])
@pytest.mark.way("ragged inputs", "recorded as values and row lengths", *TF2)
def test_a_ragged_input_is_recorded_as_what_defines_it(ways, name):
    # Given rows of different lengths, in batches of eight
    run = ways[name].run
    assert run.steps == 2
    for step in range(2):
        batch = rows()[8 * step :][:8]
        recorded = fed(run, step)
        # Then the lengths and the values of the batch are there, and nothing else,
        assert sorted(recorded) == ["/row_lengths", "/values"]
        assert np.array_equal(recorded["/values"], np.concatenate(batch))
        assert recorded["/row_lengths"].tolist() == [len(row) for row in batch]
        # the gradient follows from them,
        assert_gradient(run, step, np.stack([row.mean(axis=0) for row in batch]))
    # and nothing is said to be missing
    assert run.about["events"] == []


@only(*TF2)
def test_a_tensor_that_is_ragged_twice_has_two_row_lengths(ways):
    way = ways["twice_ragged"]
    values, inner = way.arrays["values"], way.arrays["inner"]
    start = 0
    for step in range(2):
        recorded = fed(way.run, step)
        lengths = inner[16 * step :][:16]
        assert recorded["/row_lengths"].tolist() == [2] * 8
        assert recorded["/row_lengths_1"].tolist() == lengths.tolist()
        assert np.array_equal(recorded["/values"], values[start:][: lengths.sum()])
        start += lengths.sum()


@only(*TF2)
@pytest.mark.way("sparse inputs", "recorded as the dense ones; wide rows as entries", *TF2)
def test_a_sparse_input_is_recorded_as_the_dense_one(ways):
    run = ways["sparse"].run
    for step in range(2):
        dense = matrix()[1][8 * step :][:8]
        assert np.array_equal(fed(run, step)[""], dense)
        assert_gradient(run, step, dense)
    assert run.about["events"] == []


@only(*TF2)
def test_a_sparse_input_of_wide_rows_is_recorded_as_its_entries(ways):
    # Given rows of 300000 columns, more than a mebibyte each where they are dense
    run = ways["sparse_with_wide_rows"].run
    places, dense = matrix(300000)
    for step in range(2):
        recorded = fed(run, step)
        # Then the entries are there, and where they stand
        assert sorted(recorded) == ["/dense_shape", "/indices", "/values"]
        assert recorded["/dense_shape"].tolist() == [8, 300000]
        chosen = places[(places[:, 0] >= 8 * step) & (places[:, 0] < 8 * step + 8)]
        assert np.array_equal(recorded["/indices"], chosen - [8 * step, 0])
        assert np.array_equal(recorded["/values"], dense[chosen[:, 0], chosen[:, 1] - 299995])


@only(*SCIPY)
@pytest.mark.way("a scipy matrix in `fit`", "recorded dense", *SCIPY)
def test_a_scipy_matrix_is_recorded_dense(ways):
    run = ways["scipy_matrix"].run
    for step in range(2):
        dense = matrix()[1][8 * step :][:8]
        assert np.array_equal(fed(run, step)[""], dense)
        assert_gradient(run, step, dense)


@only("tf2.3", "keras3")
def test_runs_on_ragged_batches_are_compared(ways):
    # Given a run on ragged batches, and the same steps in a loop that tells no labels
    one, other = ways["ragged"].trace, ways["ragged_in_an_eager_loop"].trace
    # Then the run agrees with itself, and its values with those of the loop
    assert tracediff.compare(one, one).verdict == "identical"
    comparison = tracediff.compare(one, other)
    assert comparison.first_divergence is None or comparison.first_divergence.role != "input"


@only(*TF2)
def test_ragged_batches_are_not_replayed_and_that_is_said(ways):
    # Given a trace of ragged batches, when it is replayed onto the same model, or onto a dense one
    facts = ways["replays"].facts
    # Then it is refused, with what it cannot do
    assert "this model is fed a ragged or sparse input/0" in facts["ragged"]
    assert "A's batch has no input/0" in facts["dense"]
