"""The less common ways of training: blocks, hand-written loops, several optimizers, layer outputs.

`programs/more_ways.py` trains in each way without the recorder and with it. That both end with the
same bits is asserted for every way at once; here each trace is held against the data that were fed
and the arithmetic of the model, written down once more in numpy.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.layer_outputs import CALLS, LAYERS, assert_hidden, assert_outputs
from support.stacks import flavours
from support.ways import (
    AFTER_GRAPHS,
    ALL,
    KERAS3,
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
    problem,
    values,
)

import tracediff

LONG = ("jit_compiled",)
"""A way that takes as long as all others together, in a process of its own."""
EAGER = ("tf2.3", "tf2.15", "tf-keras", "keras3", "keras3-torch")
AVERAGING = ("tf2.15", "tf-keras", "keras3", "keras3-jax", "keras3-torch")
CONDITIONAL = ("keras3", "keras3-jax")
"""Where a scaled gradient is applied inside a conditional, from which nothing leaves."""
COMPILED = ("tf2.15", "tf-keras", "keras3", "keras3-jax")


@pytest.fixture(scope="module", params=flavours(*ALL))
def ways(request, tmp_path_factory):
    names = [name for name in NAMES[request.param] if name not in LONG]
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("more_ways.py", request.param, folder, *names)


@pytest.fixture(scope="module", params=flavours(*COMPILED))
def compiled(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("more_ways.py", request.param, folder, "jit_compiled")["jit_compiled"]


COMMON = (
    "train_on_batch", "train_on_batch_with_weights", "fits_in_a_block",
    "block_left_by_an_exception", "outputs_of_all_layers", "outputs_as_digests",
    "outputs_by_pattern", "outputs_by_name", "outputs_of_train_on_batch", "copied_and_pickled",
    "loaded_model_trains_on", "interrupted",
)  # fmt: skip
LOOPS = (
    "eager_loop", "eager_loop_that_tells_nothing", "compiled_loop", "compiled_loop_unseen",
    "outputs_in_an_eager_loop", "several_optimizers", "loss_scaling_that_overflows",
    "mixed_precision",
)  # fmt: skip
SCALED = ("loss_scaling_that_overflows", "mixed_precision")
AVERAGED = ("gradient_accumulation", "moving_average_of_weights")
NAMES = {
    "keras2.3": COMMON,
    "tf1.15": COMMON,
    "tf2.3": COMMON + LOOPS,
    "tf2.15": (*COMMON, *LOOPS, "moving_average_of_weights"),
    "tf-keras": (*COMMON, *LOOPS, "moving_average_of_weights"),
    "keras3": COMMON + LOOPS + AVERAGED,
    "keras3-jax": (*COMMON, *SCALED, *AVERAGED, "compiled_loop_unseen"),
    "keras3-torch": (
        *COMMON, *SCALED, *AVERAGED, "eager_loop", "eager_loop_that_tells_nothing",
        "outputs_in_an_eager_loop", "several_optimizers",
    ),
}  # fmt: skip


def events(run, kind):
    return [event for event in run.about["events"] if event["kind"] == kind]


def test_every_way_ends_with_the_same_bits_as_without_the_recorder(ways):
    # Given each way trained twice from one beginning, then both end with the same weights,
    apart = {}
    for name in NAMES[ways.flavour]:
        facts = ways[name].facts if name not in LONG else {}
        if not facts.get("same_weights", True):
            apart[name] = facts["apart"]
        # and nothing of the recorder is left on the model
        assert facts.get("left_behind", []) == [], name
    assert apart == {}


# --- blocks


@pytest.mark.way("`train_on_batch` in a `record` block", "recorded", *ALL)
def test_train_on_batch_in_a_block(ways):
    # Given a loop of train_on_batch in a block
    way = ways["train_on_batch"]
    # Then each call is a step, true to the batch and to the arithmetic,
    assert_batches(way.run, batches_of(*problem()))
    assert_true(way, witnessed=False)
    assert_ends(way)
    # and after the block the model trains on unrecorded
    assert way.facts["later_step_trained"]
    assert way.facts["left_behind_later"] == []


def assert_ends(way):
    """The last recorded state is what the model ended with."""
    for place, name in enumerate(WEIGHTS):
        last = way.run.read(way.run.tensor("weight", name), way.run.steps - 1, "after")
        assert np.array_equal(last, way.arrays[f"final/{place}"]), name


def test_evaluations_in_a_block_are_no_steps(ways):
    # Given train_on_batch with sample weights, and evaluations in between
    way = ways["train_on_batch_with_weights"]
    # Then only what was trained on is recorded, with its weights
    assert_batches(way.run, batches_of(*problem()))
    assert_true(way, witnessed=False)
    fed = [weight for (weight,) in batches_of(way.arrays["weight"])]
    for recorded, expected in zip(
        values(way.run, "sample_weight", "sample_weight/0"), fed, strict=True
    ):
        assert np.array_equal(recorded.reshape(-1), expected)
    assert way.run.external_changes() == ()


@pytest.mark.way("several `fit`s in a `record` block", "recorded", *ALL)
def test_fits_in_a_block(ways):
    # Given two fits in one block, then they are one run
    way = ways["fits_in_a_block"]
    assert_batches(way.run, batches_of(*problem()))
    assert_true(way, witnessed=False)
    assert_ends(way)


def test_a_block_left_by_an_exception_is_marked_interrupted(ways):
    # Given Ctrl-C after two steps of a block, then the exception passes unchanged
    way = ways["block_left_by_an_exception"]
    assert way.facts["same_error"]
    assert (way.run.steps, way.run.status) == (2, "interrupted")


@only(*EAGER)
@pytest.mark.way("hand-written eager loop in a `record` block", "recorded", *EAGER)
def test_an_eager_loop_written_by_hand(ways):
    # Given a loop of GradientTape and apply_gradients that tells its labels and its loss
    way = ways["eager_loop"]
    # Then its updates are the steps, and its input is what the model was called with on the tape
    assert_batches(way.run, batches_of(*problem()))
    assert_true(way, witnessed=False)
    assert_ends(way)
    assert way.run.about["events"] == []


@only(*EAGER)
def test_an_eager_loop_that_tells_nothing_is_recorded_without_labels_and_loss(ways):
    # Given such a loop that knows nothing of the recording, with Adam
    run = ways["eager_loop_that_tells_nothing"].run
    x, y = problem()
    for step, (fed, label) in enumerate(batches_of(x, y)):
        # Then input, gradients and slots are there
        assert np.array_equal(run.read(run.tensor("input", "input/0"), step), fed)
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        expected = one_step(weights, fed, label)
        for name, gradient in zip(WEIGHTS, expected.gradients, strict=True):
            close(run.read(run.tensor("gradient", name), step), gradient)
            m = run.tensor("slot", f"{name}/m")
            moved = run.read(m, step) + 0.1 * (gradient - run.read(m, step))
            np.testing.assert_allclose(run.read(m, step, "after"), moved, rtol=1e-3, atol=1e-7)
    # and what only the loop knows is not
    assert not [t for t in run.tensors if t.role in ("label", "loss")]


@only(*TF2)
@pytest.mark.way("loop compiled by the script, through `recording.step`", "recorded", *TF2)
def test_a_compiled_step_called_through_the_recording(ways):
    # Given a step that the script has compiled with tf.function, called through the recording
    way = ways["compiled_loop"]
    # Then it is recorded like the framework's own
    assert_batches(way.run, batches_of(*problem()))
    assert_true(way, witnessed=False)
    assert_ends(way)


@only(*TF2, "keras3-jax")
@pytest.mark.way("loop compiled by the script, called directly", "said: not recorded", *TF2)
@pytest.mark.way("pure loop of JAX in a `record` block", "said: not recorded", "keras3-jax")
def test_a_compiled_step_called_directly_is_said_to_be_lost(ways):
    # Given the same step called directly, which runs no Python that could be watched
    facts = ways["compiled_loop_unseen"].facts
    # Then nothing is recorded, and one line says what to do, another what became of the trace
    assert not facts["written"]
    lost, nothing = facts["said"]
    asked = "fit or train_on_batch" if ways.flavour == "keras3-jax" else "recording.step(train_step"
    assert asked in lost
    assert "nothing was recorded to" in nothing


# --- optimizers


@only(*EAGER)
@pytest.mark.way("custom `train_step` with several optimizers", "recorded", *EAGER)
def test_several_optimizers_each_have_their_slots_and_rate(ways):
    # Given two linear regressions with an optimizer each: SGD, and SGD with momentum
    way = ways["several_optimizers"]
    run = way.run
    assert run.steps == 6
    batches = batches_of(way.arrays["x"], way.arrays["y"])
    for step, (x, y) in enumerate(batches):
        for layer, rate, share in (("left", 0.25, 0.0), ("right", 0.125, 0.5)):
            recorded = run.read(
                run.tensor("learning_rate", f"{layer}_optimizer/learning_rate"), step
            )
            assert recorded == rate
            kernel, bias = (run.tensor("weight", f"{layer}/{name}") for name in ("kernel", "bias"))
            error = x @ run.read(kernel, step) + run.read(bias, step) - y
            for weight, slope in ((kernel, x.T @ error), (bias, error.sum(axis=0))):
                # Then each gradient is that of its own loss, and each update its own optimizer's
                gradient = 2 * slope / error.size
                close(run.read(run.tensor("gradient", weight.name), step), gradient)
                move = -rate * gradient
                if share:
                    slot = run.tensor("slot", f"{weight.name}/momentum")
                    move = share * run.read(slot, step) + move
                    close(run.read(slot, step, "after"), move)
                close(run.read(weight, step, "after") - run.read(weight, step), move)
    assert set(run.about["optimizers"]) == {"left_optimizer", "right_optimizer"}
    names = {tensor.name for tensor in run.tensors}
    assert "optimizer/learning_rate" not in names  # the one compiled by default updates nothing


@only(*KERAS3)
@pytest.mark.way("gradient accumulation", "recorded; steps without an update are said", *KERAS3)
def test_accumulated_gradients(ways):
    # Given an update every third step
    way = ways["gradient_accumulation"]
    run = way.run
    total = [np.zeros_like(way.arrays[f"final/{place}"]) for place in range(4)]
    for step, (x, y) in enumerate(batches_of(way.arrays["x"], way.arrays["y"])):
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        expected = one_step(weights, x, y)
        for place, name in enumerate(WEIGHTS):
            # Then the raw gradient is that of the step,
            close(run.read(run.tensor("gradient", name), step), expected.gradients[place])
            total[place] = total[place] + expected.gradients[place]
            move = run.read(run.tensor("weight", name), step, "after") - weights[place]
            # the weights move by the mean of three
            if step % 3 == 2:
                close(move, -RATE * total[place] / 3)
                total[place] = total[place] * 0
            else:
                assert not move.any()
    # and the steps that move nothing are said
    assert [event["step"] for event in events(run, "no-update")] == [0, 1, 3, 4]


@only(*AVERAGING)
@pytest.mark.way("moving average of the weights (`use_ema`)", "recorded", *AVERAGING)
def test_weights_overwritten_by_their_moving_average(ways):
    # Given a moving average of share 0.5 that takes the weights' place every second step
    way = ways["moving_average_of_weights"]
    run = way.run
    assert run.external_changes() == ()
    for name in WEIGHTS:
        weight, gradient = run.tensor("weight", name), run.tensor("applied_gradient", name)
        mean = next(t for t in run.tensors if t.role == "slot" and t.name.startswith(name + "/"))
        for step in range(6):
            moved = run.read(weight, step) - RATE * run.read(gradient, step)
            expected = 0.5 * run.read(mean, step) + 0.5 * moved if step else None
            after = run.read(weight, step, "after")
            if step % 2 == 1:
                # Then the average follows from what was updated, and is what the weight becomes
                close(run.read(mean, step, "after"), expected)
                assert np.array_equal(after, run.read(mean, step, "after"))
            else:
                close(after, moved)


@only(*AFTER_GRAPHS)
@pytest.mark.way("loss scaling", "recorded; skipped steps are said", *TF_KERAS, "keras3-torch")
@pytest.mark.way(
    "loss scaling", "recorded; skipped steps are said; no applied gradients", *CONDITIONAL
)
def test_steps_skipped_by_loss_scaling_are_said(ways):
    # Given a loss scale that overflows at first
    way = ways["loss_scaling_that_overflows"]
    run = way.run
    skipped = {event["step"] for event in events(run, "no-update")}
    assert 0 < len(skipped) < 6
    # tf.keras 2.15 and tf_keras take the scale off before the optimizer is given the gradients
    unscaled = ways.flavour in ("tf2.15", "tf-keras")
    assert len(events(run, "scaled-gradients")) == (0 if unscaled else 1)
    for step, (x, y) in enumerate(batches_of(way.arrays["x"], way.arrays["y"])):
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        expected = one_step(weights, x, y)
        finite = True
        for place, name in enumerate(WEIGHTS):
            gradient = run.read(run.tensor("gradient", name), step)
            finite &= bool(np.isfinite(gradient).all())
            if unscaled and step not in skipped:
                close(gradient, expected.gradients[place])
            after = run.read(run.tensor("weight", name), step, "after")
            # Then a step whose gradients are not finite moves nothing, and any other does
            if step in skipped:
                assert np.array_equal(after, weights[place])
            else:
                close(after, expected.after[place])
            applied = run.find("applied_gradient", name)
            # What Keras 3 applies is computed inside a conditional, from which nothing leaves
            assert (applied is None) == (ways.flavour in CONDITIONAL)
            if applied is not None and step not in skipped:
                close(run.read(applied, step), expected.gradients[place])
        assert finite == (step not in skipped)


@only(*AFTER_GRAPHS)
@pytest.mark.way("mixed precision", "recorded", *TF_KERAS, "keras3-torch")
@pytest.mark.way("mixed precision", "recorded; no applied gradients", *CONDITIONAL)
def test_mixed_precision_records_every_state(ways):
    # Given a model in half precision, whose weights are kept in single precision
    way = ways["mixed_precision"]
    run = way.run
    assert way.facts["computes_in"] == "float16"
    assert run.steps == 6
    assert_ends(way)
    for step, (x, y) in enumerate(batches_of(way.arrays["x"], way.arrays["y"])):
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        for place, after in enumerate(one_step(weights, x, y).after):
            recorded = run.read(run.tensor("weight", WEIGHTS[place]), step, "after")
            # Then states follow from each other as far as half precision goes
            np.testing.assert_allclose(recorded, after, rtol=0.02, atol=0.02)
            assert recorded.dtype == np.float32


@pytest.mark.exhaustive
@pytest.mark.way("`jit_compile=True`", "recorded", *COMPILED)
def test_a_step_compiled_by_xla(compiled):
    # Given jit_compile=True
    way = compiled
    # Then the steps are recorded, and the weights are those of a plain run to rounding
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)
    assert way.facts["apart"] <= 1e-6


# --- layer outputs


@pytest.mark.way("layer outputs of nested models and of layers called twice", "recorded", *ALL)
def test_outputs_of_all_layers_in_execution_order(ways):
    # Given a model inside a model that is called twice, and a layer that is called twice
    run = ways["outputs_of_all_layers"].run
    # Then each call's output is there in order, and is what the weights make of the batch
    assert_outputs(run, CALLS)
    assert [t.layer for t in run.tensors if t.role == "activation"] == [
        call.partition("/call_")[0] for call in CALLS
    ]
    for step in range(6):
        second = run.read(run.tensor("activation", "inner/second/call_1"), step)
        dropped = run.read(run.tensor("activation", "drop"), step)
        # what a dropout lets through it makes larger
        assert ((dropped == 0) | np.isclose(dropped, second / 0.75, rtol=1e-5)).all()
        out = dropped @ run.read(run.tensor("weight", "out/kernel"), step)
        out = out + run.read(run.tensor("weight", "out/bias"), step)
        close(run.read(run.tensor("activation", "out"), step), out)
        # and the loss is that of the last output
        label = run.read(run.tensor("label", "label/0"), step)
        close(run.read(run.tensor("loss", "loss"), step), np.mean((out - label) ** 2))
    assert len({t.name for t in run.tensors if t.layer == "drop"}) == 1


def test_the_recorded_graph_leads_through_nested_models(ways):
    # Given the same model
    described = ways["outputs_of_all_layers"].run.about["model"]["layers"]
    inputs = {layer["name"]: layer["inputs"] for layer in described}
    # Then what reads from the inner model reads from its last layer,
    assert inputs["drop"] == ["inner/second"]
    assert set(inputs["shared"]) == {"inner/second", "shared"}
    # the inner model's first layers read what it is called with, in its first call and its second,
    first = inputs["inner/first"] + inputs["inner/input_layer"]
    assert {"inner/input_layer", "input_layer", "shared"} <= set(first)
    # and no layer is without a source but the input
    assert [name for name, sources in inputs.items() if not sources] == ["input_layer"]


def test_outputs_kept_as_digests(ways):
    # Given the same with level digest
    full, digest = ways["outputs_of_all_layers"].run, ways["outputs_as_digests"].run
    # Then no value is kept, and each digest is that of the value
    for name in CALLS:
        tensor = digest.tensor("activation", name)
        assert not digest.kept(tensor).any()
        assert np.array_equal(digest.digests(tensor), full.digests(full.tensor("activation", name)))


def test_outputs_chosen_by_a_pattern(ways):
    # Given a regular expression
    run = ways["outputs_by_pattern"].run
    # Then just the layers in whose name it is found are there
    assert_outputs(run, ["inner/second", "inner/second/call_1"])


def test_outputs_chosen_by_name(ways):
    # Given names, one of them of no layer
    run = ways["outputs_by_name"].run
    # Then the named layer is there, and the other is said to be missing, with those there are
    assert_outputs(run, ["out"])
    (missing,) = events(run, "not-recorded")
    assert "'nowhere'" in missing["message"]
    assert all(name in missing["message"] for name in LAYERS)


def test_outputs_of_train_on_batch(ways):
    # Given train_on_batch in a block, one layer named
    run = ways["outputs_of_train_on_batch"].run
    assert_hidden(run)
    assert [t.name for t in run.tensors if t.role == "activation"] == ["hidden"]


@only(*EAGER)
def test_outputs_in_an_eager_loop(ways):
    # Given a hand-written loop
    run = ways["outputs_in_an_eager_loop"].run
    # Then outputs are those of the call on the tape, and not of the evaluation before it
    assert_hidden(run)
    assert [t.name for t in run.tensors if t.role == "activation"] == ["hidden", "out"]


# --- what scripts do around the steps


@pytest.mark.way("`copy.deepcopy` and pickle of the model during `fit`", "recorded", *ALL)
def test_copies_during_a_fit(ways):
    # Given copies made while the model is recorded
    way = ways["copied_and_pickled"]
    # Then they succeed or fail as without the recorder, have the weights, and train on their own
    assert way.facts["copies_recorded"] == way.facts["copies_plain"]
    assert_batches(way.run, batches_of(way.arrays["x"], way.arrays["y"]))
    assert_true(way)


@pytest.mark.way("a loaded model that trains on", "recorded", *ALL)
def test_a_loaded_model_trains_on(ways):
    # Given a model trained for three steps, saved and loaded
    run = ways["loaded_model_trains_on"].run
    # Then the steps are counted from 0, and the optimizer's counter goes on
    assert run.steps == 6
    iteration = run.tensor("slot", "optimizer/iteration")
    assert [int(run.read(iteration, step)) for step in range(6)] == [3, 4, 5, 6, 7, 8]


@pytest.mark.way("an exception or Ctrl-C in the middle", "recorded until then", *ALL)
def test_a_fit_interrupted_by_the_user(ways):
    # Given Ctrl-C after four steps
    way = ways["interrupted"]
    run = tracediff.open_trace(way.trace).runs[0]
    # Then the exception passes, the model trains on, and the trace holds what there was
    assert way.facts["same_error"]
    assert way.facts["later_fit_trained"]
    assert (run.steps, run.status) == (4, "interrupted")
