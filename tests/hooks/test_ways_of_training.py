"""Whatever way a model is trained in, the trace holds each step as it was.

`programs/ways.py` trains in every way, with a witness among the callbacks that notes the weights
around each step through the framework's own `get_weights`. Here its traces are held against the
data that were fed, against what the witness saw, and against the arithmetic of the model, written
down once more in numpy.
"""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from support.stacks import flavours
from support.ways import (
    AFTER_GRAPHS,
    ALL,
    GRAPH,
    RATE,
    TF2,
    TF_KERAS,
    WEIGHTS,
    Ways,
    assert_batches,
    assert_true,
    batches_of,
    close,
    one_step,
    only,
    values,
)

import tracediff


@pytest.fixture(scope="module", params=flavours(*ALL))
def ways(request, tmp_path_factory):
    return Ways("ways.py", request.param, tmp_path_factory.mktemp(request.param))


# --- feeding


@pytest.mark.way("`fit` with arrays, a partial last batch", "recorded", *ALL)
def test_arrays_with_a_partial_last_batch(ways):
    # Given 22 rows in batches of 8, unshuffled, when two epochs are trained
    way = ways["arrays"]
    # Then six steps hold just those rows, the last batch of an epoch six of them
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)
    # and each step knows its epoch and its batch, and the fit what the framework was asked for
    assert way.run.fit.tolist() == [0] * 6
    assert way.run.epoch.tolist() == [0, 0, 0, 1, 1, 1]
    assert way.run.batch.tolist() == [0, 1, 2, 0, 1, 2]
    assert way.run.about["fits"][0]["epochs"] == 2
    assert way.run.external_changes() == ()
    assert not [t for t in way.run.tensors if t.role == "sample_weight"]


def test_a_second_epoch_over_the_same_batches_stores_them_once(ways):
    # Given two unshuffled epochs of three batches
    way = ways["arrays"]
    # Then the store holds three of them
    shapes = zarr.open_group(way.trace, mode="r")["run-0/values/input/input/0/shape"]
    assert shapes.shape[0] == 3


@pytest.mark.way("`fit` with `shuffle=True`", "recorded", *ALL)
def test_a_shuffled_fit_records_the_batches_that_were_consumed(ways):
    # Given shuffled rows
    way = ways["shuffled"]
    x, y = way.arrays["x"], way.arrays["y"]
    orders = []
    for epoch in (0, 1):
        steps = [k for k in range(way.run.steps) if way.run.epoch[k] == epoch]
        rows = np.concatenate([way.run.read(way.run.tensor("input", "input/0"), k) for k in steps])
        labels = np.concatenate(
            [way.run.read(way.run.tensor("label", "label/0"), k) for k in steps]
        )
        places = [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in rows]
        # Then every epoch holds each row once, with its own label
        assert sorted(places) == list(range(len(x)))
        assert np.array_equal(labels, y[places])
        orders.append(places)
    assert orders[0] != list(range(len(x)))
    # and loss, gradient and update are those of these very batches
    assert_true(way)


@pytest.mark.way("`fit` with a generator", "recorded", *ALL)
def test_a_generator_with_batches_of_changing_size(ways):
    # Given a generator that yields 5, 8, 3 rows by turns, when two epochs of 3 steps are trained
    # Then each step holds what was yielded in its turn
    assert_yielded(ways["generator"])


@only(*GRAPH, *TF_KERAS)
@pytest.mark.way("`fit_generator`", "recorded", *GRAPH, *TF_KERAS)
def test_a_generator_through_fit_generator(ways):
    # Given the same generator, when it is passed to fit_generator, then it is recorded just so
    assert_yielded(ways["fit_generator"])


def assert_yielded(way):
    yielded = [
        (way.arrays[f"yielded/{step}/x"], way.arrays[f"yielded/{step}/y"]) for step in range(6)
    ]
    assert [len(x) for x, _ in yielded] == [5, 8, 3, 5, 8, 3]
    assert_batches(way.run, yielded)
    assert_true(way)
    assert way.run.epoch.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.way("`fit` with a `Sequence` or `PyDataset`", "recorded", *ALL)
