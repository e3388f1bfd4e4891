"""Killed, full, gone or taken away: a trace that ends so holds what was flushed, and says so."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from support.stacks import stack_or_skip
from support.ways import ALL

import tracediff
from tracediff.errors import NotATrace
from tracediff_hooks import TraceExistsError, files, writer
from tracediff_hooks.recorder import Recorder, TensorSpec

PROGRAM = Path(__file__).parent / "programs" / "killed_at_random.py"
KERNEL = ("weight", "k")
TIMES = 4


KILLED = [
    pytest.param(name, marks=[] if name in ("keras2.3", "keras3") else pytest.mark.exhaustive)
    for name in ALL
]
"""A graph stack and a compiled one, and with `make test-all` the others."""


@pytest.mark.way("killed with `kill -9` at any moment", "recorded to the last flush", *ALL)
@pytest.mark.parametrize("name", KILLED)
def test_a_training_killed_at_any_moment_leaves_what_was_flushed(name, tmp_path):
    # Given trainings that are killed after times drawn anew in every run of this test
    seed = random.randrange(10**6)
    stack_or_skip(name).run(PROGRAM, name, tmp_path, str(seed), str(TIMES))
    for number in range(TIMES):
        trained, flushed = np.fromfile(tmp_path / f"{number}.txt", np.int64).tolist()
        # When their traces are opened
        try:
            (run,) = tracediff.open_trace(tmp_path / f"{number}.zarr").runs
        except NotATrace:
            assert not flushed, f"seed {seed}"  # killed before the writer had made a run
            continue
        # Then each has no end, holds all that was flushed and no step that was not trained
        # (the last may have been recorded and not yet counted),
        assert run.status == "recording", f"seed {seed}"
        assert flushed <= run.steps <= trained + 1, f"seed {seed}"
        # every value can be read and is as it was hashed,
        for tensor in run.tensors:
            for step in {0, run.steps // 2, run.steps - 1} if run.steps else ():
                for moment in ("before", "after"):
                    if run.kept(tensor, moment)[step]:
                        run.read(tensor, step, moment)
        # and the steps follow from each other
        for step in range(0, run.steps, max(1, run.steps // 10)):
            assert_step(run, step)


def assert_step(run, step):
    """The weights after a step are those before it less the rate times the gradient."""
    rate = run.read(run.tensor("learning_rate", "optimizer/learning_rate"), step)
    for weight in [tensor for tensor in run.tensors if tensor.role == "weight"]:
        gradient = run.read(run.tensor("gradient", weight.name), step)
        np.testing.assert_allclose(
            run.read(weight, step, "after"),
            run.read(weight, step) - rate * gradient,
            rtol=1e-6,
            atol=1e-7,
        )


# --- the store


class Training:
    """Steps of one weight, recorded one by one."""

    def __init__(self, path, **options):
        self.recorder = Recorder(path, **options)
        self.recorder.begin_run({}, [TensorSpec("k", "weight", "float32", (3,))])
        self.steps = 0

    def train(self, steps):
        for _ in range(steps):
            value = {KERNEL: np.full(3, self.steps, np.float32)}
            self.recorder.record_step(
                before=value if not self.steps else {},
                observed={},
                after={KERNEL: np.full(3, self.steps + 1, np.float32)},
            )
            self.steps += 1


def said(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    assert "training goes on" in line
    return line


class Killed(BaseException):
    """The process is gone: nothing after this happens."""


class AtOnce:
    """Does the writer's work where it is handed over, so that it can be ended at a given write."""

    failure = None

    def __init__(self, path, compression, *, overwrite, budget):
        self._state = writer.WriterState(path, compression, overwrite=overwrite, budget=budget)

    def reserve(self, size):
        pass

    def put(self, item, *, size=0):
        self._state.handle(item)

    def wait(self):
        pass

    def stop(self):
        self._state.close()


def killed_after(writes, monkeypatch):
    """Kills after so many writes; returns a list that has an entry for each that is left."""
    left = [None] * writes
    plain = {name: getattr(files.LocalFiles, name) for name in ("put", "put_at")}

    def counted(name):
        def write(self, *args, **kwargs):
            if not left:
                raise Killed
            left.pop()
            plain[name](self, *args, **kwargs)

        return write

    for name in plain:
        monkeypatch.setattr(files.LocalFiles, name, counted(name))
    return left


