"""Optimizers of `tf.compat.v1.train` in tf.keras 1.15: recorded truly, and without disturbing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.stacks import stack_or_skip

from tracediff.compare import compare
from tracediff.forensics import reproduce
from tracediff.trace import open_trace

RULES = {
    "sgd": "sgd",
    "momentum": "sgd, momentum of gradients",
    "nesterov": "sgd, nesterov of gradients",
    "rmsprop": "rmsprop, momentum",
    "centered": "rmsprop, centered, momentum",
    "adagrad": "adagrad, no epsilon",
    "adadelta": "adadelta",
    "adam": "adam",
    "ftrl": "ftrl",
    "rate of tensors": "sgd",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("v1")


@pytest.fixture(scope="module")
def told(folder):
    program = Path(__file__).parent / "programs" / "v1_optimizers.py"
    done = stack_or_skip("keras2.3").run(program, folder)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", RULES)
def test_the_record_is_complete_and_the_training_undisturbed(told, name):
    assert told[name]["equal"]
    assert told[name]["status"] == "complete"
    assert told[name]["events"] == []


@pytest.mark.parametrize("name", RULES)
def test_the_optimizer_itself_makes_the_recorded_next_state_of_the_recorded_one(told, name):
    assert told[name]["ulp"] == 0
    kept = [slot for slot in told[name]["recorded_slots"] if slot != "optimizer/iteration"]
    assert kept == told[name]["slots"]


def test_a_rate_that_is_a_tensor_is_the_one_that_the_update_read(told):
    assert told["rate of tensors"]["rates"] == pytest.approx([0.05] * 6, rel=1e-7)


@pytest.mark.parametrize(("name", "rule"), RULES.items())
def test_the_rule_is_found_from_the_record(told, folder, name, rule):
    assert told[name]["status"] == "complete"
    found = reproduce(open_trace(folder / f"{name}.zarr").runs[0])
    assert found.fit_of(rule) is not None, [one.rule.key for one in found.fits]


def test_two_rules_are_told_apart(told, folder):
    assert told["momentum"]["status"] == "complete"
    found = compare(folder / "momentum.zarr", folder / "nesterov.zarr")
    assert found.first_divergence.stage == "update"
    assert found.causes[0].code in ("optimizer.rule", "optimizer.hyperparameter")
    assert "nesterov" in found.causes[0].summary.lower()
