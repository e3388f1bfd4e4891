"""Two replicas once more: optimizers, precisions, and batches that do not split evenly.

The trainings take longer than every test run should; the others are in test_replicas.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.replicas import (
    assert_agrees_with_one_device,
    assert_plainly_recorded,
    assert_undisturbed,
    events,
    of_parts,
    weights_at,
)
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
    problem,
    values,
)

pytestmark = pytest.mark.exhaustive

CLIPPING = ("tf2.15", "tf-keras", "keras3")
CLIP = 0.125
ALONE = ("sparse", "custom_train_step", "run_eagerly", "steps_per_execution", "one_device")
"""Ways that are recorded on one device, too, and there compute the same but for rounding."""
TRAINED = (
    *ALONE, "clipped", "statistics_and_dropout", "a_part_too_small", "parts_of_unequal_size",
    "mixed_precision", "scaled_loss", "an_exception", "train_on_batch",
)  # fmt: skip


@pytest.fixture(scope="module", params=flavours(*TF2))
def ways(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("on_replicas.py", request.param, folder, *TRAINED)


def test_every_way_ends_with_the_same_bits_as_without_the_recorder(ways):
    assert_undisturbed(ways.answers, unwatched=["an_exception"])


@pytest.mark.parametrize("name", ALONE)
def test_a_training_on_two_replicas_agrees_with_one_on_one_device(ways, name):
    if name not in ways.answers:
        pytest.skip("not a way of this stack")
    assert_agrees_with_one_device(ways, name)


def test_parts_of_unequal_size_have_an_equal_say(ways):
    # Given a batch of seven rows, four of them on one replica and three on the other
    run = ways["parts_of_unequal_size"].run
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


def test_a_replica_without_rows_is_recorded_as_the_framework_trains_it(ways):
    # Given a last batch of one row, so that the second replica has none
    run = ways["a_part_too_small"].run
    x, y = problem(17)
    # Then the batch is that row
    assert_batches(run, [(x[:8], y[:8]), (x[8:16], y[8:16]), (x[16:], y[16:])])
    # and the weights follow from the gradient, whatever the framework made of no rows
    for name, before, after in zip(
        WEIGHTS, weights_at(run, 2), weights_at(run, 2, "after"), strict=True
    ):
        close(after, before - RATE * run.read(run.tensor("gradient", name), 2))


def test_what_is_applied_is_what_the_framework_clips(ways):
    if ways.flavour not in CLIPPING:
        pytest.skip("TensorFlow 2.3 refuses to clip under a strategy")
    # Given gradients that are clipped to a norm
    run = ways["clipped"].run
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
            if ways.flavour == "keras3":
                expected = sum(_clip(part.gradients[place] / 2) for part in parts)
            applied = run.read(run.tensor("applied_gradient", name), step)
            close(applied, expected)
            close(weights_at(run, step, "after")[place], before[place] - RATE * applied)
            clipped += not np.allclose(raw[place], applied, rtol=1e-3)
    assert clipped


def _clip(gradient):
    return gradient * min(1.0, CLIP / np.linalg.norm(gradient))


def test_statistics_are_recorded_as_the_model_gives_them(ways):
    # Given batch normalisation, whose statistics each replica keeps of its own part, and dropout
    way = ways["statistics_and_dropout"]
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
    assert bool(differ) == (ways.flavour == "keras3")
    if differ:
        assert "normed/moving_mean, normed/moving_variance" in differ[0]


def test_sparse_gradients_are_rows_of_both_replicas(ways):
    # Given an embedding
    run = ways["sparse"].run
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


def test_a_train_step_that_adds_gradients_up_in_its_update(ways):
    # Given a train_step of the script's own, which leaves the adding up to apply_gradients
    way = ways["custom_train_step"]
    # Then what is recorded is the sum, not the gradient of one replica
    assert_batches(way.run, batches_of(*problem(22)))
    assert_true(way, loss=False)


def test_steps_that_are_not_compiled(ways):
    x, y = problem(12)
    run = ways["run_eagerly"].run
    assert_batches(run, [(x[:8], y[:8]), (x[8:], y[8:])])
    # Given Adam, whose slots such a step makes and updates at once, then they begin with zeros
    for name in WEIGHTS:
        slot = run.tensor("slot", name + "/m")
        gradient = run.read(run.tensor("gradient", name), 0)
        assert not run.read(slot, 0).any()
        close(run.read(slot, 0, "after"), 0.1 * gradient)


def test_steps_per_execution(ways):
    # Given two steps in one call, then each is recorded
    if ways.flavour not in TF_KERAS:
        pytest.skip("Keras 3.15 fails at it under a strategy, with or without the recorder")
    grouped = ways["steps_per_execution"]
    assert_batches(grouped.run, batches_of(*problem(22)))
    for step, (x, y) in enumerate(batches_of(*problem(22))):
        expected = one_step(weights_at(grouped.run, step), x, y).after
        for after, known in zip(weights_at(grouped.run, step, "after"), expected, strict=True):
            close(after, known)
    for call, last in enumerate((1, 2, 4, 5)):
        after = weights_at(grouped.run, last, "after")
        for one, other in zip(after, grouped.seen("after", call), strict=True):
            assert np.array_equal(one, other)


def test_mixed_precision(ways):
    # Given layers that compute in half precision
    assert ways["mixed_precision"].facts["computes_in"] == "bfloat16"
    run = ways["mixed_precision"].run
    assert_batches(run, batches_of(*problem(22)))
    for step in range(6):
        for name, before, after in zip(
            WEIGHTS, weights_at(run, step), weights_at(run, step, "after"), strict=True
        ):
            # Then the weights are the full ones, and follow from the recorded gradients
            assert before.dtype == np.float32
            close(after, before - RATE * run.read(run.tensor("applied_gradient", name), step))


def test_a_scaled_loss(ways):
    # Given loss scaling
    run = ways["scaled_loss"].run
    # Then raw gradients of the scaled loss are said to be that; those of tf.keras 2.15 and tf_keras
    # come to the optimizer unscaled
    scaled = ways.flavour in ("tf2.3", "keras3")
    assert bool(events(run, "scaled-gradients")) == scaled
    # and the weights follow from those applied, where they are: Keras 3 applies them inside a
    # conditional, from which nothing leaves, and that is said, too
    applied = run.find("applied_gradient", "out/kernel")
    assert bool(events(run, "no-gradients")) == (applied is None) == (ways.flavour == "keras3")
    for step in range(6):
        before, after = (weights_at(run, step, moment)[2] for moment in ("before", "after"))
        raw = run.read(run.tensor("gradient", "out/kernel"), step)
        scale = np.linalg.norm(raw) / np.linalg.norm((before - after) / RATE)
        assert scale == pytest.approx(2**15 if scaled else 1, rel=0.01)
        if applied is not None:
            close(after, before - RATE * run.read(applied, step))


def test_an_interruption_leaves_the_strategy_as_it_was(ways):
    # Given Ctrl-C after the second step, then both steps are there and the model trains on
    way = ways["an_exception"]
    assert way.facts["raised"] == "KeyboardInterrupt"
    assert (way.run.status, way.run.steps) == ("interrupted", 2)
    assert way.facts["trains_on"]


def test_train_on_batch_in_a_block(ways):
    way = ways["train_on_batch"]
    assert_batches(way.run, batches_of(*problem(22))[:3])
    assert_true(way, steps=3, witnessed=False)


def test_a_strategy_of_one_device_is_nothing_special(ways):
    assert_plainly_recorded(ways["one_device"].run)
