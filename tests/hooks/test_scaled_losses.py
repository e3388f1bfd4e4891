"""Gradients of a scaled loss: what each is multiplied by is said, and where the scale stands."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stacks import flavours, stack_or_skip

import tracediff
from tracediff.trace import scales

PROGRAM = Path(__file__).parent / "programs" / "scaled_losses.py"
RATE, MOMENTUM, SCALE = 0.125, 0.5, 1024.0
WEIGHTS = ("hidden/kernel", "hidden/bias", "out/kernel", "out/bias")
DYNAMIC = "optimizer/dynamic_scale"
ANYWHERE = ("fit", "fit, fixed", "fit in a block", "train_on_batch")
ON_TENSORFLOW = ("own train_step", "eager loop", "compiled loop", "fit and eager loop")
KERAS3 = ("keras3", "keras3-jax", "keras3-torch")
STACKS = ("tf2.3", "tf2.15", "tf-keras", *KERAS3)


@pytest.fixture(scope="module", params=flavours(*STACKS))
def losses(request, tmp_path_factory):
    """The stack's name, what its program found, and its traces."""
    folder = tmp_path_factory.mktemp("losses")
    done = stack_or_skip(request.param).run(PROGRAM, folder)
    return request.param, json.loads(done.stdout.splitlines()[-1]), folder


def recorded(losses, way):
    name, found, folder = losses
    if way not in found:
        pytest.skip(f"{name} has no such way")
    return name, tracediff.open_trace(folder / f"{way}.zarr").runs[0]


def kinds(run):
    return [event["kind"] for event in run.about["events"]]


def consumed(run, name, step):
    """The gradient that made the momentum after a step out of the one before it."""
    slot = run.tensor("slot", f"{name}/momentum")
    before, after = (run.read(slot, step, moment) for moment in ("before", "after"))
    return (MOMENTUM * before - after) / RATE


@pytest.mark.parametrize("way", [*ANYWHERE, *ON_TENSORFLOW, "fit, legacy"])
def test_weights_end_as_without_the_recorder(losses, way):
    _, found, _ = losses
    recorded(losses, way)
    assert found[way] is True


@pytest.mark.parametrize("way", [*ANYWHERE, *ON_TENSORFLOW, "fit, legacy"])
def test_a_raw_gradient_is_what_was_consumed_times_what_it_is_scaled_by(losses, way):
    # Given a loss that is scaled
    name, run = recorded(losses, way)
    seen = 0
    for weight in WEIGHTS:
        gradient = run.tensor("gradient", weight)
        scale, kept = scales(run, gradient), run.kept(gradient)
        for step in np.flatnonzero(kept):
            seen += 1
            # Then the raw gradient without its scale is what the update made of the momentum,
            raw = run.read(gradient, step) / scale[step]
            np.testing.assert_allclose(raw, consumed(run, weight, step), rtol=1e-4, atol=1e-6)
        # and a scale that is said is that of the loss
        expected = SCALE if way == "fit, fixed" else DYNAMIC
        assert gradient.scaled_by in (None, expected)
    assert seen >= 3 * len(WEIGHTS)
    carried = [run.tensor("gradient", weight).scaled_by is not None for weight in WEIGHTS]
    own = way in ("own train_step", "eager loop", "compiled loop")
    # tf.keras 2.15 and tf_keras show gradients when the scale is off, and so does a script's own
    # step on tf.keras, which takes it off by itself.
    assert set(carried) == {name in KERAS3 or (name == "tf2.3" and not own)}
    assert ("scaled-gradients" in kinds(run)) == carried[0]


@pytest.mark.parametrize("way", ["fit", "fit in a block", "train_on_batch", *ON_TENSORFLOW])
def test_the_scale_is_recorded_under_one_name_on_every_stack(losses, way):
    # Given a scale that doubles after every two steps
    _, run = recorded(losses, way)
    steps = range(run.steps)
    for slot, cycle in ((DYNAMIC, None), ("optimizer/step_counter", 2)):
        tensor = run.tensor("slot", slot)
        values = [float(run.read(tensor, step)) for step in steps]
        # Then each step has the scale that its loss was multiplied by, and the steps since
        assert values == [step % cycle if cycle else SCALE * 2 ** (step // 2) for step in steps]


def test_gradients_of_two_kinds_are_not_mixed(losses):
    # Given a fit whose gradients are seen scaled, and a loop of the script's own after it
    name, run = recorded(losses, "fit and eager loop")
    kept = run.kept(run.tensor("gradient", "hidden/kernel"))
    assert run.steps == 9
    # Then where the loop's are not, they are said not to be recorded
    assert kept.tolist() == [True] * 6 + [name != "tf2.3"] * 3
    assert ("not-recorded" in kinds(run)) == (name == "tf2.3")
