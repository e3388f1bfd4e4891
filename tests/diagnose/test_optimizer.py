"""The update: what is blamed on the optimizer."""

import pytest
from support.runs import ADAM, SGD, cause, changed, codes, compared, place

from tracediff.forensics import count_steps
from tracediff.trace import open_trace


def test_a_learning_rate_of_another_value(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, lr=0.05 * (1 + 1e-4)))
    found = cause(comparison, "optimizer.hyperparameter")
    assert place(comparison) == (0, "update", "optimizer/learning_rate")
    assert (found.subject, found.a) == ("learning_rate", pytest.approx(0.05))
    assert codes(comparison) == ["optimizer.hyperparameter"]


def test_a_learning_rate_that_takes_another_course(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, lr=lambda s: 0.05 if s < 4 else 0.04))
    found = cause(comparison, "optimizer.schedule")
    assert found.step == 4
    assert codes(comparison) == ["optimizer.schedule"]


@pytest.mark.parametrize(
    ("plan", "name", "value", "step"),
    [
        (SGD, "momentum", 0.8, 1),
        (ADAM, "epsilon", 1e-5, 0),
        (ADAM, "beta_1", 0.8, 0),
        (ADAM, "beta_2", 0.99, 0),
    ],
)
def test_a_hyperparameter_is_named_with_both_values(tmp_path, plan, name, value, step):
    comparison = compared(tmp_path, plan, changed(plan, **{name: value}))
    found = cause(comparison, "optimizer.hyperparameter")
    assert (found.subject, found.a, found.b) == (name, getattr(plan, name), value)
    assert found.step == step
    assert codes(comparison) == ["optimizer.hyperparameter"]


def test_another_optimizer_comes_before_its_settings(tmp_path):
    comparison = compared(tmp_path, SGD, changed(ADAM, lr=0.05))
    found = comparison.causes[0]
    assert (found.code, found.a, found.b) == ("optimizer.rule", "SGD", "Adam")
    assert {one.role for one in comparison.unpaired} == {"slot"}


def test_a_setting_that_the_configuration_does_not_tell_is_fitted(tmp_path):
    # GIVEN a config that says 1e-7 in both, and a run that does otherwise
    about = {"optimizer": {"class": "Adam", "config": {"learning_rate": 0.01, "epsilon": 1e-7}}}
    a = changed(ADAM, about=about)
    comparison = compared(tmp_path, a, changed(a, epsilon=1e-4))
    assert codes(comparison) == ["optimizer.hyperparameter"]
    found = cause(comparison, "optimizer.hyperparameter")
    assert (found.subject, found.a, found.step) == ("epsilon", 1e-7, 0)
    assert found.b == pytest.approx(1e-4, rel=1e-3)
    assert any("although its configuration says" in line for line in found.evidence)


ONE_TOO_HIGH = changed(ADAM, counter=lambda step: 2)
RACING = changed(ADAM, counter=lambda step: 1 if step % 3 == 2 else 2)


def test_the_step_counter_of_adam_is_read_off_the_run(tmp_path):
    comparison = compared(tmp_path, ADAM, ONE_TOO_HIGH)
    found = comparison.causes[0]
    assert (found.code, found.subject) == ("optimizer.rule", "Adam step counter")
    assert found.a == {"iteration+1": 32, "iteration+2": 0, "neither": 0}
    assert found.b == {"iteration+1": 0, "iteration+2": 32, "neither": 0}
    assert "0.744" in found.summary
    assert codes(comparison) == ["optimizer.rule"]


@pytest.mark.parametrize(
    "fields", [{"init_seed": 8}, {"seed": 8}, {"init_seed": 8, "seed": 9, "lr": 0.02}]
)
def test_the_step_counter_is_seen_through_other_differences(tmp_path, fields):
    comparison = compared(tmp_path, changed(ADAM, **fields), RACING)
    found = [one for one in comparison.causes if one.subject == "Adam step counter"]
    assert len(found) == 1
    assert comparison.causes[0] is not found[0]
    assert found[0].a["iteration+2"] == 0
    assert (found[0].b["iteration+1"], found[0].b["iteration+2"]) == (8, 24)
    assert any("uses both counters" in line for line in found[0].evidence)


@pytest.mark.parametrize("fields", [{"init_seed": 8}, {"lr": 0.02}, {"epsilon": 1e-5}])
def test_equal_counters_are_no_cause(tmp_path, fields):
    for plan in (ADAM, ONE_TOO_HIGH):
        folder = tmp_path / str(plan.counter(0))
        comparison = compared(folder, plan, changed(plan, **fields))
        assert all(one.subject != "Adam step counter" for one in comparison.causes)


def test_a_formula_that_is_not_adams_is_told_apart(tmp_path):
    # GIVEN a run that says epsilon 1e-7 and computes with another
    about = {
        "optimizer": {
            "class": "Adam",
            "config": {"learning_rate": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
        }
    }
    compared(tmp_path, ADAM, changed(ADAM, about=about, epsilon=1e-2))
    right = count_steps(open_trace(tmp_path / "a.zarr").runs[0], 8)
    wrong = count_steps(open_trace(tmp_path / "b.zarr").runs[0], 8)
    assert right.neither == 0
    assert right.residual < 1e-3
    assert wrong.neither > 20


def test_counters_are_not_sought_where_adam_does_not_train(tmp_path):
    compared(tmp_path, SGD, SGD)
    assert count_steps(open_trace(tmp_path / "a.zarr").runs[0], 8) is None
