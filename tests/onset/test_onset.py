"""Where two runs part, with runs really trained in float32."""

from math import isnan

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace
from support.runs import ADAM, SGD, cause, changed, codes, compared, place
from support.train import train

from tracediff.compare import compare


def row(comparison, role, tensor):
    return next(one for one in comparison.drift if (one.role, one.tensor) == (role, tensor))


@pytest.mark.parametrize("plan", [SGD, ADAM, changed(ADAM, batch_norm=True)])
def test_a_run_is_identical_with_its_repeat(tmp_path, plan):
    comparison = compared(tmp_path, plan, plan)
    assert comparison.verdict == "identical"
    assert comparison.first_bit_difference is None
    assert comparison.first_divergence is None
    assert comparison.causes == ()
    assert all(one.growth == "none" for one in comparison.drift)


@pytest.mark.parametrize("plan", [SGD, ADAM, changed(ADAM, tanh=True, steps=60)])
def test_sums_in_another_order_are_rounding(tmp_path, plan):
    comparison = compared(tmp_path, plan, changed(plan, reordered_sums=True))
    assert comparison.verdict == "rounding"
    assert comparison.first_bit_difference is not None
    assert comparison.first_divergence is None


def corrupted(step, x, y):
    if step == 3:
        x = x.copy()
        x[5, 2] += np.float32(1e-4)
    return x, y


def test_one_corrupted_element_is_seen_though_norms_agree(tmp_path):
    plan = changed(SGD, batch=512, sizes=(64, 8, 3), steps=5)
    comparison = compared(tmp_path, plan, changed(plan, feed=corrupted))
    first = comparison.first_divergence
    assert place(comparison) == (3, "data", "input/0")
    assert first.relative_l2 < 1e-6
    assert first.worst.index == (5, 2)
    assert (first.differing, first.size) == (1, 512 * 64)


def test_bits_and_significance_are_kept_apart(tmp_path):
    # GIVEN rounding from step 0 and another momentum, which shows at step 1
    comparison = compared(tmp_path, SGD, changed(SGD, momentum=0.9001, reordered_sums=True))
    assert comparison.first_bit_difference.step == 0
    assert comparison.first_bit_difference.relative_l2 < 1e-6
    assert place(comparison)[:2] == (1, "update")


@pytest.mark.parametrize(
    ("plan", "fields"),
    [
        (ADAM, {"epsilon": 1e-8}),
        (SGD, {"momentum": 0.9001}),
        (ADAM, {"beta_1": 0.9001}),
        (ADAM, {"counter": lambda step: 1 + (step == 5)}),
    ],
)
def test_another_update_is_found_though_weights_nearly_agree(tmp_path, plan, fields):
    comparison = compared(tmp_path, plan, changed(plan, **fields))
    first = comparison.first_divergence
    assert first.stage == "update"
    assert first.origin
    gradients = [one for one in comparison.drift if one.role == "gradient"]
    assert all(
        one.first_significant_step is None or one.first_significant_step > first.step
        for one in gradients
    )


def straight_run(steps, *, changed_step=None, factor=1.0):
    """A weight that moves by a hundredth of itself a step; one step may move it otherwise."""
    random = np.random.default_rng(0)
    key = ("weight", "hidden/kernel")
    weight = random.normal(size=(30, 30)).astype(np.float32)
    initial, plan = {key: weight}, []
    for step in range(steps):
        gradient = random.normal(size=(30, 30)).astype(np.float32)
        rate = np.float32(0.01 * (factor if step == changed_step else 1.0))
        weight = weight - rate * gradient
        observed = {("gradient", "hidden/kernel"): gradient}
        plan.append(Step(observed=observed, after={key: weight}, batch=step))
    return RunPlan(plan, initial)


@pytest.mark.parametrize(("factor", "found"), [(1.0005, True), (1.00003, False)])
def test_a_weight_that_agrees_may_hide_an_update_that_does_not(tmp_path, factor, found):
    # GIVEN an update at step 200 that differs by less than the weight is allowed to by then
    a = make_trace(tmp_path / "a.zarr", straight_run(210))
    b = make_trace(tmp_path / "b.zarr", straight_run(210, changed_step=200, factor=factor))
    # WHEN both are compared
    comparison = compare(a, b)
    # THEN the weight agrees and the update does not, if it is more than rounding the weight makes
    kernel = row(comparison, "weight", "hidden/kernel")
    assert 0 < kernel.relative_l2.max < 1e-5
    assert (comparison.first_divergence is not None) is found
    if found:
        assert place(comparison) == (200, "update", "hidden/kernel")
        assert comparison.first_divergence.quantity == "update"


def test_beta_rounded_to_float32_is_no_divergence(tmp_path):
    plan = changed(ADAM, steps=40)
    comparison = compared(tmp_path, plan, changed(plan, rounded=True))
    second = row(comparison, "slot", "hidden/kernel/v")
    assert 1e-6 < second.relative_l2.max < 2e-5
    assert comparison.verdict == "rounding"


