"""Training on four replicas: alone, in groups of steps, compiled by XLA, and by hand.

`programs/on_four_replicas.py` trains in each way without the recorder and with it.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.replicas import assert_agrees_with_one_device, assert_undisturbed, of_parts, weights_at
from support.stacks import flavours
from support.ways import (
    TF2,
    TF_KERAS,
    WEIGHTS,
    Ways,
    assert_batches,
    assert_true,
    close,
    only,
    problem,
)

BY_XLA = ("tf2.15", "tf-keras", "keras3")
FAILING = ("compiled_groups", "jit_compiled")
"""Ways in which the framework itself fails."""


@pytest.fixture(scope="module", params=flavours(*TF2))
def ways(request, tmp_path_factory):
    return Ways("on_four_replicas.py", request.param, tmp_path_factory.mktemp(request.param))


def fed(steps):
    """The batches of eight of the program's 24 rows, over and over."""
    x, y = problem(24)
    starts = [step % 3 * 8 for step in range(steps)]
    return [(x[start : start + 8], y[start : start + 8]) for start in starts]


def assert_computed_in_parts(run):
    """Loss and gradients of every step are those of four parts, put together in numpy."""
    for step, (x, y) in enumerate(fed(run.steps)):
        loss, gradients = of_parts(weights_at(run, step), x, y, replicas=4)
        close(run.read(run.tensor("loss", "loss"), step), loss)
        for name, gradient in zip(WEIGHTS, gradients, strict=True):
            close(run.read(run.tensor("gradient", name), step), gradient)


def test_every_way_ends_with_the_same_bits_as_without_the_recorder(ways):
    assert_undisturbed(ways.answers, unwatched=FAILING)


@pytest.mark.way("`MirroredStrategy` on four devices", "recorded", *TF2)
def test_four_replicas_are_recorded_as_one_training(ways):
    # Given batches of 8 rows, two for each replica
    way = ways["four_replicas"]
    # Then the batch of a step is the whole one, its loss and gradients those of all replicas,
    assert_batches(way.run, fed(6))
    assert_true(way)
    assert_computed_in_parts(way.run)
    # the trace says on how many, and the training agrees with one on one device
    assert way.run.about["capture"]["replicas"] == {"strategy": "MirroredStrategy", "count": 4}
    assert way.run.about["events"] == []
    assert_agrees_with_one_device(ways, "four_replicas")


@only(*TF_KERAS)
@pytest.mark.way("`steps_per_execution` on several replicas", "recorded, every step", *TF_KERAS)
def test_groups_train_as_many_steps_as_without_the_recorder(ways):
    # Given five steps an epoch in executions of two, then each of ten steps is recorded
    way = ways["groups"]
    assert way.facts["counted"] == [10, 10]
    assert_batches(way.run, fed(10))
    assert_computed_in_parts(way.run)


@only("keras3")
@pytest.mark.way(
    "`steps_per_execution` on several replicas",
    "fails, as without the recorder; recorded with `run_eagerly=True`",
    "keras3",
)
def test_groups_that_run_eagerly_train_as_many_steps_as_without_the_recorder(ways):
    # Given five steps an epoch in executions of two, of which Keras 3 runs three an epoch, whole
    way = ways["groups_run_eagerly"]
    # Then there are twelve steps with and without the recorder, and each is recorded
    assert way.facts["counted"] == [12, 12]
    assert_batches(way.run, fed(12))
    assert_computed_in_parts(way.run)


@only("keras3")
def test_compiled_groups_fail_as_they_do_without_the_recorder(ways):
    # Given compiled executions of two steps, which Keras 3.15 cannot run on several replicas
    way = ways["compiled_groups"]
    # Then the recorder makes no training of what is none: the error is the same, nothing is trained
    assert way.facts["ends"] == [["InvalidArgumentError", True]] * 2
    assert not way.facts["left_on_strategy"]
    # and one line says what to do
    (said,) = way.facts["said"]
    assert "train with steps_per_execution=1" in said
    assert not way.trace.exists()


@only(*BY_XLA)
@pytest.mark.way(
    "`jit_compile=True` on several replicas", "fails on CPUs, as without the recorder", *BY_XLA
)
def test_steps_compiled_by_xla_fail_as_they_do_without_the_recorder(ways):
    way = ways["jit_compiled"]
    assert way.facts["ends"] == [["InvalidArgumentError", True]] * 2
    assert not way.trace.exists()


@pytest.mark.way("eager loop of `strategy.run`", "said: not recorded", *TF2)
def test_an_eager_loop_is_not_recorded_and_that_is_said(ways):
    # Given a loop that calls strategy.run step by step
    way = ways["eager_loop"]
    # Then one line says that it is not recorded, another that no step was seen
    lost, nothing = way.facts["said"]
    assert "the script's own loop is not" in lost
    assert "no step of the model was seen" in nothing
    assert not way.trace.exists()
    assert np.isfinite(way.arrays["final/0"]).all()
