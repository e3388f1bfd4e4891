"""What each way of training guarantees holds where two of them come together.

Groups of steps meet data that end amid them, or never, and random numbers; loops written by hand
meet moving averages; models hold what tf.keras takes for weights and is none.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.stacks import flavours
from support.ways import (
    AFTER_GRAPHS,
    RATE,
    TF2,
    TF_KERAS,
    WEIGHTS,
    Ways,
    assert_true,
    close,
    one_step,
    only,
    problem,
)

NAMES = (
    "groups_beyond_the_epoch",
    "groups_beyond_the_data",
    "train_on_batch_of_a_grouped_model",
    "groups_with_dropout",
    "groups_with_draws_of_their_own",
    "eager_loop_with_moving_averages",
    "frozen_amid_a_fit",
    "metric_in_an_attribute",
    "looked_up_words",
)


@pytest.fixture(scope="module", params=flavours(*AFTER_GRAPHS))
def ways(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("more_ways.py", request.param, folder, *NAMES)


def fed(count):
    """The batches of the programs: 8, 8, and 6 rows, over and over."""
    x, y = problem()
    starts = [number % 3 * 8 for number in range(count)]
    return [(x[start : start + 8], y[start : start + 8]) for start in starts]


def assert_steps(run, expected):
    """Each step has the batch it was fed, and its gradients are those of this batch."""
    assert run.steps == len(expected)
    for step, (x, y) in enumerate(expected):
        assert np.array_equal(run.read(run.tensor("input", "input/0"), step), x)
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        for name, slope in zip(WEIGHTS, one_step(weights, x, y).gradients, strict=True):
            close(run.read(run.tensor("gradient", name), step), slope)


# --- several steps an execution


@only(*TF2, "keras3-jax")
@pytest.mark.way(
    "`steps_per_execution` that does not divide the steps or the data",
    "recorded, every step",
    *TF2,
    "keras3-jax",
)
def test_groups_that_reach_beyond_the_epoch_train_as_many_steps_as_without_the_recorder(ways):
    # Given endless data, five steps an epoch in executions of three, with Adam, which counts
    way = ways["groups_beyond_the_epoch"]
    plain, recorded = way.facts["counted"]
    # Then the framework's own number of steps is trained, ten or, in whole groups, twelve
    assert plain == recorded
    assert recorded == (10 if ways.flavour in TF_KERAS else 12)
    assert way.facts["same_weights"]
    # and each of them is in the trace
    assert_steps(way.run, fed(recorded))


@only("keras3", "keras3-jax")
def test_groups_that_the_data_end_amid_train_no_step_more(ways):
    # Given five batches of which nobody knows the number, in executions of three, with Adam
    way = ways["groups_beyond_the_data"]
    # Then there are five steps, and the counter of the optimizer says so
    assert way.facts["counted"] == [5, 5]
    assert way.facts["same_weights"]
    assert_steps(way.run, fed(5))


@only("keras3")
def test_train_on_batch_trains_one_step_of_a_model_with_groups(ways):
    # Given a model compiled to run three steps an execution, when it is trained on three batches
    way = ways["train_on_batch_of_a_grouped_model"]
    # Then there are three steps
    assert way.facts["same_weights"]
    assert_steps(way.run, fed(3))


@only(*TF2)
def test_groups_of_random_layers_draw_the_same_or_it_is_said(ways):
    # Given dropout in executions of three: TensorFlow 2.3 has the step twice in its function
    way = ways["groups_with_dropout"]
    # Then what was drawn is what would have been, elsewhere; there it is said to be other numbers
    assert way.facts["same_weights"] == (ways.flavour != "tf2.3")
    assert said(way) == (ways.flavour == "tf2.3")


@only(*TF_KERAS)
def test_groups_that_draw_noise_of_their_own_draw_the_same_or_it_is_said(ways):
    # Given a train_step that adds noise without a seed of its own, in executions of three
    way = ways["groups_with_draws_of_their_own"]
    # Then it is as with random layers
    assert way.facts["same_weights"] == (ways.flavour != "tf2.3")
    assert said(way) == (ways.flavour == "tf2.3")


def said(way):
    """Whether the trace says that the recorder changed what was drawn, in both places."""
    event = "disturbs" in [event["kind"] for event in way.run.about["events"]]
    assert event == ("random numbers" in way.run.about["capture"]["disturbs"])
    return event


# --- eager steps


@only(*TF2, "keras3-torch")
@pytest.mark.way(
    "a layer frozen amid a `fit` that runs eagerly", "recorded, another run", *TF2, "keras3-torch"
)
def test_a_layer_frozen_amid_an_eager_fit_begins_another_run_with_all_of_its_state(ways):
    # Given a fit whose steps are run eagerly, and a callback that freezes a layer after an epoch
    way = ways["frozen_amid_a_fit"]
    assert way.facts["same_weights"]
    # Then each run says what it trained, and has its state from its first step on
    first, second = way.runs
    hidden = ("hidden/kernel", "hidden/bias")
    assert_true(way, first, steps=3)
    assert_true(way, second, steps=3, offset=3, frozen=hidden)
    assert [second.tensor("weight", name).trainable for name in hidden] == [False, False]
    for name in WEIGHTS:
        left = first.read(first.tensor("weight", name), 2, "after")
        assert np.array_equal(second.read(second.tensor("weight", name), 0), left)


# --- loops written by hand


@only(*TF2, "keras3-torch")
def test_the_forward_pass_of_an_eager_loop_belongs_to_its_step(ways):
    # Given a batch normalisation, whose averages move ahead of the update that is watched
    way = ways["eager_loop_with_moving_averages"]
    run = way.run
    assert way.facts["same_weights"]
    assert run.steps == 6
    names = [f"norm/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    for step in range(6):
        # Then the state before a step is that before its forward pass
        for place, name in enumerate([*names, "out/kernel", "out/bias"]):
            recorded = run.read(run.tensor("weight", name), step)
            assert np.array_equal(recorded, way.arrays[f"before/{step}/{place}"]), name
        mean = run.tensor("weight", "norm/moving_mean")
        x = run.read(run.tensor("input", "input/0"), step)
        # and the averages move in it
        moved = 0.75 * run.read(mean, step) + 0.25 * x.mean(axis=0)
        close(run.read(mean, step, "after"), moved)
        bias = run.tensor("weight", "out/bias")
        slope = run.read(run.tensor("gradient", "out/bias"), step)
        close(run.read(bias, step, "after"), run.read(bias, step) - RATE * slope)
    # and nothing else is said to have changed them
    assert run.external_changes() == ()


# --- what is no weight


@only(*AFTER_GRAPHS)
def test_a_metric_that_a_model_holds_is_none_of_its_weights(ways):
    # Given a metric in an attribute, which tf.keras takes for a layer, and two epochs
    way = ways["metric_in_an_attribute"]
    run = way.run
    assert_true(way)
    # Then its sums, which each epoch begins anew, are neither weights nor changes from outside
    assert [tensor.name for tensor in run.tensors if tensor.role == "weight"] == list(WEIGHTS)
    assert run.external_changes() == ()
    assert way.facts["same_weights"]


@only(*TF2)
def test_words_and_their_table_are_said_to_be_left_out(ways):
    # Given words that a lookup turns into numbers
    way = ways["looked_up_words"]
    run = way.run
    assert way.facts["same_weights"]
    assert (run.status, run.steps) == ("complete", 4)
    # Then labels and weights are recorded, and that words are not is said
    assert not [tensor for tensor in run.tensors if tensor.role == "input"]
    labels = problem(8)[1]
    for step in range(4):
        half = labels[step % 2 * 4 :][:4]
        assert np.array_equal(run.read(run.tensor("label", "label/0"), step), half)
    told = [e["message"] for e in run.about["events"] if e["kind"] == "not-recorded"]
    assert "a tensor of dtype string is not recorded" in told
    # and so is the table, where it counts as a weight
    tables = [message for message in told if "lookup tables" in message]
    assert len(tables) == (ways.flavour == "tf2.3")