def test_the_bias_before_batch_normalisation_is_noise(tmp_path):
    # GIVEN a bias whose gradient is zero in exact arithmetic, and adam, which blows it up
    plan = changed(ADAM, batch_norm=True, steps=50)
    comparison = compared(tmp_path, plan, changed(plan, reordered_sums=True))
    bias = row(comparison, "weight", "hidden/bias")
    mean = row(comparison, "weight", "bn/moving_mean")
    # THEN neither it nor the moving mean behind it is a divergence
    assert bias.relative_l2.max > 1e-2
    assert mean.relative_l2.max > 1e-5
    assert bias.noise_driven
    assert mean.noise_driven
    assert row(comparison, "slot", "hidden/bias/m").noise_driven
    assert not row(comparison, "weight", "hidden/kernel").noise_driven
    assert comparison.verdict == "rounding"


def test_a_real_cause_beside_that_noise_is_found(tmp_path):
    plan = changed(ADAM, batch_norm=True, steps=20)
    other = changed(plan, reordered_sums=True, bn_momentum=0.98)
    comparison = compared(tmp_path, plan, other)
    assert place(comparison) == (0, "update", "bn/moving_mean")
    assert codes(comparison) == ["layer.state"]


CHAOS = changed(SGD, sizes=(6, 24, 3), lr=0.5, steps=90, gain=3.0, init_scale=2.0, tanh=True)


def test_smooth_growth_from_rounding_is_rounding(tmp_path):
    comparison = compared(tmp_path, CHAOS, changed(CHAOS, reordered_sums=True))
    kernel = row(comparison, "weight", "hidden/kernel")
    assert kernel.relative_l2.max > 1e-3
    assert kernel.growth == "exponential"
    assert kernel.chaotic
    assert comparison.verdict == "rounding"
    assert codes(comparison) == ["rounding"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"momentum": 0.9001}, (1, "update", "hidden/kernel/momentum")),
        ({"lr": lambda s: 0.5 if s < 70 else 0.49}, (70, "update", "optimizer/learning_rate")),
        ({"external": {70: 1.5}}, (70, "state", "output/kernel")),
        ({"gradient_factor": (5, 1.001)}, (5, "gradient", "output/kernel")),
    ],
)
def test_a_cause_among_growing_rounding_is_found(tmp_path, fields, expected):
    comparison = compared(tmp_path, CHAOS, changed(CHAOS, reordered_sums=True, **fields))
    assert place(comparison) == expected
    assert comparison.first_divergence.origin


def test_origins_are_told_from_what_inherits(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, lr=0.06))
    assert row(comparison, "learning_rate", "optimizer/learning_rate").origin is True
    assert row(comparison, "weight", "hidden/kernel").origin is False
    assert row(comparison, "loss", "loss").origin is False
    assert row(comparison, "input", "input/0").origin is None


def test_every_weight_drawn_anew_is_an_origin(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, init_seed=9))
    for name in ("hidden/kernel", "output/kernel"):
        assert row(comparison, "weight", name).origin
    assert row(comparison, "weight", "hidden/bias").origin is False


def test_the_order_within_a_step_is_kept(tmp_path):
    # GIVEN data, initial weights and rate that all differ
    comparison = compared(
        tmp_path, SGD, changed(SGD, init_seed=9, lr=0.06, feed=lambda s, x, y: (x * 2, y))
    )
    assert place(comparison) == (0, "data", "input/0")
    assert {"data.transform", "init.draw", "optimizer.hyperparameter"} == set(codes(comparison))
    assert codes(comparison)[0] == "data.transform"


def test_gradients_go_by_the_backward_pass(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, clipnorm=1e-3))
    first = comparison.first_divergence
    assert (first.role, first.tensor) == ("applied_gradient", "output/bias")


def test_digests_alone_tell_that_but_not_how_much(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, init_seed=3), level="digest")
    first = comparison.first_divergence
    assert comparison.verdict == "diverged"
    assert isnan(first.relative_l2)
    assert codes(comparison)[0] == "unexplained"
    assert any("level" in line for line in cause(comparison, "unexplained").evidence)


def test_without_recorded_gradients_another_rule_is_still_found(tmp_path):
    def without(plan):
        run = train(plan)
        for step in run.steps:
            for key in [k for k in step.observed if k[0].endswith("gradient")]:
                del step.observed[key]
        specs = {k: v for k, v in run.specs.items() if not k[0].endswith("gradient")}
        return type(run)(run.steps, run.initial, run.about, specs)

    a = make_trace(tmp_path / "a.zarr", without(SGD))
    b = make_trace(tmp_path / "b.zarr", without(changed(SGD, momentum=0.8)))
    assert place(compare(a, b))[:2] == (1, "update")
    c = make_trace(tmp_path / "c.zarr", without(changed(SGD, reordered_sums=True)))
    assert compare(a, c).verdict == "rounding"


def test_a_statistic_that_moves_a_little_otherwise_is_not_taken_for_growth(tmp_path):
    # GIVEN rounding everywhere, and a moving statistic that drifts off slowly but steadily
    plan = changed(SGD, batch_norm=True, tanh=True, steps=60)
    other = changed(plan, reordered_sums=True, bn_momentum=0.99002)
    comparison = compared(tmp_path, plan, other)
    assert place(comparison)[1:] == ("update", "bn/moving_mean")
    assert comparison.first_divergence.origin