def test_a_sequence(ways):
    # Given a keras.utils.Sequence, in Keras 3 a PyDataset
    way = ways["sequence"]
    # Then each step holds its item
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)


@only("tf1.15", *TF2)
@pytest.mark.way("`fit` with `tf.data`", "recorded", "tf1.15", *TF2)
def test_a_tf_data_dataset(ways):
    # Given a tf.data.Dataset
    way = ways["dataset"]
    # Then each step holds its element
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)


@pytest.mark.way("sample weights", "recorded", *ALL)
@pytest.mark.parametrize("name", ["sample_weight", "sample_weight_and_validation_without"])
def test_sample_weights_are_recorded_and_explain_the_loss(ways, name):
    # Given a weight for each sample, and without one a validation after each epoch or none
    way = ways[name]
    # Then each step holds those of its rows, and its loss and its gradients are the weighted ones
    expected = [w for (w,) in batches_of(way.arrays["weight"])]
    for recorded, fed in zip(values(way.run, "sample_weight", "sample_weight/0"), expected):
        assert np.array_equal(recorded.reshape(-1), fed)
    assert_true(way)


@pytest.mark.way("class weights", "recorded", *ALL)
def test_class_weights_arrive_as_a_weight_for_each_sample(ways):
    # Given class 1 weighing three times class 0
    way = ways["class_weight"]
    run = way.run
    # Then each sample of it weighs 3, each other one 1
    recorded = np.concatenate(
        [w.reshape(-1) for w in values(run, "sample_weight", "sample_weight/0")]
    )
    labels = np.concatenate(
        [y.reshape(-1) for _, y in batches_of(way.arrays["x"], way.arrays["y"])]
    )
    assert np.array_equal(recorded, np.where(labels == 1, 3, 1))
    assert_true(way)


@pytest.mark.parametrize("name", ["many_inputs_and_outputs", "dictionaries"])
@pytest.mark.way("several inputs and outputs, as lists or dictionaries", "recorded", *ALL)
def test_several_inputs_and_outputs_are_numbered_as_the_model_lists_them(ways, name):
    # Given two inputs and two outputs, fed as lists or as dictionaries in another order
    way = ways[name]
    run, fed = way.run, way.arrays
    assert (run.steps, run.status) == (6, "complete")
    # Then the numbers are those of the model's own lists
    for role, tensor, key in (
        ("input", "input/0", "left"),
        ("input", "input/1", "right"),
        ("label", "label/0", "of_both"),
        ("label", "label/1", "of_left"),
    ):
        for recorded, (expected,) in zip(values(run, role, tensor), batches_of(fed[key])):
            assert np.array_equal(recorded.reshape(expected.shape), expected), tensor
    # and the loss and the gradients are those of two linear regressions, the second weighing half
    for step, (left, right, of_both, of_left) in enumerate(
        batches_of(fed["left"], fed["right"], fed["of_both"], fed["of_left"])
    ):
        loss = 0.0
        for layer, share, x, y in (
            ("of_both", 1.0, np.concatenate([left, right], axis=1), of_both),
            ("of_left", 0.5, left, of_left),
        ):
            kernel, bias = (run.tensor("weight", f"{layer}/{w}") for w in ("kernel", "bias"))
            error = x @ run.read(kernel, step) + run.read(bias, step) - y
            loss += share * np.mean(error**2)
            for weight, slope in ((kernel, x.T @ error), (bias, error.sum(axis=0))):
                gradient = share * 2 * slope / error.size
                close(run.read(run.tensor("gradient", weight.name), step), gradient)
                update = run.read(weight, step, "after") - run.read(weight, step)
                close(update, -RATE * gradient)
        close(run.read(run.tensor("loss", "loss"), step), loss)


# --- what happens around the steps


@pytest.mark.way("validation, `evaluate` and `predict` in between", "no steps", *ALL)
def test_validation_evaluation_and_prediction_are_no_steps(ways):
    # Given validation data, and a callback that evaluates and predicts between the epochs
    way = ways["validated"]
    assert way.facts["evaluations"] == 2
    # Then only what was trained on is recorded, and nothing is called a change from outside
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)
    assert way.run.external_changes() == ()


