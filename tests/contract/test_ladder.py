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

    def climb(stack_a, script_a, stack_b, script_b, level="auto"):
        record = ("-m", "tracediff_hooks", "record", "-o", tmp_path / "a.zarr", "--level", level)
        stack_a.run(*record, SCRIPT, *script_a)
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
    status, found = climbed(tf23, (), tf23, ("seed=2", "order=2", "momentum=0.5"))
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


def test_a_layer_set_otherwise_is_no_cause_in_the_optimizer(climbed, tf23):
    # Given another epsilon of a batch normalisation only, with a momentum that cancels gradients
    status, found = climbed(tf23, ("bn=0.001",), tf23, ("bn=0.1",))
    assert status == 1
    (place,) = found["places"]
    assert place["part"] == "layers and loss"
    assert place["share"] == pytest.approx(1.0)
    assert place["causes"][0]["code"] == "layer.forward"
    assert place["causes"][0]["subject"] == "bn.epsilon"
    assert "with A's initial weights and batches the runs part at step 0" in place["shown"]
    assert place["causes"][0]["evidence"][-1] == f"ladder of controls: {place['shown']}"


@pytest.mark.exhaustive
def test_slots_that_begin_otherwise_are_a_cause_in_the_optimizer(climbed, tf23):
    # Given two scripts with another initial accumulator of Adagrad only
    begins = "rule=Adagrad", "accumulator=0.1"
    status, found = climbed(tf23, begins, tf23, ("rule=Adagrad", "accumulator=0.4"))
    assert status == 1
    (place,) = found["places"]
    assert (place["part"], place["share"]) == ("optimizer", pytest.approx(1.0))
    assert [one["code"] for one in place["causes"]] == ["optimizer.slots"]
    assert "4 slots begin otherwise, such as hidden/kernel/accumulator" in place["shown"]
    # then the last rung, which sets slots, too, leaves nothing
    assert found["rungs"][3]["verdict"] == "identical"


# --- what cannot be climbed


def test_a_script_that_fails_is_said_in_one_line(climbed, tf23):
    status, said = climbed(tf23, (), tf23, ("rule=NoSuchRule",))
    assert status == 2
    error, hint = said.strip().splitlines()[-2:]
    assert error.startswith("error:")
    assert "ended with status 1" in error
    assert hint.startswith("hint: all that it printed is in")


def test_a_script_that_trains_without_fit_is_said_at_once(climbed, tf23, tmp_path):
    status, said = climbed(tf23, (), tf23, ("fit=0",))
    assert status == 2
    error, _ = said.strip().splitlines()[-2:]
    assert "called no Model.fit" in error
    assert not (tmp_path / "a.ladder" / "start.log").exists()


def test_a_trace_that_kept_no_values_is_refused_before_anything_is_trained(climbed, tf23, tmp_path):
    status, said = climbed(tf23, (), tf23, (), level="digest")
    assert status == 2
    error, hint = said.strip().splitlines()
    assert "keeps no values of weight hidden/kernel at step 0 (level digest)" in error
    assert hint.startswith("hint: record A again with level='full'")
    assert not (tmp_path / "a.ladder").exists()


# --- from stack to stack


@pytest.mark.exhaustive
def test_from_the_old_stack_to_the_new_the_rule_is_what_remains(climbed, keras23, keras3):
    status, found = climbed(
        keras23, ("rule=RMSprop",), keras3, ("rule=RMSprop", "seed=2", "order=2")
    )
    assert status == 1
    assert parts(found) == ["initialisation", "data", "optimizer"]
    assert found["places"][-1]["causes"][0]["code"] == "optimizer.rule"


@pytest.mark.exhaustive
def test_with_the_same_rule_on_both_stacks_only_start_and_data_are_named(climbed, keras23, keras3):
    status, found = climbed(keras23, (), keras3, ("seed=2", "order=2"))
    assert status == 1
    assert parts(found) == ["initialisation", "data"]
    assert found["rungs"][2]["verdict"] in ("rounding", "identical")
