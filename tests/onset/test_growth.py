"""Rounding needs level and growth, and a unit that flips at a kink is told from a fault."""

import numpy as np
import pytest
from support.build import ABOUT, RunPlan, Step, make_trace

from tracediff.compare import compare

KERNEL = "hidden/kernel"
STEPS, LATE = 400, 300


def about(activation):
    layer = {"name": "hidden", "class": "Dense", "config": {"activation": activation}}
    return {**ABOUT, "model": {"name": "one", "class": "Sequential", "layers": [layer]}}


def run(*, drift=None, change=None, applied=None, activation="tanh", steps=STEPS, units=6):
    """A kernel that gradients of random numbers move; `drift` moves those apart, step by step."""
    random, noise = np.random.default_rng(0), np.random.default_rng(1)
    weight = random.normal(size=(8, units)).astype(np.float32)
    initial, plan = {("weight", KERNEL): weight}, []
    for step in range(steps):
        gradient = random.normal(size=(8, units))
        if drift is not None:
            gradient = gradient * (1.0 + drift[step] * noise.choice([-1.0, 1.0], (8, units)))
        if change is not None:
            gradient = change(step, gradient)
        gradient = gradient.astype(np.float32)
        used = gradient if applied is None else applied(step, gradient)
        weight = weight - np.float32(0.01) * used
        observed = {
            # Large, so that gradients of this size say it is not sensitive to the weights.
            ("loss", "loss"): np.float32(100.0),
            ("gradient", KERNEL): gradient,
            ("applied_gradient", KERNEL): used,
        }
        plan.append(Step(observed=observed, after={("weight", KERNEL): weight}, batch=step))
    return RunPlan(plan, initial, about(activation))


def compared(folder, **options):
    activation = options.get("activation", "tanh")
    units = options.get("units", 6)
    a = make_trace(folder / "a.zarr", run(activation=activation, units=units))
    b = make_trace(folder / "b.zarr", run(**options))
    return compare(a, b)


def test_what_rounding_may_have_grown_to_it_must_have_grown_into(tmp_path):
    # GIVEN gradients that are 4e-5 off at late steps, as what adds up may be by then
    grown = np.linspace(1e-7, 4e-5, STEPS)
    jumped = np.where(np.arange(STEPS) < LATE, 2e-7, 4e-5)
    # WHEN they came there step by step, or all at once
    smooth = compared(tmp_path, drift=grown)
    (tmp_path / "jump").mkdir()
    sudden = compared(tmp_path / "jump", drift=jumped)
    # THEN only the first is rounding
    assert smooth.verdict == "rounding"
    assert sudden.verdict == "diverged"
    first = sudden.first_divergence
    assert (first.step, first.stage, first.tensor) == (LATE, "gradient", KERNEL)


def test_rounding_may_come_in_at_any_step(tmp_path):
    late = np.where(np.arange(STEPS) < LATE, 0.0, 1e-6)
    assert compared(tmp_path, drift=late).verdict == "rounding"


def test_exponential_growth_from_rounding_level_is_rounding(tmp_path):
    drift = np.minimum(1e-7 * 1.1 ** np.arange(STEPS), 0.1)
    comparison = compared(tmp_path, drift=drift)
    assert comparison.verdict == "rounding"
    assert {one.code for one in comparison.causes} == {"rounding"}


ROUNDING = np.full(STEPS, 2e-7)


def one_unit(step, gradient):
    if step == LATE:
        gradient = gradient.copy()
        gradient[:, 2] *= 1.2
    return gradient


def every_unit(step, gradient):
    return gradient * 1.05 if step == LATE else gradient


def test_one_unit_that_flips_is_a_kink(tmp_path):
    found = compared(tmp_path, drift=ROUNDING, change=one_unit, activation="relu")
    assert found.verdict == "rounding"
    kernel = next(one for one in found.drift if one.role == "weight")
    # What it leaves in the weight is no divergence either.
    assert kernel.relative_l2.last > 1e-4


@pytest.mark.parametrize(("flips", "verdict"), [(1, "rounding"), (4, "diverged")])
def test_few_units_may_flip_before_rounding_has_a_history(tmp_path, flips, verdict):
    # Given 20 units, of which some have another gradient at step 3, too little to show in weights
    def change(step, gradient):
        return gradient * np.where((step == 3) & (np.arange(20) < flips), 1.0003, 1.0)

    # When the runs are compared, then nine tenths must agree for that to be a kink
    found = compared(tmp_path, drift=ROUNDING, change=change, activation="relu", units=20)
    assert found.verdict == verdict
    if verdict == "diverged":
        assert (found.first_divergence.step, found.first_divergence.stage) == (3, "gradient")