@pytest.mark.way("two `fit`s with one callback", "recorded, one run", *ALL)
def test_a_second_fit_with_the_same_callback_continues_the_run(ways):
    # Given one epoch, the weights put back, and two more epochs, all with one callback
    way = ways["twice"]
    # Then the steps count on, each knows its fit, and each fit says where it began
    assert_true(way, steps=9)
    assert way.run.fit.tolist() == [0] * 3 + [1] * 6
    assert way.run.epoch.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert [fit["first_step"] for fit in way.run.about["fits"]] == [0, 3]
    assert [fit["epochs"] for fit in way.run.about["fits"]] == [1, 2]
    # and the weights that were put back are changes from outside before the second fit's first step
    assert [(c.step, c.tensor.name) for c in way.run.external_changes()] == [
        (3, name) for name in WEIGHTS
    ]


def test_a_callback_for_each_fit_makes_a_trace_of_each(ways):
    # Given two fits, each with a callback and a path of its own
    way = ways["two_callbacks"]
    # Then each trace holds its fit, and the first is not touched by the second
    assert_true(way, steps=3)
    second = tracediff.open_trace(ways.folder / "two_callbacks_second.zarr").runs[0]
    assert_true(way, second, steps=3, offset=3)
    assert way.facts["first_untouched"]


@pytest.mark.way("several models with one callback", "recorded, a run each", *ALL)
def test_models_trained_one_after_the_other_are_runs_of_one_trace(ways):
    # Given two models of the same make and then the first again, all with one callback
    way = ways["two_models"]
    # Then there are three runs with equal names in them, each of them true
    assert len(way.runs) == 3
    for number, run in enumerate(way.runs):
        assert_true(way, run, steps=3, offset=3 * number)
        assert run.path.endswith(f"run-{number}")


@pytest.mark.way("recompiled", "recorded, another run", *ALL)
def test_another_optimizer_begins_another_run(ways):
    # Given a model trained with SGD, then compiled with Adam and trained with the same callback
    way = ways["recompiled"]
    first, second = way.runs
    # Then each optimizer has its run
    assert_true(way, first, steps=3)
    assert (second.steps, second.status) == (3, "complete")
    assert first.about["optimizer"]["class"] == "SGD"
    assert second.about["optimizer"]["class"] == "Adam"
    assert second.find("slot", "hidden/kernel/v") is not None


def test_an_optimizer_of_the_same_class_begins_another_run_too(ways):
    # Given a model compiled anew with SGD at half the rate
    way = ways["recompiled_with_another_rate"]
    first, second = way.runs
    # Then each run tells its own optimizer's settings
    assert_true(way, first, steps=3)
    assert_true(way, second, steps=3, offset=3, rates=[RATE / 2] * 3)
    for run, rate in ((first, RATE), (second, RATE / 2)):
        config = run.about["optimizer"]["config"]
        assert config.get("learning_rate", config.get("lr")) == rate


@pytest.mark.way("a layer unfrozen in between", "recorded, another run", *ALL)
def test_a_layer_unfrozen_between_two_fits_begins_another_run(ways):
    # Given a layer that is frozen in the first fit and trained in the second
    way = ways["unfrozen"]
    first, second = way.runs
    # Then each run says what it trained
    assert_true(way, first, steps=3, frozen=("hidden/kernel", "hidden/bias"))
    assert_true(way, second, steps=3, offset=3)
    assert first.tensor("weight", "hidden/kernel").trainable is False
    assert second.tensor("weight", "hidden/kernel").trainable is True


@pytest.mark.way("weights set between steps", "recorded as external changes", *ALL)
def test_weights_changed_between_steps_are_told_apart_from_updates(ways):
    # Given a callback that sets one weight before step 2, another before step 4, and equal ones
    # before step 5
    way = ways["meddled_with"]
    # Then the state before and after every step is what the witness saw,
    assert_true(way)
    # and just the two changes are marked
    changes = [(c.step, c.tensor.name) for c in way.run.external_changes()]
    assert changes == [(2, "hidden/bias"), (4, "out/kernel")]
    bias = way.run.tensor("weight", "hidden/bias")
    close(way.run.read(bias, 2), way.run.read(bias, 1, "after") + 1)


