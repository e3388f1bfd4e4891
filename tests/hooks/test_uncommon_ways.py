"""Ways that few scripts take are recorded as the common ones, or it is said what is not.

Methods that a script has put on its model, steps with logs and optimizers of their own, what
happens amid a fit. `programs/uncommon_ways.py` trains each once without the recorder and once with
it.
"""

from __future__ import annotations

import pytest
from support.stacks import flavours
from support.ways import (
    ALL,
    GRAPH,
    RATE,
    TF2,
    WEIGHTS,
    Ways,
    assert_batches,
    assert_true,
    batches_of,
    close,
    one_step,
    only,
    problem,
    values,
)

STEPS = 6


@pytest.fixture(scope="module", params=flavours(*ALL))
def ways(request, tmp_path_factory):
    return Ways("uncommon_ways.py", request.param, tmp_path_factory.mktemp(request.param))


def events(run, kind):
    return [event["message"] for event in run.about["events"] if event["kind"] == kind]


def assert_undisturbed(way):
    assert way.facts["same_weights"]
    assert way.facts["left_behind"] == []


def assert_recorded(way, **options):
    """Every step is there and true, and the training was not disturbed."""
    assert_undisturbed(way)
    assert_batches(way.run, batches_of(*problem()))
    assert_true(way, **options)


def gradients_follow(run, share=1.0):
    """Whether each step's gradients are those of the data that were fed, times a factor."""
    for step, (x, y) in enumerate(batches_of(*problem())):
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        for name, slope in zip(WEIGHTS, one_step(weights, x, y).gradients, strict=True):
            for role in ("gradient", "applied_gradient"):
                close(run.read(run.tensor(role, name), step), share * slope)


@only(*TF2)
@pytest.mark.way("a `train_step` that a script has put on its model", "recorded", *TF2)
def test_a_step_put_on_the_model_is_recorded_and_stays_there(ways):
    # Given a model on which the script has put a step of its own, recorded for one fit of two
    way = ways["step_put_on_the_model"]
    # Then the second fit trains by that step, too
    assert way.facts["kept"] == [True, True]
    assert way.facts["same_weights"]
    assert way.run.steps == STEPS
    gradients_follow(way.run, share=3.0)


@only(*TF2)
@pytest.mark.way("a `make_train_function` of the model's own", "recorded", *TF2)
def test_a_train_function_of_the_models_own(ways):
    # Given a class whose make_train_function takes no arguments
    way = ways["train_function_of_its_own"]
    assert way.facts["made"] == 2
    assert_recorded(way)


@only(*TF2)
@pytest.mark.way("custom `train_step` that trains some weights only", "recorded", *TF2)
def test_a_step_that_trains_some_weights_only(ways):
    # Given a step that gives the optimizer the weights of the last layer
    way = ways["head_alone"]
    assert_undisturbed(way)
    # Then the optimizer has made as many variables as without the recorder
    plain, recorded = way.facts["counts"]
    assert plain == recorded
    # and slots of those weights, from before the first step on, and of no others
    slots = {t.name for t in way.run.tensors if t.role == "slot" and t.layer is not None}
    assert slots == {f"out/{weight}/{slot}" for weight in ("kernel", "bias") for slot in "mv"}
    assert not way.run.read(way.run.tensor("slot", "out/kernel/m"), 0).any()
    assert {t.name for t in way.run.tensors if t.role == "gradient"} == {"out/kernel", "out/bias"}


@only("keras3")
@pytest.mark.way("custom `train_step` with logs that have no names", "said: not recorded", "keras3")
def test_logs_without_names_are_said(ways):
    # Given a step whose logs are numbered, which cannot be carried beside named ones
    way = ways["logs_by_number"]
    # Then training is what it was, and no trace is begun
    assert_undisturbed(way)
    assert not way.trace.exists()


@only(*TF2)
def test_logs_in_dictionaries_are_metrics(ways):
    way = ways["logs_in_dictionaries"]
    assert_undisturbed(way)
    own, twice = (values(way.run, "metric", f"metric/{name}") for name in ("own", "twice"))
    assert [2 * value for value in own] == twice


@only(*TF2)
@pytest.mark.way(
    "an optimizer that is none of Keras's", "recorded; said: no slots, no learning rate", *TF2
)
def test_an_optimizer_of_the_script(ways):
    # Given a step that updates by something that merely has `apply_gradients`
    way = ways["optimizer_of_the_script"]
    assert_undisturbed(way)
    # Then gradients are recorded, and what is not is said
    gradients_follow(way.run)
    assert any("_Around, which is no optimizer" in m for m in events(way.run, "not-recorded"))
    assert not [t for t in way.run.tensors if t.role in ("slot", "learning_rate")]


@only("tf2.3")
def test_an_optimizer_of_tensorflow_1(ways):
    way = ways["optimizer_of_tensorflow_1"]
    assert_undisturbed(way)
    gradients_follow(way.run)
    assert any("TFOptimizer" in message for message in events(way.run, "not-recorded"))


@only("tf2.3")
def test_an_optimizer_without_a_learning_rate(ways):
    # Given an optimizer whose one hyperparameter is called otherwise
    way = ways["optimizer_without_a_rate"]
    assert_undisturbed(way)
    gradients_follow(way.run)
    assert any("Descent has no learning rate" in m for m in events(way.run, "not-recorded"))


