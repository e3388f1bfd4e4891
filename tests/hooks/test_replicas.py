"""Training on two replicas: `MirroredStrategy` on two logical devices, and what is like it.

`programs/on_replicas.py` trains in each way without the recorder and with it, and some ways once
more, recorded, on one device. What two replicas compute is written down in numpy from the two parts
of each batch; what the update makes of it comes from the framework's optimizer on plain variables.
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
    TF2,
    TF_KERAS,
    WEIGHTS,
    Ways,
    assert_batches,
    assert_true,
    batches_of,
    close,
    only,
    problem,
)

ALONE = ("two_replicas", "adam_with_weights", "one_replica")
"""Ways that are recorded on one device, too, and there compute the same but for rounding."""
TRAINED = (
    *ALONE, "a_copy_that_goes_its_own_way", "a_recorder_that_fails_on_one_replica",
    "hand_written_loop", "another_strategy", "replay",
)  # fmt: skip


@pytest.fixture(scope="module", params=flavours(*TF2))
def ways(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("on_replicas.py", request.param, folder, *TRAINED)


def test_every_way_ends_with_the_same_bits_as_without_the_recorder(ways):
    assert_undisturbed(ways.answers, unwatched=["replay"])


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


@pytest.mark.way("a replica whose copy of a weight goes its own way", "said", *TF2)
def test_a_copy_that_goes_its_own_way_is_said(ways):
    # Given a callback that changes the second replica's copy of one weight
    way = ways["a_copy_that_goes_its_own_way"]
    # Then it is said once, by name, and what the first replica holds is recorded
    (message,) = events(way.run, "replicas-differ")
    assert "the replicas hold different values of 1 of " in message
    assert "weights and slots (hidden/kernel)" in message
    for step in range(4):
        kernel = way.run.read(way.run.tensor("weight", "hidden/kernel"), step, "after")
        assert np.array_equal(kernel, way.arrays[f"after/{step}/0"])


def test_a_recorder_that_fails_on_one_replica_leaves_training_alone(ways):
    # Given a recorder that raises on the second replica while the step is traced, where a strategy
    # wants both to return alike, then one line says so and the weights are those of a plain run
    (said,) = ways["a_recorder_that_fails_on_one_replica"].facts["said"]
    assert "RuntimeError: for the test" in said
    assert "training goes on" in said


@pytest.mark.way("hand-written loop on two replicas", "said: not recorded", *TF2)
def test_a_hand_written_loop_is_not_recorded_and_that_is_said(ways):
    said = ways["hand_written_loop"].facts["said"]
    assert "the script's own loop is not" in said[0]
    assert "no step of the model was seen" in said[1]
    assert not ways["hand_written_loop"].trace.exists()


@pytest.mark.way("`OneDeviceStrategy`, `MirroredStrategy` on one device", "recorded", *TF2)
def test_a_strategy_of_one_replica_is_nothing_special(ways):
    assert_plainly_recorded(ways["one_replica"].run)


@only(*TF_KERAS)
@pytest.mark.way("other strategies of several replicas", "refused, and said so", *TF_KERAS)
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
