"""Loops of which a script compiles a part with `torch.compile`: recorded, or said not to be."""

from __future__ import annotations

import numpy as np
import pytest
from support.stacks import flavours
from support.ways import RATE, WEIGHTS, Ways, close, one_step, problem


@pytest.fixture(scope="module", params=flavours("keras3-torch"))
def ways(request, tmp_path_factory):
    return Ways("compiled_by_torch.py", request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.way(
    "`torch.compile` of the model alone", "recorded; said: inputs to be told", "keras3-torch"
)
def test_an_update_after_a_compiled_forward_pass_is_recorded(ways):
    # Given a loop whose forward pass is compiled, and which tells its batch from step 1 on
    way = ways["compiled_forward"]
    run = way.run
    assert way.facts["same_weights"]
    assert run.steps == 3
    x, y = problem()
    for step in range(3):
        weights = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        expected = one_step(weights, x[8 * step :][:8], y[8 * step :][:8])
        for name, before, gradient in zip(WEIGHTS, weights, expected.gradients, strict=True):
            # Then every update is there,
            close(run.read(run.tensor("gradient", name), step), gradient)
            after = run.read(run.tensor("weight", name), step, "after")
            close(after, before - RATE * gradient)
        # and the input where it was told
        told = run.observed(run.tensor("input", "input/0"))
        assert bool(told[step]) == (step > 0)
        if step:
            fed = run.read(run.tensor("input", "input/0"), step)
            assert np.array_equal(fed, x[8 * step :][:8])
    (said,) = way.facts["said"]
    assert "recording.batch(x=...) tells it" in said


@pytest.mark.way("`torch.compile` of the whole step", "said: not recorded", "keras3-torch")
def test_a_step_that_is_compiled_whole_is_said_to_be_lost(ways):
    way = ways["compiled_step"]
    assert way.facts["same_weights"]
    lost, nothing = way.facts["said"]
    assert "compile the forward pass alone" in lost
    assert "no step of the model was seen" in nothing
    assert not way.trace.exists()
