"""Dropout and noise: switched off on both sides of a replay, or said to be uncontrolled."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stacks import stack_or_skip

import tracediff
from tracediff.compare import compare
from tracediff_hooks import TraceCallback

PROGRAMS = Path(__file__).parent / "programs"
PROGRAM = PROGRAMS / "random_layers.py"
RATES = {
    "noise": {"stddev": 0.5},
    "drop": {"rate": 0.5},
    "gauss": {"rate": 0.3},
}
IN_CELL = {"dropout": 0.4, "recurrent_dropout": 0.3}
LAYERS = ["rnn", "noise", "drop", "gauss"]
HEAVY = ("keras2.3", "tf1.15", "tf2.15", "tf-keras", "keras3", "keras3-jax", "keras3-torch")


def record(stack, path, seed, *options):
    command = ("-m", "tracediff_hooks", "record", "-o", path, *options, PROGRAM, seed)
    return stack.run(*command, cwd=PROGRAMS)


def controls(a):
    return ("--initial-weights-from", a, "--batches-from", a)


def capture(path):
    return tracediff.open_trace(path).runs[0].about["capture"]


@pytest.fixture(scope="module")
def old(keras23, tmp_path_factory):
    """Runs of Keras 2.3: one with its random layers off, one with them as they are."""
    folder = tmp_path_factory.mktemp("old")
    printed = [record(keras23, folder / "off.zarr", "1", "--random-layers", "off").stdout]
    printed.append(record(keras23, folder / "own.zarr", "1").stdout)
    assert printed == ["[0.0, 0.0, 0.0, 0.0]\n", "[0.4, 0.5, 0.5, 0.3]\n"]
    return folder


@pytest.fixture(
    scope="module",
    params=["tf2.3", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in HEAVY)],
)
def stack(request):
    return stack_or_skip(request.param)


def test_a_replay_of_a_run_without_random_layers_has_none_and_agrees(old, stack, tmp_path):
    # Given a run that trained with its random layers off, when it is replayed with another seed
    b = tmp_path / "b.zarr"
    done = record(stack, b, "2", *controls(old / "off.zarr"))
    # then the replay draws nothing either, and both agree to rounding
    assert compare(old / "off.zarr", b).agree
    found = capture(b)
    assert found["replay"]["uncontrolled"] == found["random_layers"]["drawing"] == []
    off = found["random_layers"]["switched_off"]
    cells = [off.pop(name) for name in list(off) if name not in RATES]
    assert (off, cells) == (RATES, [IN_CELL])
    # and the script has its layers back, but where a graph was built without what they draw
    rates = (
        "[0.0, 0.0, 0.0, 0.0]" if stack.name in ("keras2.3", "tf1.15") else "[0.4, 0.5, 0.5, 0.3]"
    )
    assert done.stdout.splitlines()[-1] == rates


def test_random_layers_that_are_left_alone_are_said_to_be_uncontrolled(old, tf23, tmp_path):
    a, b = old / "own.zarr", tmp_path / "b.zarr"
    done = record(tf23, b, "2", *controls(a))
    assert "rnn, noise, drop, gauss are not controlled" in done.stderr
    assert capture(b)["replay"]["uncontrolled"] == LAYERS
    assert "random_layers" not in capture(b)
    assert "random_layers" not in capture(a)
    found = compare(a, b)
    assert not found.agree
    assert [cause.code for cause in found.causes] == ["layer.random"]


@pytest.mark.exhaustive
def test_what_only_one_side_draws_is_uncontrolled_too(old, tf23, tmp_path):
    record(tf23, tmp_path / "own.zarr", "2", "--random-layers", "own", *controls(old / "off.zarr"))
    record(tf23, tmp_path / "off.zarr", "2", "--random-layers", "off", *controls(old / "own.zarr"))
    for name in ("own", "off"):
        assert capture(tmp_path / f"{name}.zarr")["replay"]["uncontrolled"] == LAYERS


def test_in_a_graph_that_is_built_a_callback_says_that_it_comes_too_late(keras23, tmp_path):
    done = keras23.run(PROGRAM, "1", tmp_path / "late.zarr", cwd=PROGRAMS)
    assert "rnn, noise, drop, gauss cannot be switched off here" in done.stderr
    found = capture(tmp_path / "late.zarr")["random_layers"]
    assert (found["switched_off"], found["drawing"]) == ({}, LAYERS)


def test_another_choice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="random_layers"):
        TraceCallback(tmp_path / "a.zarr", random_layers="on")
