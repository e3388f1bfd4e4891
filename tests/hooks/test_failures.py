"""Whatever fails, training goes as it would have gone, and the trace holds what came before.

`programs/failures.py` lets things fail on each stack, and `programs/killed.py` dies; what needs no
framework is tried right here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

import tracediff
from tracediff_hooks import TraceCallback, TraceExistsError
from tracediff_hooks.generations import UnsupportedModel, hook_for
from tracediff_hooks.recorder import Recorder, TensorSpec

PROGRAMS = Path(__file__).parent / "programs"
WEIGHTS = ("hidden/kernel", "hidden/bias", "out/kernel", "out/bias")


class Failures:
    """Every case of one flavour, run in one process."""

    def __init__(self, stack, folder):
        self.folder = folder
        done = stack.run(PROGRAMS / "failures.py", stack.name, folder)
        # It ended with status 0: no failure changed that.
        self.stderr = done.stderr
        self._answers = json.loads(done.stdout)

    def __getitem__(self, name):
        facts = self._answers[name]
        assert "error" not in facts, facts["error"]
        return facts

    def run(self, name):
        (run,) = tracediff.open_trace(self.folder / f"{name}.zarr").runs
        return run


@pytest.fixture(scope="module")
def failures(training, tmp_path_factory):
    return Failures(training, tmp_path_factory.mktemp(training.name))


def state(run, step, moment="before"):
    return [run.read(run.tensor("weight", name), step, moment) for name in WEIGHTS]


def assert_steps_follow_from_each_other(run, steps):
    """The weights after each step are those before it less the rate times its gradient."""
    for step in steps:
        for name in WEIGHTS:
            weight, gradient = run.tensor("weight", name), run.tensor("gradient", name)
            rate = run.read(run.tensor("learning_rate", "optimizer/learning_rate"), step)
            np.testing.assert_allclose(
                run.read(weight, step, "after"),
                run.read(weight, step) - rate * run.read(gradient, step),
                rtol=1e-6,
                atol=1e-7,
            )


# --- the training ends early


@pytest.mark.parametrize("name", ["exception_in_a_callback", "interrupt_by_the_user"])
def test_what_a_callback_raises_ends_the_fit_as_ever(failures, name):
    # Given a callback that raises after the fourth step, an exception or Ctrl-C's
    facts = failures[name]
    # Then it reaches the user unchanged,
    assert facts["same_error"]
    # the trace holds the four steps and says that it was interrupted,
    run = failures.run(name)
    assert (run.steps, run.status) == (4, "interrupted")
    assert run.epoch.tolist() == [0, 0, 0, 1]
    assert_steps_follow_from_each_other(run, range(4))
    # and a later fit without the callback works, is not recorded, and leaves the model free of us
    assert facts["later_fit_trained"]
    assert facts["left_behind"] == []


def test_what_the_data_raise_ends_the_fit_as_ever(failures):
    # Given a generator that raises in place of its sixth batch
    facts = failures["exception_in_the_data"]
    # Then the user sees what they would have seen without the recorder,
    assert facts["recorded"] == facts["plain"]
    assert facts["plain"][1]
    # the trace holds the five steps,
    run = failures.run("exception_in_the_data")
    assert (run.steps, run.status) == (5, "interrupted")
    assert_steps_follow_from_each_other(run, range(5))
    # and a later fit works and is not recorded
    assert facts["later_fit_trained"]
    assert facts["left_behind"] == []


def test_an_interrupted_run_is_continued_by_the_same_callback(failures):
    # Given a fit interrupted after four steps, when the model is fitted with the same callback
    facts = failures["continued_with_the_same_callback"]
    # Then the run goes on with the six steps of the second fit, and is complete
    run = failures.run("continued_with_the_same_callback")
    assert (run.steps, run.status) == (10, "complete")
    assert run.fit.tolist() == [0] * 4 + [1] * 6
    assert run.about["events"] == []
    assert facts["left_behind"] == []


def test_after_an_interrupted_run_another_callback_records_its_own(failures):
    # Given a fit interrupted after four steps, when the model is fitted with another callback
    facts = failures["continued_with_another_callback"]
    # Then the first trace ends where it was interrupted,
    first = failures.run("continued_with_another_callback")
    assert (first.steps, first.status) == (4, "interrupted")
    assert first.about["events"] == []
    # the second holds the second fit, beginning where the first ended,
    second = failures.run("continued_with_another_callback_second")
    assert (second.steps, second.status) == (6, "complete")
    for end, begin in zip(state(first, 3, "after"), state(second, 0)):
        assert np.array_equal(end, begin)
    assert_steps_follow_from_each_other(second, range(6))
    # and neither is left on the model nor records a third fit
    assert facts["left_behind"] == []
    assert facts["second_untouched_by_a_later_fit"]


def test_of_two_callbacks_in_one_fit_one_records_and_the_other_says_so(failures):
    # Given two of the recorder's callbacks in one fit
    facts = failures["two_callbacks_in_one_fit"]
    # Then the later one records it, and one line names the trace that is not written
    run = failures.run("two_callbacks_in_one_fit_second")
    assert (run.steps, run.status) == (6, "complete")
    assert len(facts["said"]) == 1
    assert "two_callbacks_in_one_fit.zarr" in facts["said"][0]
    assert not (failures.folder / "two_callbacks_in_one_fit.zarr").exists()
    assert facts["left_behind"] == []


def test_a_killed_process_leaves_a_readable_trace(stack, tmp_path):
    # Given a training that is killed, with no chance to clean up, 6.5 s after its first step
    stack.run(PROGRAMS / "killed.py", stack.name, tmp_path, status=-9)
    trained = int((tmp_path / "steps.txt").read_text())
    # When its trace is opened
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    # Then it holds the steps of the first five seconds, and says that it has no end
    assert run.status == "recording"
    assert trained / 2 < run.steps <= trained
    # Every value in it can be read and is as it was hashed, and steps follow from each other
    for tensor in run.tensors:
        for step in range(0, run.steps, 20):
            if run.kept(tensor)[step]:
                run.read(tensor, step)
    assert_steps_follow_from_each_other(run, [*range(0, run.steps, 20), run.steps - 1])


def test_a_fit_of_which_no_step_was_seen_is_said_to_be_lost(failures):
    # Given two fits without an epoch to train, and one that trains
    nothing, again, trained = failures["fits_without_a_step"]["said"]
    # Then the first is said to have left nothing, once, and of the last nothing is said,
    (line,) = nothing
    assert "no step of this fit was seen, so nothing of it is recorded" in line
    assert again == trained == []
    # which is recorded from its first step
    run = failures.run("fits_without_a_step")
    assert (run.steps, run.status) == (4, "complete")


# --- the disk fails


def assert_undisturbed(failures, name):
    """Same weights, nothing left behind, no traceback; returns the one line on stderr."""
    facts = failures[name]
    assert facts["same_weights"]
    assert facts["left_behind"] == []
    assert facts["traceback"] == []
    assert len(facts["said"]) == 1, facts["said"]
    assert f"{name}.zarr" in facts["said"][0] or "a.zarr" in facts["said"][0]
    assert "training goes on" in facts["said"][0]
    return facts["said"][0]


def test_missing_parent_folders_are_made(failures):
    # Given a path whose parents are not there, when a fit is recorded to it
    facts = failures["missing_parents"]
    # Then they are made, and nothing is said
    run = tracediff.open_trace(failures.folder / "not" / "yet" / "there" / "a.zarr").runs[0]
    assert (run.steps, run.status) == (6, "complete")
    assert facts["same_weights"]
    assert facts["said"] == []
    # but what the trace may take on disk, which nobody has limited
    (line,) = facts["announced"]
    assert "a.zarr, at most " in line
    assert "of disk" in line


def test_a_folder_that_cannot_be_made_costs_the_trace_and_not_the_training(failures):
    # Given a path below a regular file, when a fit is recorded to it
    said = assert_undisturbed(failures, "path_below_a_file")
    # Then the one line names the reason
    assert "Not a directory" in said
    assert (failures.folder / "file").read_text() == "no folder"


def test_a_full_disk_costs_the_trace_and_not_the_training(failures):
    # Given that no file can grow beyond 64 KiB, when a fit with larger batches is recorded
    said = assert_undisturbed(failures, "full_disk")
    # Then the one line names the reason
    assert "File too large" in said
    # and what is there opens, and says that it failed
    run = failures.run("full_disk")
    assert run.status == "failed"
    assert [e["kind"] for e in run.about["events"]] == ["failure"]


# --- the recorder fails


def test_an_error_while_a_step_is_recorded_ends_the_recording_only(failures):
    # Given that recording the third step raises, when a fit is recorded
    said = assert_undisturbed(failures, "error_while_a_step_is_recorded")
    # Then the one line and the trace say why, and the trace keeps the two steps before
    assert "ValueError: boom" in said
    run = failures.run("error_while_a_step_is_recorded")
    assert (run.steps, run.status) == (2, "failed")
    assert [e["kind"] for e in run.about["events"]] == ["failure"]
    assert "boom" in run.about["events"][0]["message"]
    assert_steps_follow_from_each_other(run, range(2))


@pytest.mark.parametrize(
    "name",
    ["error_while_attaching", "error_inside_the_step", "error_where_a_gradient_is_seen"],
)
def test_an_error_before_the_first_step_ends_the_recording_only(failures, name):
    # Given that attaching to the model raises, or what is done while the first step runs
    # When a fit is recorded, then the one line says why
    assert "ValueError: boom" in assert_undisturbed(failures, name)


def test_an_error_in_the_writing_thread_ends_the_recording_only(failures):
    # Given that writing the third step raises, when a fit is recorded
    said = assert_undisturbed(failures, "error_in_the_writer")
    # Then the one line and the trace say why
    assert "ValueError: boom" in said
    assert failures.run("error_in_the_writer").status == "failed"


def test_no_failure_shows_a_traceback(failures):
    # Given all of these failures in one process, when it has ended with status 0
    # Then its stderr, the end of the process included, has no traceback of anything
    assert "Traceback" not in failures.stderr


# --- the path is taken; no framework needed


def small_trace(path):
    recorder = Recorder(path)
    recorder.begin_run({}, [TensorSpec("a", "weight", "float32", (2,))])
    value = {("weight", "a"): np.array([1, 2], np.float32)}
    recorder.record_step(before=value, observed={}, after=value)
    recorder.close()


def contents(path):
    return {
        p: p.read_bytes() for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()
    }


def make_trace(path):
    small_trace(path)


def make_file(path):
    path.write_text("precious")


def make_folder(path):
    path.mkdir()
    (path / "precious.txt").write_text("precious")


def make_other_zarr(path):
    zarr.open_group(path, mode="w", zarr_format=2).create_array("a", shape=(2,), dtype="f4")


@pytest.mark.parametrize("make", [make_trace, make_file, make_folder, make_other_zarr])
def test_what_stands_at_the_path_is_never_overwritten_silently(tmp_path, make):
    # Given something at the path
    path = tmp_path / "a.zarr"
    make(path)
    before = contents(path)
    # When a callback is made for it, the error comes at once, with the path and the way out
    with pytest.raises(TraceExistsError) as raised:
        TraceCallback(path)
    assert isinstance(raised.value, FileExistsError)
    assert str(path) in str(raised.value)
    assert "overwrite=True" in str(raised.value)
    # and nothing is touched
    assert contents(path) == before


@pytest.mark.parametrize("make", [make_file, make_folder, make_other_zarr])
def test_only_a_trace_is_ever_replaced(tmp_path, make):
    # Given something at the path that is not a trace
    path = tmp_path / "a.zarr"
    make(path)
    before = contents(path)
    # When a callback is made with overwrite=True, then that is refused
    with pytest.raises(TraceExistsError, match="not a trace"):
        TraceCallback(path, overwrite=True)
    assert contents(path) == before


def test_a_trace_is_replaced_when_the_user_says_so(tmp_path):
    # Given a trace with a file of the user's beside its arrays
    path = tmp_path / "a.zarr"
    small_trace(path)
    (path / "old").write_text("old")
    # When a recorder is made with overwrite=True, the old one stays until there is a new one
    recorder = Recorder(path, overwrite=True)
    assert (path / "old").exists()
    recorder.begin_run({}, [])
    recorder.close()
    # and then is gone
    assert not (path / "old").exists()
    assert tracediff.open_trace(path).runs[0].steps == 0


def test_an_empty_folder_is_room_for_a_trace(tmp_path):
    # Given an empty folder, as `mktemp -d` makes them, when a trace is written there, then it is
    path = tmp_path / "a.zarr"
    path.mkdir()
    small_trace(path)
    assert tracediff.open_trace(path).runs[0].steps == 1


def test_what_appears_at_the_path_before_training_begins_is_kept(tmp_path, capsys):
    # Given two recorders for one path, both made before either has written
    path = tmp_path / "a.zarr"
    late = Recorder(path)
    small_trace(path)
    before = contents(path)
    # When the second begins
    late.begin_run({}, [])
    late.flush()
    # Then the first one's trace is untouched, and one line says that the second has none
    assert late.failed
    assert contents(path) == before
    (said,) = capsys.readouterr().err.splitlines()
    assert "exists already" in said
    late.close()


def test_a_callback_that_never_trains_leaves_nothing(tmp_path):
    # Given a callback that no fit is given, when it ends
    TraceCallback(tmp_path / "a.zarr").close()
    # Then nothing was written
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"level": "everything"}, {"compression": "gzip"}])
def test_an_option_that_does_not_exist_is_refused_at_once(tmp_path, options):
    # Given a level or a compression that does not exist, when a callback is made, then it raises
    with pytest.raises(ValueError, match=next(iter(options))):
        TraceCallback(tmp_path / "a.zarr", **options)


# --- the model is of no known kind


def test_a_model_that_no_hook_knows_is_refused_by_name():
    # Given an object that is no model of a supported framework, when a hook is asked for
    with pytest.raises(UnsupportedModel, match="supported are") as raised:
        hook_for(object(), session=None)
    # Then the message names its class
    assert "builtins.object" in str(raised.value)


def test_a_callback_says_once_that_it_cannot_record_a_model(tmp_path, capsys):
    # Given a model of an unsupported framework
    class Model:
        pass

    model = Model()
    callback = TraceCallback(tmp_path / "a.zarr")
    # When its two fits call the callback as Keras does
    for _ in range(2):
        callback.set_params({"epochs": 1})
        callback.set_model(model)
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        callback.on_train_batch_begin(0)
        callback.on_train_batch_end(0, {"loss": 1.0})
        callback.on_epoch_end(0, {})
        callback.on_train_end()
    callback.close()
    # Then it says so once, attaches nothing and writes nothing
    (said,) = capsys.readouterr().err.splitlines()
    assert "nothing is recorded" in said
    assert vars(model) == {}
    assert list(tmp_path.iterdir()) == []