def test_killed_between_any_two_writes_a_trace_opens_or_says_that_it_holds_nothing(
    tmp_path, monkeypatch
):
    # Given three steps, a flush, and two more, ended by each of their writes in turn
    monkeypatch.setattr("tracediff_hooks.recorder.Writer", AtOnce)
    without_a_run = 0
    left = killed_after(0, monkeypatch)
    for writes in range(400):
        path = tmp_path / f"{writes}.zarr"
        left[:] = [None] * writes
        training, flushed, ended = None, 0, False
        try:
            training = Training(path)
            training.train(3)
            training.recorder.flush()
            flushed = 3
            training.train(2)
            training.recorder.flush()
            flushed, ended = 5, True
        except Killed:
            pass
        # When the trace is opened
        try:
            (run,) = tracediff.open_trace(path).runs
        except NotATrace:
            # Then there is none as long as nothing was flushed
            assert not flushed
            without_a_run += 1
            continue
        # or it holds what was flushed, and every value that it has is as it was hashed
        assert run.steps >= flushed
        assert run.status == "recording"
        for step in range(run.steps):
            assert run.read(run.tensor(*KERNEL), step, "after").tolist() == [step + 1] * 3
        if ended:
            break
    else:
        pytest.fail("the training needs more writes than were tried")
    assert 0 < without_a_run < writes


def test_killed_between_any_two_writes_a_trace_is_complete_only_with_all_of_its_steps(
    tmp_path, monkeypatch
):
    # Given a fit of three steps, and another of two, ended by each of their writes in turn
    monkeypatch.setattr("tracediff_hooks.recorder.Writer", AtOnce)
    seen = set()
    for writes in range(400):
        path = tmp_path / f"{writes}.zarr"
        done = 0
        with monkeypatch.context() as patch:
            left = killed_after(writes, patch)
            with contextlib.suppress(Killed):
                training = Training(path)
                training.train(3)
                training.recorder.pause("complete")
                training.recorder.resume()
                done = 3
                training.train(2)
                training.recorder.pause("complete")
                done = 5
        try:
            (run,) = tracediff.open_trace(path).runs
        except NotATrace:
            continue
        # When the trace says that it is complete, then all steps of the fits that began are there
        seen.add((run.steps, run.status, done))
        if run.status == "complete":
            assert run.steps == (5 if done else 3)
        if done == 5 and left:
            break
    else:
        pytest.fail("the training needs more writes than were tried")
    # (it was killed in both fits, between them, with all steps on disk and before it said so)
    assert {
        (0, "recording", 0),
        (3, "recording", 0),
        (3, "complete", 0),
        (3, "recording", 3),
        (5, "recording", 3),
        (5, "complete", 5),
    } <= seen


