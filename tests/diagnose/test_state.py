"""The state that a step starts from."""

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace
from support.runs import ADAM, SGD, cause, changed, codes, compared, place
from support.train import train

from tracediff.compare import compare

WIDE = changed(SGD, sizes=(40, 30, 3))
KERNEL = ("weight", "hidden/kernel")


def starting(folder, plan, change):
    run = train(plan)
    initial = {key: change(key, value) for key, value in run.initial.items()}
    steps = [
        Step(observed=s.observed, after=s.after, epoch=s.epoch, batch=s.batch) for s in run.steps
    ]
    return make_trace(folder, RunPlan(steps, initial, run.about, run.specs))


def test_another_draw_of_the_same_distribution(tmp_path):
    comparison = compared(tmp_path, WIDE, changed(WIDE, init_seed=9))
    found = cause(comparison, "init.draw")
    assert codes(comparison) == ["init.draw"]
    assert any("Kolmogorov-Smirnov" in line for line in found.evidence)


@pytest.mark.parametrize("seed", range(4))
def test_another_distribution_of_the_same_variance(tmp_path, seed):
    def uniform(key, value):
        if key != KERNEL:
            return value
        random = np.random.default_rng(seed)
        spread = np.sqrt(3) * value.std()
        return random.uniform(-spread, spread, value.shape).astype(np.float32)

    a = make_trace(tmp_path / "a.zarr", train(WIDE))
    comparison = compare(a, starting(tmp_path / "b.zarr", WIDE, uniform))
    assert "init.distribution" in codes(comparison)


def test_weights_rounded_to_another_format_are_no_other_draw(tmp_path):
    # Given a run whose weights are the other's in float16
    def coarse(key, value):
        rounds = key[0] == "weight"
        return value.astype(np.float16).astype(np.float32) if rounds else value

    a = make_trace(tmp_path / "a.zarr", train(WIDE))
    # When they are compared
    comparison = compare(a, starting(tmp_path / "b.zarr", WIDE, coarse))
    # Then it is a matter of precision
    found = comparison.causes[0]
    assert (found.code, found.b) == ("precision", "float16")
    assert not {"init.draw", "init.distribution"} & set(codes(comparison))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value * 2, "B is A times 2"),
        (np.zeros_like, "all 0"),
    ],
)
def test_other_weights_that_are_no_draw(tmp_path, change, words):
    def one(key, value):
        return np.asarray(change(value), value.dtype) if key == KERNEL else value

    a = make_trace(tmp_path / "a.zarr", train(WIDE))
    comparison = compare(a, starting(tmp_path / "b.zarr", WIDE, one))
    assert words in cause(comparison, "init.distribution").summary
    assert "init.draw" not in codes(comparison)


def test_a_few_altered_elements_are_no_other_distribution(tmp_path):
    def one(key, value):
        altered = np.arange(value.size).reshape(value.shape) == 7
        return np.where(altered, np.float32(3.0), value) if key == KERNEL else value

    a = make_trace(tmp_path / "a.zarr", train(WIDE))
    comparison = compare(a, starting(tmp_path / "b.zarr", WIDE, one))
    assert codes(comparison) == ["init.draw"]
    assert any("only 1 of" in line for line in comparison.causes[0].evidence)


def test_too_few_elements_to_tell(tmp_path):
    small = changed(SGD, sizes=(2, 2, 2))
    found = cause(compared(tmp_path, small, changed(small, init_seed=5)), "init.draw")
    assert any("too few" in line for line in found.evidence)
    assert found.confidence < 0.9


def test_a_tiny_difference_of_initial_weights_is_not_forgiven(tmp_path):
    def nudged(key, value):
        return (value * np.float32(1 + 5e-7)).astype(value.dtype) if key == KERNEL else value

    a = make_trace(tmp_path / "a.zarr", train(WIDE))
    comparison = compare(a, starting(tmp_path / "b.zarr", WIDE, nudged))
    assert place(comparison) == (0, "state", "hidden/kernel")


def test_an_accumulator_that_starts_otherwise(tmp_path):
    def started(key, value):
        return value + np.float32(0.1) if key[1].endswith("/v") else value

    a = make_trace(tmp_path / "a.zarr", train(ADAM))
    comparison = compare(a, starting(tmp_path / "b.zarr", ADAM, started))
    found = cause(comparison, "optimizer.slots")
    assert "v starts from other values: all 0 in A, all 0.1 in B" in found.summary
    assert found.confidence > 0.9


def test_something_else_changes_weights(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, external={4: 1.01}))
    found = cause(comparison, "state.external")
    assert place(comparison) == (4, "state", "output/kernel")
    assert codes(comparison) == ["state.external"]
    assert any(line.startswith("in B, 1 state tensors changed") for line in found.evidence)


def test_the_same_change_in_both_runs_is_no_divergence(tmp_path):
    plan = changed(SGD, external={4: 1.01})
    assert compared(tmp_path, plan, plan).verdict == "identical"


def test_a_weight_that_only_one_run_trains(tmp_path):
    def frozen(run):
        key = ("weight", "hidden/kernel")
        for step in run.steps:
            step.after.pop(key)
            for role in ("gradient", "applied_gradient"):
                step.observed.pop((role, key[1]))
        specs = {**run.specs, key: {**run.specs[key], "trainable": False}}
        specs = {k: v for k, v in specs.items() if k[1] != key[1] or k[0] in ("weight", "slot")}
        return RunPlan(run.steps, run.initial, run.about, specs)

    a = make_trace(tmp_path / "a.zarr", train(changed(SGD, steps=1)))
    b = make_trace(tmp_path / "b.zarr", frozen(train(changed(SGD, steps=1))))
    found = cause(compare(a, b), "state.trainable")
    assert found.summary == "hidden/kernel is trained in A only."
    assert found.step == 0


def test_layers_without_a_partner(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, batch_norm=True))
    found = cause(comparison, "model.structure")
    assert comparison.verdict == "diverged"
    assert found.subject == "bn"
    assert found.summary.startswith("Only B has bn/gamma")
    assert {one.side for one in comparison.unpaired} == {"b"}


def test_a_model_with_nothing_missing_has_no_structural_cause(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, lr=0.1))
    assert "model.structure" not in codes(comparison)
    assert comparison.unpaired == ()
