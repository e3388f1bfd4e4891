"""A disk that fills: training goes on, and what is left of the trace opens and says why it ended.

The disk here is counted: so many bytes may be written, and what is removed is free again. On the
stacks `test_failures.py` lets real files run into a limit.
"""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

import tracediff
from tracediff.cli import main
from tracediff_hooks import files
from tracediff_hooks.recorder import Recorder, TensorSpec

KERNEL = ("weight", "hidden/kernel")
RESERVED = 256 << 10
"""What a recorder keeps for its last words."""
STEPS = 4


class SmallDisk:
    """A disk with room for so many bytes; files that are written over count anew."""

    def __init__(self, monkeypatch, room):
        self.room = room
        self._plain, self._unlink = files._write_all, os.unlink
        monkeypatch.setattr(files, "_write_all", self.write)
        monkeypatch.setattr(os, "unlink", self.unlink)

    def write(self, file, data, offset):
        size = memoryview(data).nbytes
        if size > self.room:
            self._plain(file, memoryview(data).cast("B")[: self.room], offset)
            self.room = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= size
        self._plain(file, data, offset)

    def unlink(self, path, *, dir_fd=None):
        size = os.stat(path, dir_fd=dir_fd).st_size
        self._unlink(path, dir_fd=dir_fd)
        self.room += size


def train(path):
    """Four steps, each of which adds one to a kernel of 8 KB."""
    kernel = np.zeros((2000,), np.float32)
    about = {"model": {"layers": [{"name": "hidden", "config": {"note": "x" * 3000}}]}}
    recorder = Recorder(path)
    recorder.begin_run(
        about, [TensorSpec(KERNEL[1], KERNEL[0], "float32", (2000,))], expected_steps=STEPS
    )
    for step in range(STEPS):
        recorder.record_step(
            before={} if step else {KERNEL: kernel}, observed={}, after={KERNEL: kernel + step + 1}
        )
    recorder.close()


def said(capsys):
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if ", at most " not in line]


def test_a_disk_without_room_for_a_beginning_leaves_nothing_at_the_path(
    tmp_path, capsys, monkeypatch
):
    # Given a disk that is nearly full from the beginning
    disk = SmallDisk(monkeypatch, 100 << 10)
    # When a training is recorded there, then one line says why it is not,
    train(tmp_path / "a.zarr")
    (line,) = said(capsys)
    assert "before anything was kept" in line
    assert os.strerror(errno.ENOSPC) in line
    # and nothing is left that could be taken for a trace
    assert not (tmp_path / "a.zarr").exists()
    assert disk.room > 0


def test_a_disk_that_fills_before_the_first_step_leaves_a_trace_that_says_so(
    tmp_path, capsys, monkeypatch
):
    # Given a disk that has room for what a trace reserves and little more
    SmallDisk(monkeypatch, RESERVED + 2000)
    path, whole = tmp_path / "a.zarr", tmp_path / "b.zarr"
    train(path)
    monkeypatch.undo()
    train(whole)
    # When the trace is opened, then it has no step and the reason,
    (run,) = tracediff.open_trace(path).runs
    assert (run.steps, run.status) == (0, "failed")
    (event,) = run.about["events"]
    assert event["kind"] == "failure"
    assert os.strerror(errno.ENOSPC) in event["message"]
    # which is also what a comparison with it says
    capsys.readouterr()
    assert main(["compare", str(path), str(whole)]) == 2
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err


def test_wherever_a_disk_fills_the_trace_opens_and_its_steps_are_whole(
    tmp_path, capsys, monkeypatch
):
    # Given disks of all sizes
    ends = set()
    for number, room in enumerate(range(RESERVED - 2000, RESERVED + 60000, 1000)):
        path = tmp_path / f"{number}.zarr"
        with monkeypatch.context() as patch:
            SmallDisk(patch, room)
            train(path)
        lines = said(capsys)
        if not path.exists():
            assert len(lines) == 1
            ends.add("none")
            continue
        # When their traces are opened, then each is complete, or says why it is not,
        (run,) = tracediff.open_trace(path).runs
        assert run.status == ("failed" if lines else "complete")
        assert [event["kind"] for event in run.about["events"]] == ["failure"] * len(lines)
        # every step that it has can be read and is the one that was trained,
        for step in range(run.steps):
            assert (run.read(run.tensor(*KERNEL), step, "after") == step + 1).all()
        # and nothing is left of what was reserved, or begun
        assert not [*path.glob(".reserve*"), *path.rglob("*.part")]
        ends.add((run.steps, run.status))
    # (there were disks without a trace, with none, some and all of the steps)
    assert {"none", (0, "failed"), (2, "failed"), (STEPS, "complete")} <= ends


@pytest.mark.parametrize("room", range(100 << 10, 148 << 10, 12 << 10))
def test_values_that_wait_do_not_take_the_room_of_the_last_words(
    tmp_path, capsys, monkeypatch, room
):
    # Given a model of many words, and compressed values that wait for their chunks to fill: more of
    # them than the disk can take, the reserve included
    path = tmp_path / "a.zarr"
    kernels = [("weight", f"hidden_{number}/kernel") for number in range(12)]
    values = np.random.default_rng(3).random((12, 12_000)).astype(np.float32)
    SmallDisk(monkeypatch, RESERVED + room)
    # When they are written
    recorder = Recorder(path, compression="lz4")
    recorder.begin_run(
        {"model": {"layers": [{"name": "hidden", "config": {"note": "x" * 30_000}}]}},
        [TensorSpec(name, role, "float32", (12_000,)) for role, name in kernels],
        expected_steps=STEPS,
    )
    state = dict(zip(kernels, values, strict=True))
    recorder.record_step(before=state, observed={}, after=state)
    recorder.close()
    # Then one line says that the disk is full, and so does the trace
    (line,) = said(capsys)
    assert "before anything was kept" in line
    (run,) = tracediff.open_trace(path).runs
    assert (run.steps, run.status) == (0, "failed")
    (event,) = run.about["events"]
    assert (event["kind"], event["step"]) == ("failure", 0)
    assert os.strerror(errno.ENOSPC) in event["message"]
    assert not [*path.glob(".reserve*"), *path.rglob("*.part")]


def test_what_is_reserved_is_there_while_a_trace_is_recorded(tmp_path):
    # Given a trace that is being recorded
    path = tmp_path / "a.zarr"
    recorder = Recorder(path)
    recorder.begin_run({}, [])
    recorder.flush()
    # Then it takes what its last words may need, and a reader is not disturbed by it
    assert sum(file.stat().st_size for file in path.glob(".reserve*")) == RESERVED
    assert tracediff.open_trace(path).runs[0].steps == 0
    # and gives it back between two fits
    recorder.pause("complete")
    assert not list(path.glob(".reserve*"))
    recorder.resume()
    recorder.flush()
    assert len(list(path.glob(".reserve*"))) == len(files.LAST_WORDS)
    # and in the end
    recorder.close()
    assert not list(path.glob(".reserve*"))


@pytest.mark.parametrize("room", [0, 10])
def test_a_disk_that_takes_nothing_at_all_leaves_nothing(tmp_path, capsys, monkeypatch, room):
    # Given a disk that has room for no file, or for part of the first
    SmallDisk(monkeypatch, room)
    train(tmp_path / "a.zarr")
    # Then that is said, and nothing is there
    assert "No space left" in said(capsys)[0]
    assert not (tmp_path / "a.zarr").exists()