def contents(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("gone", ["removed", "moved away"])
def test_a_store_that_vanishes_ends_the_recording_only(tmp_path, capsys, gone):
    # Given a training whose trace is removed, or moved, after some steps
    path = tmp_path / "a.zarr"
    training = Training(path)
    training.train(3)
    training.recorder.flush()
    if gone == "removed":
        shutil.rmtree(path)
    else:
        path.rename(tmp_path / "b.zarr")
    # When it goes on
    training.train(3)
    training.recorder.flush()
    training.train(3)
    training.recorder.close()
    # Then one line says so, nothing is made at the path, and what was moved holds what it held
    line = said(capsys)
    assert "is gone" in line
    assert "readable" not in line
    assert not path.exists()
    if gone == "moved away":
        (run,) = tracediff.open_trace(tmp_path / "b.zarr").runs
        assert run.steps >= 3
        assert run.read(run.tensor(*KERNEL), 2, "after").tolist() == [3, 3, 3]


def test_a_second_process_may_not_write_into_a_trace(tmp_path, capsys):
    # Given a trace that is being recorded, and a recorder made for its path before it began
    path = tmp_path / "a.zarr"
    late = Recorder(path)
    first = Training(path)
    first.train(2)
    first.recorder.flush()
    # When another one begins there, then it is refused, be it made before or after
    with pytest.raises(TraceExistsError):
        Recorder(path)
    late.begin_run({}, [])
    late.flush()
    assert late.failed
    assert "exists already" in said(capsys)
    late.close()
    # and the first goes on
    first.train(2)
    first.recorder.close()
    assert tracediff.open_trace(path).runs[0].steps == 4


def test_of_two_that_begin_at_once_one_records(tmp_path, monkeypatch, capsys):
    # Given two recorders that both find the path free
    path = tmp_path / "a.zarr"
    for module in ("store", "recorder"):
        monkeypatch.setattr(f"tracediff_hooks.{module}.check_target", lambda *_, **__: None)
    first, second = Training(path), Training(path)
    for training in (first, second):
        training.train(2)
        training.recorder.flush()
    # Then one of them records and the other says why it does not
    assert [first.recorder.failed, second.recorder.failed].count(True) == 1
    assert "FileExistsError" in said(capsys)
    for training in (first, second):
        training.recorder.close()
    (run,) = tracediff.open_trace(path).runs
    assert (run.steps, run.status) == (2, "complete")


def test_what_replaced_a_trace_is_not_written_to(tmp_path, capsys):
    # Given a trace that another process replaces while it is being recorded
    path = tmp_path / "a.zarr"
    first = Training(path)
    first.train(2)
    first.recorder.flush()
    second = Training(path, overwrite=True)
    second.train(1)
    second.recorder.close()
    before = contents(path)
    # When the first one goes on
    first.train(5)
    first.recorder.close()
    # Then it says so, and the second one's trace is as it was
    assert "replaced by another process" in said(capsys)
    assert contents(path) == before
    assert tracediff.open_trace(path).runs[0].steps == 1


def test_a_link_to_a_trace_is_followed_when_the_trace_is_replaced(tmp_path):
    # Given a symbolic link to a trace
    target, link = tmp_path / "disk" / "a.zarr", tmp_path / "a.zarr"
    old = Training(target)
    old.train(3)
    old.recorder.close()
    link.symlink_to(target)
    # When a trace is recorded there with overwrite=True
    new = Training(link, overwrite=True)
    new.train(1)
    new.recorder.close()
    # Then what the link leads to was replaced, and the link is still one
    assert link.is_symlink()
    assert tracediff.open_trace(target).runs[0].steps == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_keeps_what_it_has(tmp_path, capsys, monkeypatch, number):
    # Given a disk that is full, or turns read-only, after some steps were flushed
    training = Training(tmp_path / "a.zarr")
    training.train(3)
    training.recorder.flush()

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "_write_all", refuse)
    # When the training goes on
    training.train(3)
    training.recorder.close()
    # Then one line says why and up to which step, and the trace opens with that
    line = said(capsys)
    assert os.strerror(number) in line
    assert "after step 2" in line
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    assert run.steps == 3
    assert run.read(run.tensor(*KERNEL), 2, "after").tolist() == [3, 3, 3]


def test_a_failure_of_the_recorder_itself_loses_no_whole_step(tmp_path, capsys, monkeypatch):
    # Given that writing the seventh step fails, which is not the disk's fault, before any flush
    training = Training(tmp_path / "a.zarr")
    plain = writer.WriterState._on_step

    def fails(self, *work):
        if self._about.steps == 6:
            raise ValueError("boom")
        plain(self, *work)

    monkeypatch.setattr(writer.WriterState, "_on_step", fails)
    training.train(9)
    training.recorder.close()
    # Then the six before are there, and one line and the trace say why
    line = said(capsys)
    assert "boom" in line
    assert "disk" not in line
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    assert (run.steps, run.status) == (6, "failed")
    assert "boom" in run.about["events"][-1]["message"]
    assert run.read(run.tensor(*KERNEL), 5, "after").tolist() == [6, 6, 6]


def test_steps_are_flushed_while_no_further_step_comes(tmp_path, monkeypatch):
    # Given a recorder that flushes after 50 ms, and a training that stands still after three steps
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.05)
    training = Training(tmp_path / "a.zarr")
    training.train(3)
    # Then they come to disk by themselves
    deadline = time.monotonic() + 60
    while steps_on_disk(tmp_path / "a.zarr") != 3:
        assert time.monotonic() < deadline, "nothing was flushed"
        time.sleep(0.02)
    training.recorder.close()


def steps_on_disk(path):
    try:
        return tracediff.open_trace(path).runs[0].steps
    except tracediff.TracediffError:
        return 0  # not begun
