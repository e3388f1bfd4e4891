"""What is sampled, what is fitted, and what is left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.build import make_trace
from support.runs import ADAM, SGD, changed
from support.train import train

from tracediff.forensics import clipping, reproduce, sample
from tracediff.forensics.sample import MAX_STEPS
from tracediff.trace import Run, open_trace


def recorded(folder, plan, **options) -> Run:
    return open_trace(make_trace(folder / "a.zarr", train(plan), **options)).runs[0]


def said(name: str, **config: object) -> dict[str, object]:
    return {"optimizer": {"class": name, "config": {"learning_rate": 0.01, **config}}}


@pytest.mark.parametrize(("plan", "key"), [(SGD, "sgd, momentum"), (ADAM, "adam")])
def test_the_rule_is_found(tmp_path, plan, key):
    found = reproduce(recorded(tmp_path, plan))
    assert [one.rule.key for one in found.fits] == [key]
    assert found.best.reproduced == found.best.telling == 32
    assert found.sample.words == "32 updates: 4 of 4 trained weights at 8 of 8 steps"


@pytest.mark.parametrize(
    ("fields", "about", "name", "value"),
    [
        ({"epsilon": 1e-3}, said("Adam", epsilon=1e-7), "epsilon", 1e-3),
        ({"beta_1": 0.7}, said("Adam"), "beta_1", 0.7),
        ({"beta_2": 0.98}, said("Adam"), "beta_2", 0.98),
    ],
)
def test_one_setting_is_fitted_where_the_configuration_does_not_tell(
    tmp_path, fields, about, name, value
):
    found = reproduce(recorded(tmp_path, changed(ADAM, about=about, **fields)))
    assert found.best.rule.key == "adam"
    assert found.best.fitted == {name: pytest.approx(value, rel=1e-3)}


def test_momentum_is_fitted(tmp_path):
    about = said("SGD", momentum=0.5)
    found = reproduce(recorded(tmp_path, changed(SGD, about=about, momentum=0.9)))
    assert found.best.rule.key == "sgd, momentum"
    assert found.best.fitted == {"momentum": pytest.approx(0.9, rel=1e-3)}


def test_two_wrong_settings_are_no_fit(tmp_path):
    # given a run that computes with other betas, both of them, than it says
    plan = changed(ADAM, about=said("Adam"), beta_1=0.7, beta_2=0.9)
    # when
    found = reproduce(recorded(tmp_path, plan))
    # then nothing is claimed, but the nearest is there to be named
    assert found.fits == ()
    assert found.nearest.share < 0.5


def test_the_sample_is_bounded_and_begins_at_the_beginning(tmp_path):
    run = recorded(tmp_path, changed(SGD, steps=60))
    found = sample(run, steps=60)
    assert len(found.steps) <= MAX_STEPS
    assert found.steps[:3] == (0, 1, 2)
    assert found.steps[-1] == 59
    assert "of 60 steps" in found.words


def test_digests_alone_reproduce_nothing(tmp_path):
    run = recorded(tmp_path, SGD, level="digest")
    assert reproduce(run) is None
    assert clipping(run, steps=8) is None


def test_a_weight_under_a_constraint_is_left_out(tmp_path):
    layers = [
        {
            "name": "output",
            "class": "Dense",
            "config": {"kernel_constraint": {"class_name": "MaxNorm"}, "bias_constraint": None},
        }
    ]
    plan = changed(SGD, about={"model": {"layers": layers}})
    found = sample(recorded(tmp_path, plan), steps=8)
    assert set(found.weights) == {"hidden/kernel", "hidden/bias", "output/bias"}


def test_accumulated_gradients_are_not_examined(tmp_path):
    about = said("SGD", gradient_accumulation_steps=4)
    assert reproduce(recorded(tmp_path, changed(SGD, about=about))) is None


def test_several_optimizers_are_not_taken_for_one(tmp_path):
    about = said("SGD") | {"optimizers": {"optimizer": {}, "other": {}}}
    assert reproduce(recorded(tmp_path, changed(SGD, about=about))) is None


@pytest.mark.parametrize("kind", ["no-update", "level"])
def test_steps_that_update_nothing_are_left_out_and_no_others(tmp_path, kind):
    # given a run whose recorder noted something at steps 1 and 3
    trace = make_trace(tmp_path / "a.zarr", train(SGD))
    attributes = trace / "run-0" / ".zattrs"
    about = json.loads(attributes.read_text())
    about["run"]["events"] = [{"step": k, "kind": kind, "message": "m"} for k in (1, 3)]
    attributes.write_text(json.dumps(about))
    # when, then
    steps = sample(open_trace(trace).runs[0], steps=8).steps
    assert steps == ((0, 2, 4, 5, 6, 7) if kind == "no-update" else tuple(range(8)))


@pytest.mark.parametrize(("bound", "kinds"), [(None, {"none"}), (0.05, {"norm"}), (1e9, {"none"})])
def test_clipping_is_read_off_the_gradients(tmp_path, bound, kinds):
    found = clipping(recorded(tmp_path, changed(SGD, clipnorm=bound)), steps=8)
    assert set(found.kinds) == kinds
    assert bool(found.active) is (kinds == {"norm"})


def test_a_bound_that_is_not_configured_is_fitted(tmp_path):
    about = said("SGD", momentum=0.9, clipnorm=None)
    found = clipping(recorded(tmp_path, changed(SGD, clipnorm=0.05, about=about)), steps=8)
    assert not found.configured
    assert found.kinds["norm"] == pytest.approx(0.05, rel=1e-5)
    assert found.step == 0


def test_noise_in_the_updates_is_no_rule(tmp_path):
    # given updates with an error of a part in a thousand
    plan = train(SGD)
    generator = np.random.default_rng(0)
    for step in plan.steps:
        for key, value in step.after.items():
            if key[0] == "weight":
                noise = 1 + 1e-3 * generator.normal(size=value.shape)
                step.after[key] = (value * noise).astype(value.dtype)
    run = open_trace(make_trace(tmp_path / "a.zarr", plan)).runs[0]
    # when
    found = reproduce(run)
    # then
    assert found.fits == ()
