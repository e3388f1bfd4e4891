"""Training on two replicas: `MirroredStrategy` on two logical devices, and what is like it.

`programs/on_replicas.py` trains in each way without the recorder and with it, and most ways once
more, recorded, on one device. What two replicas compute is written down in numpy from the two parts
of each batch; what the update makes of it comes from the framework's optimizer on plain variables.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.stacks import flavours
from support.ways import (
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

CLIPPING = ("tf2.15", "tf-keras", "keras3")
CLIP = 0.125
CENTRAL = ("tf2.3", "tf2.15", "tf-keras")
ALONE = ("two_replicas", "adam_with_weights", "one_replica")
ALONE_TOO = ("sparse", "custom_train_step", "run_eagerly", "steps_per_execution", "one_device")
"""Ways that are recorded on one device, too, and there compute the same but for rounding."""
COMMON = (
    *ALONE, "a_copy_that_goes_its_own_way", "a_recorder_that_fails_on_one_replica",
    "hand_written_loop", "another_strategy", "replay",
)  # fmt: skip
RARER = (
    *ALONE_TOO, "clipped", "statistics_and_dropout", "a_part_too_small", "parts_of_unequal_size",
    "mixed_precision", "scaled_loss", "an_exception", "train_on_batch",
)  # fmt: skip
"""Ways that together take longer than every test run should."""
UNWATCHED = ("an_exception", "replay")
"""Ways that are not trained twice."""


@pytest.fixture(scope="module", params=flavours(*TF2))
def ways(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("on_replicas.py", request.param, folder, *COMMON)


@pytest.fixture(scope="module", params=flavours(*TF2))
def rarer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("on_replicas.py", request.param, folder, *RARER)


def events(run, kind):
    return [event["message"] for event in run.about["events"] if event["kind"] == kind]


def of_parts(weights, x, y):
    """Loss and gradients of two replicas: each has half of the rows, and half of the say."""
    cut = (len(x) + 1) // 2
    parts = [one_step(weights, x[:cut], y[:cut]), one_step(weights, x[cut:], y[cut:])]
    loss = sum(part.loss for part in parts) / 2
    pairs = zip(*(part.gradients for part in parts), strict=True)
    return loss, [(one + other) / 2 for one, other in pairs]


def weights_at(run, step, moment="before"):
    return [run.read(run.tensor("weight", name), step, moment) for name in WEIGHTS]


def assert_undisturbed(answers):
    """Every way was trained twice from one beginning: the weights are the same, bit for bit."""
    assert {name: facts["error"] for name, facts in answers.items() if "error" in facts} == {}
    watched = {name: facts for name, facts in answers.items() if name not in UNWATCHED}
    assert len(watched) >= 6
    assert [name for name, facts in watched.items() if not facts["same_weights"]] == []
    # And nothing of the recorder is left on the model or the strategy.
    assert [name for name, facts in answers.items() if facts.get("left_behind")] == []
    assert [name for name, facts in answers.items() if facts.get("left_on_strategy")] == []


def assert_agrees_with_one_device(ways, name):
    two, one = (ways.folder / f"{name}{end}.zarr" for end in ("", "-one"))
    assert tracediff.open_trace(two).runs[0].steps >= 2
    # A sum in two parts is rounded otherwise; that of one part is not.
    same = name in ("one_device", "one_replica")
    assert tracediff.compare(two, one).verdict in (
        ("identical",) if same else ("identical", "rounding")
    )


def test_every_way_ends_with_the_same_bits_as_without_the_recorder(ways):
    assert_undisturbed(ways.answers)


@pytest.mark.exhaustive
def test_every_rarer_way_ends_with_the_same_bits_as_without_the_recorder(rarer):
    assert_undisturbed(rarer.answers)


@pytest.mark.way("`MirroredStrategy` on two devices", "recorded", *TF2)
def test_two_replicas_are_recorded_as_one_training(ways):
    # Given batches of 8, 8 and 6 rows, each split between two replicas
    way = ways["two_replicas"]
    # Then the batch of a step is the whole one, its loss and gradients are those of all rows,
    assert_batches(way.run, batches_of(*problem(22)))
    assert_true(way)
    # its parts, computed by themselves, add up to what was recorded,
    for step, (x, y) in enumerate(batches_of(*problem(22))):
        loss, gradients = of_parts(weights_at(way.run, step), x, y)
        close(way.run.read(way.run.tensor("loss", "loss"), step), loss)
        for name, gradient in zip(WEIGHTS, gradients, strict=True):
            close(way.run.read(way.run.tensor("gradient", name), step), gradient)
    # and the trace says on what it was trained, and nothing was out of the ordinary
    assert way.run.about["capture"]["replicas"] == {"strategy": "MirroredStrategy", "count": 2}
    assert way.run.about["events"] == []
    assert way.facts["said"] == []


@pytest.mark.parametrize("name", ALONE)
def test_a_training_on_two_replicas_agrees_with_one_on_one_device(ways, name):
    # Given the same training on two replicas and on one device, both recorded, then they agree
    assert_agrees_with_one_device(ways, name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ALONE_TOO)
def test_a_rarer_training_on_two_replicas_agrees_with_one_on_one_device(rarer, name):
    if name not in rarer.answers:
        pytest.skip("not a way of this stack")
    assert_agrees_with_one_device(rarer, name)


def test_the_frameworks_optimizer_makes_the_recorded_states_of_the_recorded_gradients(ways):
    # Given Adam on two replicas, sample weights, and the recorded gradients applied once more by
    # the framework's Adam to plain variables
    way = ways["adam_with_weights"]
    for step in range(6):
        # Then the weights after each step are the recorded ones, bit for bit,
        for place, after in enumerate(weights_at(way.run, step, "after")):
            assert np.array_equal(after, way.arrays[f"redone/{step}/{place}"]), (step, place)
        # the slots follow from each other,
        for name in WEIGHTS:
            gradient = way.run.read(way.run.tensor("applied_gradient", name), step)
            slot = way.run.tensor("slot", name + "/m")
            before, after = way.run.read(slot, step), way.run.read(slot, step, "after")
            close(after, 0.9 * before + 0.1 * gradient)
    # and the batch has all sample weights
    weights = way.run.tensor("sample_weight", "sample_weight/0")
    assert np.array_equal(way.run.read(weights, 1), way.arrays["weights"][8:16])


@pytest.mark.exhaustive
def test_parts_of_unequal_size_have_an_equal_say(rarer):
    # Given a batch of seven rows, four of them on one replica and three on the other
    run = rarer["parts_of_unequal_size"].run
    x, y = (array[8:] for array in problem(15))
    assert_batches(run, [(a[:8], b[:8]) for a, b in [problem(15)]] + [(x, y)])
    before = weights_at(run, 1)
    # Then the recorded gradient is the mean of the two, which the weights follow,
    loss, gradients = of_parts(before, x, y)
    whole = one_step(before, x, y)
    close(run.read(run.tensor("loss", "loss"), 1), loss)
    for name, gradient, old, of_all in zip(
        WEIGHTS, gradients, before, whole.gradients, strict=True
    ):
        recorded = run.read(run.tensor("gradient", name), 1)
        close(recorded, gradient)
        close(run.read(run.tensor("weight", name), 1, "after"), old - RATE * gradient)
        # and not the gradient of the seven rows as one batch
        assert np.abs(recorded - of_all).max() > 1e-4


@pytest.mark.exhaustive
def test_a_replica_without_rows_is_recorded_as_the_framework_trains_it(rarer):
    # Given a last batch of one row, so that the second replica has none
    run = rarer["a_part_too_small"].run
    x, y = problem(17)
    # Then the batch is that row
    assert_batches(run, [(x[:8], y[:8]), (x[8:16], y[8:16]), (x[16:], y[16:])])
    # and the weights follow from the gradient, whatever the framework made of no rows
    for name, before, after in zip(
        WEIGHTS, weights_at(run, 2), weights_at(run, 2, "after"), strict=True
    ):
        close(after, before - RATE * run.read(run.tensor("gradient", name), 2))


@pytest.mark.exhaustive
def test_what_is_applied_is_what_the_framework_clips(rarer):
    if rarer.flavour not in CLIPPING:
        pytest.skip("TensorFlow 2.3 refuses to clip under a strategy")
    # Given gradients that are clipped to a norm
    run = rarer["clipped"].run
    clipped = 0
    for step, (x, y) in enumerate(batches_of(*problem(22))):
        before = weights_at(run, step)
        _, raw = of_parts(before, x, y)
        cut = len(x) // 2
        parts = [one_step(before, x[:cut], y[:cut]), one_step(before, x[cut:], y[cut:])]
        for place, name in enumerate(WEIGHTS):
            # Then the raw gradient is the sum before clipping,
            close(run.read(run.tensor("gradient", name), step), raw[place])
            # and the applied one is the sum clipped, or in Keras 3 the sum of what each replica
            # has clipped of its own
            expected = _clip(raw[place])
            if rarer.flavour == "keras3":
                expected = sum(_clip(part.gradients[place] / 2) for part in parts)
            applied = run.read(run.tensor("applied_gradient", name), step)
            close(applied, expected)
            close(weights_at(run, step, "after")[place], before[place] - RATE * applied)
            clipped += not np.allclose(raw[place], applied, rtol=1e-3)
    assert clipped


def _clip(gradient):
    return gradient * min(1.0, CLIP / np.linalg.norm(gradient))


@pytest.mark.exhaustive
def test_statistics_are_recorded_as_the_model_gives_them(rarer):
    # Given batch normalisation, whose statistics each replica keeps of its own part, and dropout
    way = rarer["statistics_and_dropout"]
    names = ("hidden/kernel", "hidden/bias", "normed/gamma", "normed/beta", "normed/moving_mean",
             "normed/moving_variance", "out/kernel", "out/bias")  # fmt: skip
    assert way.run.steps == 6
    # Then the recorded weights, statistics among them, are what `get_weights` returns, bit for bit
    assert sorted(t.name for t in way.run.tensors if t.role == "weight") == sorted(names)
    for place, name in enumerate(names):
        last = way.run.read(way.run.tensor("weight", name), 5, "after")
        assert np.array_equal(last, way.arrays[f"final/{place}"]), name
    # and layer outputs are those of both parts, one after the other: each normalised by itself
    for step, count in enumerate((8, 8, 6) * 2):
        hidden, normed = (values(way.run, "activation", n)[step] for n in ("hidden", "normed"))
        scale, shift = (
            way.run.read(way.run.tensor("weight", "normed/" + n), step) for n in ("gamma", "beta")
        )
        assert len(hidden) == count
        for part in (slice(0, count // 2), slice(count // 2, count)):
            rows = hidden[part].astype(np.float64)
            expected = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3) * scale + shift
            np.testing.assert_allclose(normed[part], expected, rtol=1e-3, atol=1e-4)
    # and where a framework lets the statistics of the replicas part, that is said
    differ = events(way.run, "replicas-differ")
    assert bool(differ) == (rarer.flavour == "keras3")
    if differ:
        assert "normed/moving_mean, normed/moving_variance" in differ[0]


@pytest.mark.exhaustive
def test_sparse_gradients_are_rows_of_both_replicas(rarer):
    # Given an embedding
    run = rarer["sparse"].run
    kernel = run.tensor("gradient", "words/embeddings")
    assert kernel.layout == "sparse"
    for step in range(6):
        before, after = (
            run.read(run.tensor("weight", "words/embeddings"), step, moment)
            for moment in ("before", "after")
        )
        # Then the rows of both replicas, added up, lead from one state to the next
        close(after, before - RATE * run.read(kernel, step))
        touched = np.unique(run.read(run.tensor("input", "input/0"), step))
        assert set(np.flatnonzero(np.any(after != before, axis=1))) == set(touched)


@pytest.mark.exhaustive
def test_a_train_step_that_adds_gradients_up_in_its_update(rarer):
    # Given a train_step of the script's own, which leaves the adding up to apply_gradients
    way = rarer["custom_train_step"]
    # Then what is recorded is the sum, not the gradient of one replica
    assert_batches(way.run, batches_of(*problem(22)))
    assert_true(way, loss=False)


@pytest.mark.exhaustive
def test_steps_that_are_not_compiled(rarer):
    x, y = problem(12)
    run = rarer["run_eagerly"].run
    assert_batches(run, [(x[:8], y[:8]), (x[8:], y[8:])])
    # Given Adam, whose slots such a step makes and updates at once, then they begin with zeros
    for name in WEIGHTS:
        slot = run.tensor("slot", name + "/m")
        gradient = run.read(run.tensor("gradient", name), 0)
        assert not run.read(slot, 0).any()
        close(run.read(slot, 0, "after"), 0.1 * gradient)


@pytest.mark.exhaustive
def test_steps_per_execution(rarer):
    # Given two steps in one call, then each is recorded
    if rarer.flavour not in TF_KERAS:
        pytest.skip("Keras 3.15 fails at it under a strategy, with or without the recorder")
    grouped = rarer["steps_per_execution"]
    assert_batches(grouped.run, batches_of(*problem(22)))
    for step, (x, y) in enumerate(batches_of(*problem(22))):
        expected = one_step(weights_at(grouped.run, step), x, y).after
        for after, known in zip(weights_at(grouped.run, step, "after"), expected, strict=True):
            close(after, known)
    for call, last in enumerate((1, 2, 4, 5)):
        after = weights_at(grouped.run, last, "after")
        for one, other in zip(after, grouped.seen("after", call), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.exhaustive
def test_mixed_precision(rarer):
    # Given layers that compute in half precision
    run = rarer["mixed_precision"].run
    assert_batches(run, batches_of(*problem(22)))
    for step in range(6):
        for name, before, after in zip(
            WEIGHTS, weights_at(run, step), weights_at(run, step, "after"), strict=True
        ):
            # Then the weights are the full ones, and follow from the recorded gradients
            assert before.dtype == np.float32
            close(after, before - RATE * run.read(run.tensor("applied_gradient", name), step))


@pytest.mark.exhaustive
def test_a_scaled_loss(rarer):
    # Given loss scaling, then the gradients are those of the scaled loss, and that is said,
    run = rarer["scaled_loss"].run
    assert events(run, "scaled-gradients")
    applied = run.find("applied_gradient", "out/kernel")
    # and the weights follow from those applied, where they are: Keras 3 applies them inside a
    # conditional, from which nothing leaves, and that is said, too
    assert bool(events(run, "no-gradients")) == (applied is None) == (rarer.flavour == "keras3")
    for step in range(6):
        before, after = (weights_at(run, step, moment)[2] for moment in ("before", "after"))
        raw = run.read(run.tensor("gradient", "out/kernel"), step)
        scale = np.linalg.norm(raw) / np.linalg.norm((before - after) / RATE)
        assert scale == pytest.approx(2**15, rel=0.01)
        if applied is not None:
            close(after, before - RATE * run.read(applied, step))


@pytest.mark.way("a replica whose copy of a weight goes its own way", "said", *TF2)
def test_a_copy_that_goes_its_own_way_is_said(ways):
    # Given a callback that changes the second replica's copy of one weight
    way = ways["a_copy_that_goes_its_own_way"]
    # Then it is said once, by name, and what the first replica holds is recorded
    (message,) = events(way.run, "replicas-differ")
    assert "the replicas hold different values of 1 of 5 weights and slots" in message
    assert "(hidden/kernel)" in message
    for step in range(4):
        kernel = way.run.read(way.run.tensor("weight", "hidden/kernel"), step, "after")
        assert np.array_equal(kernel, way.arrays[f"after/{step}/0"])


@pytest.mark.exhaustive
def test_an_interruption_leaves_the_strategy_as_it_was(rarer):
    # Given Ctrl-C after the second step, then both steps are there and the model trains on
    way = rarer["an_exception"]
    assert way.facts["raised"] == "KeyboardInterrupt"
    assert (way.run.status, way.run.steps) == ("interrupted", 2)
    assert way.facts["trains_on"]


def test_a_recorder_that_fails_on_one_replica_leaves_training_alone(ways):
    # Given a recorder that raises on the second replica while the step is traced, where a strategy
    # wants both to return alike, then one line says so and the weights are those of a plain run
    (said,) = ways["a_recorder_that_fails_on_one_replica"].facts["said"]
    assert "RuntimeError: for the test" in said
    assert "training goes on" in said


@pytest.mark.exhaustive
def test_train_on_batch_in_a_block(rarer):
    way = rarer["train_on_batch"]
    assert_batches(way.run, batches_of(*problem(22))[:3])
    assert_true(way, steps=3, witnessed=False)


@pytest.mark.way("hand-written loop on two replicas", "said: not recorded", *TF2)
def test_a_hand_written_loop_is_not_recorded_and_that_is_said(ways):
    said = ways["hand_written_loop"].facts["said"]
    assert "the script's own loop is not" in said[0]
    assert "no step of the model was seen" in said[1]
    assert not ways["hand_written_loop"].trace.exists()


@pytest.mark.way("`OneDeviceStrategy`, `MirroredStrategy` on one device", "recorded", *TF2)
def test_a_strategy_of_one_replica_is_nothing_special(ways):
    assert_plainly_recorded(ways["one_replica"].run)


@pytest.mark.exhaustive
def test_a_strategy_of_one_device_is_nothing_special(rarer):
    assert_plainly_recorded(rarer["one_device"].run)


def assert_plainly_recorded(run):
    assert_batches(run, batches_of(*problem(22)))
    assert "replicas" not in run.about["capture"]
    assert run.about["events"] == []


@only(*CENTRAL)
@pytest.mark.way("other strategies of several replicas", "refused, and said so", *CENTRAL)
def test_another_strategy_is_refused(ways):
    way = ways["another_strategy"]
    (said,) = way.facts["said"]
    assert "trained by a CentralStorageStrategy on 2 replicas" in said
    assert not way.trace.exists()


@pytest.mark.way("replay onto two replicas", "refused, and said so", *TF2)
def test_a_replay_onto_replicas_is_refused(ways):
    way = ways["replay"]
    assert "cannot be replayed" in way.facts["raised"]
    assert "a replay feeds one; replay it on one" in way.facts["said"][0]
