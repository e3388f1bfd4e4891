"""Keras 3 on JAX on two devices: what `keras.distribution` spreads is recorded as a whole."""

from __future__ import annotations

import pytest
from support.replicas import assert_agrees_with_one_device, assert_undisturbed
from support.stacks import flavours
from support.ways import Ways, assert_batches, assert_true, batches_of, problem

WAYS = ("data_parallel", "data_parallel_adam", "model_parallel")


@pytest.fixture(scope="module", params=flavours("keras3-jax"))
def ways(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Ways("data_parallel.py", request.param, folder, *WAYS)


def test_every_way_ends_with_the_same_bits_as_without_the_recorder(ways):
    assert_undisturbed(ways.answers)


@pytest.mark.way("`DataParallel`, `ModelParallel` on two devices", "recorded", "keras3-jax")
@pytest.mark.parametrize("name", WAYS)
def test_what_two_devices_hold_is_recorded_as_a_whole(ways, name):
    # Given batches, or weights, that are spread over two devices
    way = ways[name]
    assert way.facts["devices"] == 2
    # Then the batch is the whole one, and loss, gradients and weights are those of all rows,
    assert_batches(way.run, batches_of(*problem(22)))
    if name != "data_parallel_adam":
        assert_true(way, witnessed=False)
    # and the trace says on what it was trained, and agrees with one of the same on one device
    strategy = "ModelParallel" if name == "model_parallel" else "DataParallel"
    assert way.run.about["capture"]["replicas"] == {"strategy": strategy, "count": 2}
    assert_agrees_with_one_device(ways, name)
    assert way.facts["said"] == []