@pytest.mark.parametrize("name", ["scheduled", "rate_changed_between_steps"])
@pytest.mark.way("a learning rate that changes", "recorded", *ALL)
def test_a_changing_learning_rate_is_recorded_for_each_step(ways, name):
    # Given a schedule by epoch, or a callback that halves the rate after each step
    way = ways[name]
    assert len(set(way.facts["rates"])) > 1
    # Then each step holds the rate at which it was made, and it explains the update
    assert_true(way, rates=way.facts["rates"])
    assert way.run.external_changes() == ()


@pytest.mark.way("frozen layers", "recorded", *ALL)
def test_a_frozen_layer_has_no_gradients_and_is_stored_once(ways):
    # Given a layer that is not trained
    way = ways["frozen"]
    frozen = ("hidden/kernel", "hidden/bias")
    # Then its weights are recorded, never change, and take the place of one value
    assert_true(way, frozen=frozen)
    stored = zarr.open_group(way.trace, mode="r")["run-0"]
    for name in frozen:
        tensor = way.run.tensor("weight", name)
        assert tensor.trainable is False
        assert stored[tensor.path].shape[0] == 1
        assert way.run.find("gradient", name) is None
        assert way.run.find("applied_gradient", name) is None
    assert way.run.tensor("weight", "out/kernel").trainable is True


# --- when the recorder comes late


def test_a_model_trained_before_the_callback_was_made(ways):
    # Given that the recorder was imported, but no callback made, when a model was trained
    way = ways["trained_before_the_callback"]
    # Then a later fit is recorded with its gradients
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"])[:3])
    assert_true(way, steps=3)
    assert [e for e in way.run.about["events"] if e["kind"] == "no-gradients"] == []


@pytest.mark.way(
    "a model trained before the recorder was imported",
    "recorded; said: no gradients",
    *GRAPH,
)
@pytest.mark.way("a model trained before the recorder was imported", "recorded", *AFTER_GRAPHS)
def test_a_model_trained_before_the_recorder_was_imported(ways):
    # Given a model trained before anybody imported the recorder
    way = ways["trained_before_the_import"]
    told = [e["message"] for e in way.run.about["events"] if e["kind"] == "no-gradients"]
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"])[:3])
    if ways.flavour not in GRAPH:
        # Then that makes no difference where the step is built anew for each fit,
        assert_true(way, steps=3)
        assert told == []
    else:
        # and where gradients are built but once, all else is recorded, and one event says so
        assert_true(way, steps=3, gradients=False)
        assert [t for t in way.run.tensors if "gradient" in t.role] == []
        assert len(told) == 1
        assert "tracediff-record" in told[0]


# --- models


@only(*AFTER_GRAPHS)
@pytest.mark.way("`run_eagerly=True`", "recorded", *AFTER_GRAPHS)
def test_a_model_run_eagerly(ways):
    # Given run_eagerly=True
    way = ways["eager"]
    # Then its steps are recorded like those of a compiled one
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)
    assert way.facts["left_behind"] == []


@only(*TF2, "keras3-jax")
@pytest.mark.way("`steps_per_execution`", "recorded, every step", *TF2, "keras3-jax")
def test_several_steps_per_execution(ways):
    # Given seven batches an epoch in executions of three
    way = ways["grouped"]
    run = way.run
    # Then every step is recorded, also those inside an execution and the last, short one,
    x, y = way.arrays["x"], way.arrays["y"]
    epoch = [(x[start : start + 8], y[start : start + 8]) for start in range(0, 52, 8)]
    assert_batches(run, epoch * 2)
    assert run.epoch.tolist() == [0] * 7 + [1] * 7
    for step in range(run.steps):
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        after = [run.read(run.tensor("weight", name), step, "after") for name in WEIGHTS]
        for recorded, expected in zip(after, one_step(weights, *(epoch * 2)[step]).after):
            close(recorded, expected)
    # and the run was not disturbed: same weights, same calls of other callbacks, same setting
    assert way.facts["same_weights"]
    assert way.facts["counted"] == [14, 14]
    assert way.facts["callbacks_recorded"] == way.facts["callbacks_plain"]
    assert way.facts["setting"] == 3


