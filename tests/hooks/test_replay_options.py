"""What a replay may leave to the script or record beside: its own batches, its own slots."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.stacks import stack_or_skip

import tracediff
from tracediff.compare import compare
from tracediff_hooks import Replay
from tracediff_hooks.cli import main

PROGRAM = Path(__file__).parent / "programs" / "replay_options.py"
HEAVY = ("keras2.3", "tf1.15", "tf2.15", "tf-keras", "keras3", "keras3-jax", "keras3-torch")


@pytest.fixture(
    scope="module",
    params=["tf2.3", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in HEAVY)],
)
def own(request, tmp_path_factory):
    """Replays of pipelines of their own, on one stack."""
    folder = tmp_path_factory.mktemp(request.param)
    stack_or_skip(request.param).run(PROGRAM, folder, "own")
    return folder


@pytest.fixture(scope="module")
def slots(tf23, tmp_path_factory):
    """Replays of Adagrad into another initial accumulator."""
    folder = tmp_path_factory.mktemp("slots")
    tf23.run(PROGRAM, folder, "slots")
    return folder


def run(path):
    return tracediff.open_trace(path).runs[0]


# --- the script's own batches


def test_own_batches_hold_what_the_pipeline_gave_and_the_trace_what_was_fed(own):
    a, b, beside = (run(own / name) for name in ("a.zarr", "b-scaled.zarr", "own-scaled.zarr"))
    assert beside.steps == a.steps == 6
    for step in range(a.steps):
        x = a.read(a.find("input", "input/0"), step)
        np.testing.assert_array_equal(b.read(b.find("input", "input/0"), step), x)
        np.testing.assert_array_equal(beside.read(beside.find("input", "input/0"), step), 2 * x)
    assert list(beside.epoch) == list(a.epoch)
    assert list(beside.batch) == list(a.batch)
    assert {tensor.role for tensor in beside.tensors} == {"input", "label"}


@pytest.mark.parametrize(
    ("pipeline", "code", "says"),
    [
        ("same", None, "B's own pipeline would have fed the same batches"),
        ("reversed", "data.order", "B's own pipeline would have fed other batches"),
        ("scaled", "data.transform", "B's own pipeline would have fed other batches"),
    ],
)
def test_compare_tells_whether_the_own_pipeline_would_have_fed_the_same(own, pipeline, code, says):
    a = own / "a.zarr"
    # When A is compared with the batches alone, then they are what differs, and nothing is missing
    found = compare(a, own / f"own-{pipeline}.zarr")
    assert [cause.code for cause in found.causes] == ([] if code is None else [code])
    assert found.agree == (code is None)
    assert found.unpaired == ()
    # and the comparison with the replay, which agrees, says it in a note
    replay = compare(a, own / f"b-{pipeline}.zarr")
    assert replay.agree
    (note,) = [one for one in replay.notes if one.startswith("B's own pipeline")]
    assert note.startswith(says)
    assert code is None or f"[{code}]" in note


def test_own_batches_are_found_where_both_traces_were_moved_to(own, tmp_path):
    for name in ("b-same.zarr", "own-same.zarr"):
        shutil.copytree(own / name, tmp_path / name)
    capture = dict(run(tmp_path / "b-same.zarr").about["capture"])
    shutil.move(capture["replay"]["own_batches"], own / "gone.zarr")
    try:
        notes = compare(own / "a.zarr", tmp_path / "b-same.zarr").notes
        assert any(str(tmp_path / "own-same.zarr") in one for one in notes)
        shutil.rmtree(tmp_path / "own-same.zarr")
        notes = compare(own / "a.zarr", tmp_path / "b-same.zarr").notes
        assert any("cannot be compared" in one for one in notes)
    finally:
        shutil.move(own / "gone.zarr", capture["replay"]["own_batches"])


# --- the script's own slots


def accumulator(one, step=0):
    return one.read(one.find("slot", "hidden/kernel/accumulator"), step)


def test_slots_are_part_of_the_initial_state_unless_they_are_left_out(slots):
    a, taken, kept = (run(slots / f"{n}.zarr") for n in ("adagrad", "a-slots", "own-slots"))
    np.testing.assert_array_equal(accumulator(taken), accumulator(a))
    np.testing.assert_array_equal(accumulator(kept), np.full((6, 8), np.float32(0.5)))
    kernel = a.read(a.find("weight", "hidden/kernel"), 0)
    for one in (taken, kept):
        np.testing.assert_array_equal(one.read(one.find("weight", "hidden/kernel"), 0), kernel)
    said = [one.about["capture"]["replay"] for one in (taken, kept)]
    assert [(one["slots"], one["carried"]) for one in said] == [(True, 9), (False, 4)]
    assert said[1]["left_in_a"] == said[1]["left_in_b"] == {}


def test_only_with_slots_of_its_own_another_initial_accumulator_is_left(slots):
    assert compare(slots / "adagrad.zarr", slots / "a-slots.zarr").agree
    found = compare(slots / "adagrad.zarr", slots / "own-slots.zarr")
    assert (found.first_divergence.stage, found.first_divergence.role) == ("state", "slot")
    assert found.causes[0].code == "optimizer.slots"


# --- what excludes each other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "every-step", "slots": False}, "slots included"),
        ({"batches": False, "own_batches": "own.zarr"}, "without batches=True"),
        ({"batches": False, "initial_weights": False}, "controls nothing"),
    ],
)
def test_options_that_exclude_each_other_are_refused(slots, options, words):
    with pytest.raises(ValueError, match=words):
        Replay(slots / "adagrad.zarr", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--own-slots"], "--own-slots needs a run to follow"),
        (["--own-batches", "o.zarr"], "--own-batches needs a run to follow"),
        (["--own-slots", "--batches-from", "{a}"], "--own-slots leaves slots as they are"),
        (["--own-batches", "o.zarr", "--initial-weights-from", "{a}"], "--own-batches records"),
        (["--lockstep", "--own-slots", "--initial-weights-from", "{a}"], "--lockstep sets both"),
    ],
)
def test_the_command_refuses_them_in_one_line(slots, tmp_path, capsys, options, words):
    script = tmp_path / "train.py"
    script.write_text("raise SystemExit('the script ran')")
    given = [one.format(a=slots / "adagrad.zarr") for one in options]
    assert main(["-o", str(tmp_path / "b.zarr"), *given, str(script)]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert words in error
    assert hint.startswith("hint: ")
