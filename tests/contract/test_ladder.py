"""The ladder on real stacks: which part of a training makes two scripts part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracediff.cli import main

SCRIPT = Path(__file__).parent / "programs" / "ladder_training.py"
HOOKS = Path(__file__).resolve().parents[2] / "hooks"


@pytest.fixture
def climbed(tmp_path, monkeypatch, capsys):
    """Records A on one stack and climbs the ladder with a script on another."""

    def climb(stack_a, script_a, stack_b, script_b, **options):
        record = ("-m", "tracediff_hooks", "record", "-o", tmp_path / "a.zarr", SCRIPT)
        stack_a.run(*record, *script_a)
        monkeypatch.setenv("PYTHONPATH", str(HOOKS))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
        command = [str(stack_b.python), str(SCRIPT), *map(str, script_b)]
        status = main(["ladder", str(tmp_path / "a.zarr"), "--format", "json", "--", *command])
        told = capsys.readouterr()
        return status, json.loads(told.out) if told.out else told.err

    return climb


def parts(found):
    return [one["part"] for one in found["places"]]


def test_start_data_and_optimizer_are_told_apart(climbed, tf23, tmp_path):
    # Given two scripts with another seed and another momentum, when B climbs the ladder
    status, found = climbed(tf23, (1, "sgd", 0.9), tf23, (2, "sgd", 0.5))
    # then each control takes away what it controls, and the rule is what remains
    assert status == 1
    assert parts(found) == ["initialisation", "data", "optimizer"]
    stages = [rung["first_divergence"]["stage"] for rung in found["rungs"]]
    assert stages[:2] == ["data", "data"]
    assert stages[2:] == ["update", "update"]
    (cause,) = [one["causes"] for one in found["places"] if one["part"] == "optimizer"]
    assert cause[0]["code"] == "optimizer.hyperparameter"
    assert (cause[0]["a"], cause[0]["b"]) == (pytest.approx(0.9), pytest.approx(0.5))
    # the shares of the gap add up to it
    assert sum(one["share"] for one in found["places"]) == pytest.approx(1.0)
    local = {one["stage"]: one["origin_steps"] for one in found["rungs"][3]["lockstep"]["stages"]}
    # at step 0 there is no momentum yet
    assert local["update"] == 17
    assert (tmp_path / "a.ladder" / "lockstep.zarr").is_dir()


def test_a_script_that_fails_is_said_in_one_line(climbed, tf23):
    status, said = climbed(tf23, (1, "sgd", 0.9), tf23, (2, "NoSuchRule", 0.5))
    assert status == 2
    error, hint = said.strip().splitlines()[-2:]
    assert error.startswith("error:")
    assert "ended with status 1" in error
    assert hint.startswith("hint: all that it printed is in")


@pytest.mark.exhaustive
def test_from_the_old_stack_to_the_new_the_rule_is_what_remains(climbed, keras23, keras3):
    status, found = climbed(keras23, (1, "RMSprop", 0), keras3, (2, "RMSprop", 0))
    assert status == 1
    assert parts(found) == ["initialisation", "data", "optimizer"]
    assert found["places"][-1]["causes"][0]["code"] == "optimizer.rule"


@pytest.mark.exhaustive
def test_with_the_same_rule_on_both_stacks_only_start_and_data_are_named(climbed, keras23, keras3):
    status, found = climbed(keras23, (1, "sgd", 0.9), keras3, (2, "sgd", 0.9))
    assert status == 1
    assert parts(found) == ["initialisation", "data"]
    assert found["rungs"][2]["verdict"] in ("rounding", "identical")
