"""What cannot be recorded is said in a line and trains as ever: nothing is silently lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.stacks import stack_or_skip

PROGRAM = Path(__file__).parent / "programs" / "refused_ways.py"


def trained(tmp_path, flavour, way):
    """What a training of two fits came to; nothing may have been recorded."""
    done = stack_or_skip(flavour).run(PROGRAM, flavour, way, tmp_path)
    facts = json.loads(done.stdout)
    assert facts["trained"]
    assert facts["same_weights"]
    assert facts["left_behind"] == []
    assert not (tmp_path / "a.zarr").exists()
    (said,) = facts["said"]
    assert said.startswith("tracediff: nothing is recorded: ")
    return said


@pytest.mark.way("eager execution in TensorFlow 1", "refused, and said so", "tf1.15")
def test_eager_execution_in_tensorflow_1(tmp_path):
    # Given eager execution switched on in TensorFlow 1.15, whose loops run no train function; with
    # it Keras 2.3 trains nothing
    said = trained(tmp_path, "tf1.15", "eager_execution")
    # Then one line says so and what to leave out
    assert "leave out enable_eager_execution()" in said


@pytest.mark.way("loss scaling", "refused, and said so", "tf1.15")
def test_loss_scaling_in_tensorflow_1(tmp_path):
    # Given an optimizer of tf.keras 1.15 in one that scales the loss, then one line says so
    assert "in graph mode loss scaling" in trained(tmp_path, "tf1.15", "loss_scaling")


@pytest.mark.way("distribution strategies in graph mode", "refused, and said so", "tf1.15")
@pytest.mark.parametrize(
    ("way", "strategy"),
    [("one_device", "OneDeviceStrategy"), ("two_devices", "MirroredStrategy")],
)
def test_a_strategy_in_tensorflow_1(tmp_path, way, strategy):
    # Given a model made in the scope of a strategy, on one device and on two
    said = trained(tmp_path, "tf1.15", way)
    # Then one line names the strategy
    assert f"in graph mode a {strategy} trains in functions of its own" in said


@pytest.mark.exhaustive
@pytest.mark.way("`jit_compile=True`", "refused, and said so", "keras3-torch")
def test_a_step_that_torch_compiles(tmp_path):
    # Given a step that torch.compile is to compile, then one line says what to change
    assert "jit_compile=False" in trained(tmp_path, "keras3-torch", "torch_compile")
