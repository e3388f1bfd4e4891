"""A run that began every step with A's state tells what single steps make other."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

import tracediff
from tracediff.compare import compare
from tracediff.report.comparison import to_json, to_markdown, to_text

F32 = np.float32
W, GRADIENT = ("weight", "out/kernel"), ("gradient", "out/kernel")
STEPS = 6


def gradients():
    return np.random.default_rng(3).normal(size=(STEPS, 40)).astype(F32)


def states():
    found = [np.linspace(-1, 1, 40).astype(F32)]
    for gradient in gradients():
        found.append((found[-1] - F32(0.1) * gradient).astype(F32))
    return found


def step(batch, gradient, after, before=None):
    observed = {
        ("input", "input/0"): np.full((2, 3), batch, F32),
        ("loss", "loss"): F32(batch + 1),
        GRADIENT: gradient,
    }
    return Step(observed, after={W: after}, before={} if before is None else {W: before})


@pytest.fixture
def a(tmp_path):
    found = states()
    steps = [step(k, gradients()[k], found[k + 1]) for k in range(STEPS)]
    return make_trace(tmp_path / "a.zarr", RunPlan(steps, initial={W: found[0]}))


def follower(tmp_path, a, *, gradient_at=(), update_at=(), state="every-step", name="b"):
    """A run in lockstep with A; some steps have another gradient, some make another update."""
    found, steps = states(), []
    for k in range(STEPS):
        gradient, rate = gradients()[k].copy(), F32(0.1)
        if k in gradient_at:
            gradient *= F32(1.01)
        if k in update_at:
            rate = F32(0.11)
        after = (found[k] - rate * gradient).astype(F32)
        steps.append(step(k, gradient, after, before=found[k] if k else None))
    fingerprint = tracediff.open_trace(a).runs[0].fingerprint
    replay = {"state": state, "run": "a.zarr/run-0", "fingerprint": fingerprint, "batches": True}
    about = {"capture": {"replay": replay}}
    return make_trace(tmp_path / f"{name}.zarr", RunPlan(steps, initial={W: found[0]}, about=about))


def by_stage(found):
    return {one.stage: (one.steps, one.origin_steps) for one in found.stages if one.tensors}


def test_a_run_that_does_as_a_does_has_no_local_error(tmp_path, a):
    found = compare(a, follower(tmp_path, a)).lockstep
    assert found.steps == STEPS
    assert found.errors == ()
    assert set(by_stage(found).values()) == {(0, 0)}


def test_an_update_that_differs_at_some_steps_is_their_origin_and_nothing_else_is(tmp_path, a):
    found = compare(a, follower(tmp_path, a, update_at=(2, 4))).lockstep
    assert by_stage(found) == {"data": (0, 0), "loss": (0, 0), "gradient": (0, 0), "update": (2, 2)}
    (error,) = found.errors
    assert (error.tensor, error.role, error.steps, error.first_step) == (
        "out/kernel",
        "weight",
        2,
        2,
    )
    assert error.relative == pytest.approx(0.1 / 1.1, rel=1e-4)  # of the larger update


def test_an_update_that_follows_from_another_gradient_is_inherited(tmp_path, a):
    found = compare(a, follower(tmp_path, a, gradient_at=(3,))).lockstep
    assert by_stage(found) == {"data": (0, 0), "loss": (0, 0), "gradient": (1, 1), "update": (1, 0)}


def test_both_are_told_apart_in_one_run(tmp_path, a):
    found = compare(a, follower(tmp_path, a, gradient_at=(1,), update_at=(1, 5))).lockstep
    # The update of step 1 has a cause of its own beside the gradient that it follows.
    assert by_stage(found)["gradient"] == (1, 1)
    assert by_stage(found)["update"] == (2, 2)


@pytest.mark.parametrize("case", ["only its start was replayed", "another run was replayed"])
def test_other_traces_have_no_local_errors(tmp_path, a, case):
    if case == "only its start was replayed":
        b = follower(tmp_path, a, state="start")
        assert compare(a, b).lockstep is None
    else:
        b = follower(tmp_path, a)
        other = follower(tmp_path, a, gradient_at=(0,), name="other")
        assert compare(other, b).lockstep is None


def test_all_reports_tell_it(tmp_path, a):
    found = compare(a, follower(tmp_path, a, update_at=(2, 4)))
    says = "update: differs at 2 of 6 steps; differences begin here at 2"
    assert says in to_text(found)
    assert says in to_markdown(found)
    told = json.loads(to_json(found))["lockstep"]
    assert [one["steps"] for one in told["stages"] if one["stage"] == "update"] == [2]
    assert "Lockstep" not in to_text(compare(a, a))
    assert json.loads(to_json(compare(a, a)))["lockstep"] is None