@pytest.mark.parametrize(
    "options",
    [
        # No function of the model bends there.
        {"change": one_unit, "activation": "tanh"},
        # All units at once.
        {"change": every_unit, "activation": "relu"},
        # The derivative is the same; what is made of it is not.
        {"applied": one_unit, "activation": "relu"},
    ],
    ids=["smooth", "every unit", "applied"],
)
def test_what_is_no_flip_is_found(tmp_path, options):
    found = compared(tmp_path, drift=ROUNDING, **options)
    assert found.verdict == "diverged"
    assert found.first_divergence.step == LATE
    assert found.first_divergence.stage == "gradient"


def test_a_unit_of_runs_that_agreed_to_the_bit_did_not_flip_by_rounding(tmp_path):
    found = compared(tmp_path, change=one_unit, activation="relu")
    assert found.verdict == "diverged"
    assert found.first_divergence.step == LATE


def before_a_norm(*, drift=0.0, statistic=0.0, feeds="dense", steps=60):
    """A kernel whose gradient is small beside another's, and a moving variance.

    `drift` moves the small gradient apart, `statistic` each move of the variance.
    """
    random, noise = np.random.default_rng(0), np.random.default_rng(1)
    small, large, moving = ("dense/kernel", "out/kernel", "bn/moving_variance")
    state = {
        ("weight", name): random.normal(size=(6, 5)).astype(np.float32) for name in (small, large)
    }
    state["weight", moving] = np.ones(5, np.float32)
    initial, plan = dict(state), []
    for step in range(steps):
        moved = {
            small: random.normal(size=(6, 5)) * 0.05,
            large: random.normal(size=(6, 5)) * (1.0 + 1e-8 * noise.normal(size=(6, 5))),
        }
        moved[small] = moved[small] * (1.0 + drift * noise.choice([-1.0, 1.0], (6, 5)))
        gradients = {name: value.astype(np.float32) for name, value in moved.items()}
        state = {
            ("weight", name): state["weight", name] - np.float32(0.01) * gradients[name]
            for name in (small, large)
        } | {
            ("weight", moving): (
                state["weight", moving] * np.float32(0.99)
                + np.float32(0.01) * (2.0 + statistic * random.uniform(0.9, 1.1, 5))
            ).astype(np.float32)
        }
        observed = {("gradient", name): value for name, value in gradients.items()}
        plan.append(
            Step(observed={("loss", "loss"): np.float32(1.0), **observed}, after=state, batch=step)
        )
    layers = [
        {"name": "dense", "class": "Dense", "config": {}, "inputs": []},
        {"name": "bn", "class": "BatchNormalization", "config": {}, "inputs": [feeds]},
        {"name": "out", "class": "Dense", "config": {}, "inputs": ["bn"]},
    ]
    return RunPlan(plan, initial, {"model": {"name": "m", "class": "Model", "layers": layers}})


@pytest.mark.parametrize(("feeds", "verdict"), [("dense", "rounding"), ("other", "diverged")])
def test_a_gradient_before_a_normalisation_is_held_against_all_of_them(tmp_path, feeds, verdict):
    # GIVEN a gradient that is 4e-5 off, a twentieth of the others, and what it is computed for
    a = make_trace(tmp_path / "a.zarr", before_a_norm(feeds=feeds))
    b = make_trace(tmp_path / "b.zarr", before_a_norm(drift=4e-5, feeds=feeds))
    # THEN it is rounding where a normalisation takes away most of what it is the sum of
    assert compare(a, b).verdict == verdict


@pytest.mark.parametrize(("statistic", "verdict"), [(1e-3, "diverged"), (0.0, "rounding")])
def test_a_moving_statistic_does_not_excuse_itself(tmp_path, statistic, verdict):
    # GIVEN a moving variance that is moved by a little more at every step
    a = make_trace(tmp_path / "a.zarr", before_a_norm(drift=1e-7))
    b = make_trace(tmp_path / "b.zarr", before_a_norm(drift=2e-7, statistic=statistic))
    # WHEN it has drifted steadily beyond its level, while the run it follows has not
    found = compare(a, b)
    # THEN that is no growth of rounding
    assert found.verdict == verdict
    if statistic:
        assert found.first_divergence.tensor == "bn/moving_variance"