@only(*AFTER_GRAPHS)
@pytest.mark.way("custom `train_step`", "recorded", *TF2)
@pytest.mark.way("custom `train_step`", "recorded; said: no loss", "keras3-jax", "keras3-torch")
def test_a_model_with_a_train_step_of_its_own(ways):
    # Given a model class that overrides train_step and reports its own logs
    way = ways["custom_step"]
    # Then its steps are recorded, and the loss where it is what a tape differentiates; else it is
    # said that there is none
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way, loss=ways.flavour in TF2)
    unsaid = not [e for e in way.run.about["events"] if "loss of a custom" in e["message"]]
    assert unsaid == (ways.flavour in TF2)
    # and its logs reach the history as it made them
    assert way.facts["logs"] == ["own"]
    assert way.facts["left_behind"] == []
    own = values(way.run, "metric", "metric/own")
    weights = [way.run.read(way.run.tensor("weight", name), 0) for name in WEIGHTS]
    close(own[0], one_step(weights, way.arrays["x"][:8], way.arrays["y"][:8]).loss)


@pytest.mark.way("subclassed model, built by its first step", "recorded", *ALL)
def test_a_subclassed_model_that_is_built_by_its_first_step(ways):
    # Given a subclassed model that has no weights when fit is called
    way = ways["subclassed"]
    # Then its steps are recorded from the first, whose state before is that from which it started
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)
    assert way.facts["left_behind"] == []


@only("tf2.3", "keras3")
def test_a_subclassed_model_whose_build_was_called(ways):
    # Given a subclassed model that says it is built, though Keras 3 has made no layer's weights
    way = ways["subclassed_said_built"]
    # Then it trains, and is recorded from the first step
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)


def test_adam_keeps_its_moments_in_the_trace(ways):
    # Given Adam
    way = ways["adam"]
    run = way.run
    assert (run.steps, run.status) == (6, "complete")
    for step in range(6):
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        x = run.read(run.tensor("input", "input/0"), step)
        y = run.read(run.tensor("label", "label/0"), step)
        expected = one_step(weights, x, y)
        for name, gradient in zip(WEIGHTS, expected.gradients):
            # Then its slots follow from the gradients by its formula,
            close(run.read(run.tensor("gradient", name), step), gradient)
            for slot, share, moment in (("m", 0.1, gradient), ("v", 0.001, gradient**2)):
                tensor = run.tensor("slot", f"{name}/{slot}")
                before = run.read(tensor, step).astype(np.float64)
                np.testing.assert_allclose(
                    run.read(tensor, step, "after"), before + share * (moment - before),
                    rtol=1e-3, atol=1e-8,
                )  # fmt: skip
        # and the counter counts
        iteration = run.tensor("slot", "optimizer/iteration")
        assert int(run.read(iteration, step)) == step
        assert int(run.read(iteration, step, "after")) == step + 1


# --- afterwards


@pytest.mark.parametrize("name", ["arrays", "generator"])
def test_after_fit_the_model_is_as_it_was(ways, name):
    # Given a recorded fit, when it has ended, then nothing of the recorder is left on the model,
    # its optimizer or its train function
    assert ways[name].facts["left_behind"] == []


def test_a_later_fit_without_the_callback_is_not_recorded(ways):
    # Given a recorded fit, when the model is trained on without the callback
    facts = ways["arrays"].facts
    # Then it is trained, the trace stays as it was to the byte, and nothing is attached again
    assert facts["later_fit_trained"]
    assert facts["untouched_by_a_later_fit"]
    assert facts["left_behind_later"] == []


@pytest.mark.way("checkpoints during `fit`", "recorded", *ALL)
def test_models_are_saved_during_and_after_a_recorded_fit(ways):
    # Given ModelCheckpoint during the fit and model.save after it, when what they saved is loaded
    way = ways["saved"]
    # Then it has the model's weights, and the fit was recorded
    assert way.facts["equal"]
    assert all(way.facts["equal"].values()), way.facts["equal"]
    assert_true(way)