@pytest.mark.way("`evaluate` and `predict` that are given the callback", "no steps", *ALL)
def test_evaluations_that_are_given_the_callback(ways):
    # Given evaluations around one fit that has the callback, and another fit that has not
    way = ways["evaluated_with_the_callback"]
    assert_undisturbed(way)
    # Then nothing stays on the model between them, and the one fit alone is recorded
    assert way.facts["attached"] == [False] * 4
    assert way.run.steps == STEPS
    assert way.run.status == "complete"
    assert_batches(way.run, batches_of(*problem()))


@only(*GRAPH, *TF2)
@pytest.mark.way("`train_on_batch` from a callback amid a `fit`", "recorded", *GRAPH, *TF2)
def test_a_batch_trained_amid_a_fit(ways):
    # Given a callback that trains a batch of its own between two epochs
    way = ways["batch_amid_a_fit"]
    assert_undisturbed(way)
    # Then it is a step between theirs
    x, y = problem()
    steps = batches_of(x, y)
    steps.insert(3, (x[:4], y[:4]))
    assert way.run.steps == len(steps)
    for step, (rows, labels) in enumerate(steps):
        assert (way.run.read(way.run.tensor("input", "input/0"), step) == rows).all()
        weights = [way.run.read(way.run.tensor("weight", name), step) for name in WEIGHTS]
        for name, slope in zip(WEIGHTS, one_step(weights, rows, labels).gradients, strict=True):
            close(way.run.read(way.run.tensor("gradient", name), step), slope)
    assert way.run.external_changes() == ()


@only(*TF2)
def test_batches_of_a_size_that_was_not_recorded_before(ways):
    # Given a model with dropout, and a size of batches that it meets in a fit without the recorder
    way = ways["sizes_of_batches"]
    assert way.facts["same_weights"]
    # Then a later fit with batches of that size is recorded as the first
    x, _ = problem()
    rows = [x[start : start + size] for size in (8, 5) for start in range(0, 22, size)]
    assert way.run.steps == len(rows)
    for step, expected in enumerate(rows):
        assert (way.run.read(way.run.tensor("input", "input/0"), step) == expected).all()
    assert {t.role for t in way.run.tensors} >= {"gradient", "loss"}


@only("tf2.3", "keras3")
@pytest.mark.way("a learning rate that is a function", "recorded", "tf2.3", "keras3")
def test_a_rate_by_function_is_what_the_compiled_step_took(ways):
    # Given a function that gives half the rate after an epoch, when a compiled step asks no more
    way = ways["rate_by_function"]
    # Then the rate is that which the step was compiled with
    assert_recorded(way, rates=[0.25] * STEPS)
    # and the function was called as often as without the recorder, or for another trace of it
    plain, recorded = way.facts["calls"]
    assert recorded <= plain


@only("tf2.3", "keras3")
def test_a_rate_by_function_is_asked_by_each_eager_step(ways):
    way = ways["rate_by_function_eagerly"]
    assert_recorded(way, rates=[0.25] * 3 + [0.125] * 3)
    plain, recorded = way.facts["calls"]
    assert plain == recorded


@only(*GRAPH, *TF2)
def test_a_batch_trained_after_an_interruption_is_no_step_of_the_fit(ways):
    # Given a fit that Ctrl-C ended in its second batch, and a batch that the script trains later
    way = ways["batch_after_an_interruption"]
    assert_undisturbed(way)
    assert (way.run.steps, way.run.status) == (2, "interrupted")


# --- graphs


@only(*GRAPH)
@pytest.mark.way("an optimizer that several models share", "recorded", *GRAPH)
def test_an_optimizer_that_was_used_for_another_model_since(ways):
    # Given two models with one optimizer, both trained before the first of them is recorded
    way = ways["optimizer_of_two_models"]
    assert_undisturbed(way)
    gradients_follow(way.run)
    # Then its slots are those that its updates use, and not those of the other
    for name in WEIGHTS:
        slot, weight = way.run.tensor("slot", f"{name}/momentum"), way.run.tensor("weight", name)
        gradient = way.run.tensor("gradient", name)
        for step in range(STEPS):
            momentum = 0.5 * way.run.read(slot, step) - RATE * way.run.read(gradient, step)
            close(way.run.read(slot, step, "after"), momentum)
            close(way.run.read(weight, step, "after"), way.run.read(weight, step) + momentum)


@only(*GRAPH)
@pytest.mark.way("inputs and labels that are tensors of the graph", "recorded", *GRAPH)
def test_inputs_and_labels_that_are_tensors_of_the_graph(ways):
    way = ways["data_in_the_graph"]
    assert_undisturbed(way)
    assert_batches(way.run, [problem()] * STEPS)
    assert_true(way, witnessed=False)


@only("keras2.3")
def test_an_optimizer_of_tensorflow_1_in_a_wrapper_of_keras(ways):
    way = ways["wrapped_optimizer_of_tensorflow_1"]
    assert_recorded(way, witnessed=False)


@only(*GRAPH, *TF2)
@pytest.mark.way("a layer frozen between two `fit`s, and not compiled", "recorded", *GRAPH, *TF2)
def test_a_layer_frozen_between_fits_is_trained_until_the_model_is_compiled(ways):
    # Given a layer that is frozen after the first fit, of which the framework takes no notice
    way = ways["frozen_without_compile"]
    assert_undisturbed(way)
    assert way.facts["moved"] == [True, True]
    # Then the run goes on, and says that the layer is trained
    assert_batches(way.run, batches_of(*problem()) * 2)
    assert_true(way, steps=2 * STEPS, witnessed=False)
    assert way.run.tensor("weight", "hidden/kernel").trainable
