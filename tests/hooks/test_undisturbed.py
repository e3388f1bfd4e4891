"""Recording changes no bit of a training: weights, optimizer variables, and what `fit` returns.

A program trains models one after the other in a process of its own, without the recorder and with
it, and prints hashes of all that training left behind. Nothing is cleared between the models, so
that an operation too many in the graph, or a number drawn too many, would show in every later one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "undisturbed.py"

FIRST = ["mlp:adam-clipnorm", "cnn:nesterov", "embedding:adam"]
CELLS = [*FIRST, "lstm:nesterov", "cnn:adam-clipnorm", "lstm:adam", "mlp:rmsprop", "cnn:rmsprop"]
LEGACY = ["mlp:legacy-adam-clipnorm", "cnn:legacy-nesterov", "embedding:legacy-adam"]
WITH_LEGACY = ("tf2.15", "tf-keras")
LATER = "a model built later"

# Adam of Keras 2.3 races with its own step counter: with several threads it differs from itself.
RACY = ("adam",)


COMPILED = {
    "keras3-jax": {"cnn:adam-clipnorm", "cnn:rmsprop"},
}
"""Cells in which a compiler rounds otherwise where a gradient leaves the step."""

NOISE = (1, 4)
"""Of the CNN: the bias of its first convolution, and the moving mean after it."""


def cells_of(stack):
    return [*CELLS, *LEGACY] if stack.name in WITH_LEGACY else CELLS


def train(stack, mode, folder, threads, cells):
    return json.loads(stack.run(PROGRAM, mode, folder, threads, *cells, timeout=1800).stdout)


def in_processes(stack, cells):
    """The cells that one process can train, with its threads."""
    if stack.name != "keras2.3":
        return [("all", cells)]
    racy = [cell for cell in cells if cell.split(":")[1].startswith(RACY)]
    return [("one", racy), ("all", [cell for cell in cells if cell not in racy])]


@pytest.fixture(scope="module")
def plain(training, tmp_path_factory):
    """What trainings leave behind that nobody watches."""
    folder = tmp_path_factory.mktemp("plain")
    return {
        threads: train(training, "plain", folder, threads, cells)
        for threads, cells in in_processes(training, cells_of(training))
    }


@pytest.fixture(scope="module")
def recorded(training, tmp_path_factory):
    """The same trainings, every step of them recorded in full."""
    folder = tmp_path_factory.mktemp("full")
    found = {
        threads: train(training, "full", folder, threads, cells)
        for threads, cells in in_processes(training, cells_of(training))
    }
    return found, folder


def differing(one, other, what):
    """The numbers of the tensors in which two trainings part, by cell."""
    parted = {}
    for threads, cells in one.items():
        for cell, left in cells.items():
            if what not in left:
                continue
            right = other[threads][cell]
            assert len(left[what]) == len(right[what]), cell
            numbers = [i for i, (a, b) in enumerate(zip(left[what], right[what])) if a != b]
            if numbers:
                parted[cell] = numbers
    return parted


def test_the_trainings_train_and_are_recorded(training, plain, recorded):
    # Else nothing could be disturbed, and nothing would disturb.
    found, folder = recorded
    trained = [cell for cells in found.values() for cell in cells if cell != LATER]
    assert sorted(trained) == sorted(cells_of(training))
    for cells in plain.values():
        for cell, left in cells.items():
            assert cell == LATER or left["moved"] == len(left["weights"]), cell
    for cell in trained:
        store = folder / (cell.replace(":", "-") + ".zarr")
        run = json.loads((store / "run-0" / ".zattrs").read_text())["run"]
        assert run["status"] == "complete", cell
        assert [event for event in run["events"] if event["kind"] != "level"] == [], cell
        assert sum(line["role"] == "gradient" for line in run["tensors"]) > 0, cell


def test_final_weights_are_equal_bit_for_bit(training, plain, recorded):
    assert set(differing(plain, recorded[0], "weights")) <= COMPILED.get(training.name, set())


def test_optimizer_variables_are_equal_bit_for_bit(training, plain, recorded):
    assert set(differing(plain, recorded[0], "optimizer")) <= COMPILED.get(training.name, set())


def test_where_a_compiler_rounds_otherwise_the_weights_part_by_rounding_only(
    training, plain, recorded
):
    if training.name not in COMPILED:
        pytest.skip("equal bit for bit in every cell")
    for cell in COMPILED[training.name]:
        one, other = (found["all"][cell]["sums"] for found in (plain, recorded[0]))
        # Sums of magnitudes after nine steps, in the order of the weights. The gradient of the bias
        # before a normalisation is nothing but rounding, and its moving mean follows it.
        for number, (left, right) in enumerate(zip(one, other)):
            if number not in NOISE:
                assert right == pytest.approx(left, rel=1e-5), (cell, number)


def test_models_built_after_recorded_trainings_start_from_the_same_weights(plain, recorded):
    # Operation seeds count the operations, or the random operations, that a process has made.
    for cells in plain.values():
        assert cells[LATER]["initial"]
    assert differing(plain, recorded[0], "initial") == {}


def test_no_operation_is_added_to_the_graph_of_a_graph_stack(training, plain, recorded):
    # Some of them would shift the seeds of later models, and all would stay there for good.
    if training.name not in ("keras2.3", "tf1.15"):
        pytest.skip("the framework makes a graph of its own for every step function")
    for threads, cells in plain.items():
        assert len(cells[LATER]["operations"]) > 1000
        assert cells[LATER]["operations"] == recorded[0][threads][LATER]["operations"]


def test_losses_and_metrics_that_fit_returns_are_equal_bit_for_bit(training, plain, recorded):
    for threads, cells in plain.items():
        for cell, left in cells.items():
            if cell == LATER or cell in COMPILED.get(training.name, ()):
                continue
            right = recorded[0][threads][cell]["history"]
            assert {"loss"} < set(left["history"]), cell
            assert left["history"] == right, cell


@pytest.mark.parametrize("level", ["digest", pytest.param("sketch", marks=pytest.mark.exhaustive)])
def test_recording_less_disturbs_as_little(training, plain, tmp_path, level):
    # The first cells alone: what follows a cell does not change it.
    for threads, cells in in_processes(training, FIRST):
        if threads not in plain:
            continue
        found = train(training, level, tmp_path, threads, cells)
        for cell in cells:
            assert found[cell] == plain[threads][cell], cell
