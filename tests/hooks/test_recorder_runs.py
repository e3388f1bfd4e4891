"""Runs begin, pause, end and fail, and their steps reach the disk in chunks and in time.

Everything is read back with plain zarr, by the rules of docs/trace-format.md and with none of the
recorder's code.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import sys
import threading
import time

import numpy as np
import pytest
from support.plain_traces import Plain, f4, observed, record, weight, weights

from tracediff_hooks import background
from tracediff_hooks import recorder as recorder_module
from tracediff_hooks import store as store_module
from tracediff_hooks import values as values_module
from tracediff_hooks import writer as writer_module
from tracediff_hooks._tell import tell
from tracediff_hooks.budget import DEFAULT_BYTES, Budget
from tracediff_hooks.recorder import Recorder


def test_another_run_ends_the_one_before(tmp_path):
    # Given two runs begun one after the other
    recorder = Recorder(tmp_path / "a.zarr")
    one, two = weights(1, 2)
    recorder.begin_run({"model": "first"}, [weight()])
    recorder.record_step(before=one, observed={}, after=two)
    recorder.begin_run({"model": "second"}, [weight()])
    recorder.record_step(before=two, observed={}, after=two)
    recorder.record_step(before=two, observed={}, after=two)
    recorder.close("interrupted")
    # Then each stands for itself: its steps, its versions from 0, its status
    first, second = (Plain(tmp_path / "a.zarr", name) for name in ("run-0", "run-1"))
    assert (first.steps, first.about["status"], first.about["model"]) == (1, "complete", "first")
    assert (second.steps, second.about["status"]) == (2, "interrupted")
    assert second.versions("weight", "w") == [0, 0, 0]
    assert second.stored("weight", "w")[0].tolist() == [2, 2]


def test_flushed_steps_are_readable_while_the_run_goes_on(tmp_path):
    # Given three steps, a flush, and two more steps
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    states = weights(*range(6))
    for step in range(5):
        recorder.record_step(before=states[step], observed={}, after=states[step + 1])
        if step == 2:
            recorder.flush()
    # When the trace is opened without waiting for the rest
    run = Plain(tmp_path / "a.zarr")
    # Then progress tells three steps, and these are there
    assert (run.steps, run.about["status"]) == (3, "recording")
    assert [v[0] for v in run.rows("weight", "w")[:4]] == [0, 1, 2, 3]
    recorder.close()
    assert Plain(tmp_path / "a.zarr").steps == 5


def test_flushes_happen_by_themselves_in_time(tmp_path, monkeypatch):
    # Given that five seconds are promised, when that time has passed since the last flush
    assert writer_module.FLUSH_SECONDS <= 5
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 0)
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    one, two = weights(1, 2)
    recorder.record_step(before=one, observed={}, after=two)
    recorder._writer.wait()
    # Then the step is on disk though nobody asked for it
    assert Plain(tmp_path / "a.zarr").steps == 1
    recorder.close()


def test_what_each_step_adds_to_the_attributes_is_written_once_a_flush(tmp_path, monkeypatch):
    # Given many steps that update no weight, each of which is an event
    written = []
    write = store_module.RunGroup.write_attributes
    monkeypatch.setattr(
        store_module.RunGroup,
        "write_attributes",
        lambda run, attributes: (written.append(len(attributes["events"])), write(run, attributes)),
    )
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 1000)
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight(trainable=True)])
    (state,) = weights(1)
    for _ in range(50):
        recorder.record_step(before=state, observed={}, after=state, may_skip="gradients add up")
    recorder.close()
    # Then they are written ahead of the steps, once more when the run has ended, and never else
    assert written == [0, 50, 50]
    events = Plain(tmp_path / "a.zarr").about["events"]
    assert [(event["step"], event["kind"]) for event in events] == [
        (step, "no-update") for step in range(50)
    ]


def test_a_writer_that_has_given_up_costs_nothing(tmp_path, monkeypatch):
    # Given a disk that refuses the first flush
    def refuse(run, steps):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 0)
    monkeypatch.setattr(store_module.RunGroup, "flush", refuse)
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    one, two = weights(1, 2)
    recorder.record_step(before=one, observed={}, after=two)
    recorder._writer.wait()
    assert recorder.failed
    # When the training goes on, then its thread sleeps
    attempts = []
    monkeypatch.setattr(recorder._writer, "_attempt", lambda *args: attempts.append(args))
    time.sleep(0.3)
    assert attempts == []
    recorder.close()


def _ends_soon(action):
    """Whether an action ends, instead of waiting for ever."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(30)
    return not thread.is_alive()


def test_nobody_waits_for_a_writer_whose_last_words_failed(tmp_path, monkeypatch):
    # Given a disk that refuses, and a writer that cannot even say so
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.RunGroup, "append_step", refuse)
    monkeypatch.setattr(writer_module.WriterState, "give_up", refuse)
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    one, two = weights(1, 2)
    recorder.record_step(before=one, observed={}, after=two)
    # When the recorder is closed, then that ends
    assert _ends_soon(recorder.close)
    assert recorder.failed or recorder._writer is None


def test_room_reserved_for_a_step_that_never_came_holds_up_no_other(tmp_path):
    # Given Ctrl-C between the reservation of room for a step and the step itself
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    recorder._writer.reserve(2 * background.QUEUE_BYTES)
    # When the next fit records
    states = weights(*range(4))

    def go_on():
        for before, after in itertools.pairwise(states):
            recorder.record_step(before=before, observed={}, after=after)
        recorder.close()

    # Then it is not kept waiting
    assert _ends_soon(go_on)
    assert Plain(tmp_path / "a.zarr").steps == 3


def test_without_a_stderr_nothing_is_said_and_nothing_raised(monkeypatch, capsys):
    # Given a process whose stderr nobody reads any more, that has closed it, or that has none
    reading, writing = os.pipe()
    os.close(reading)
    broken = os.fdopen(writing, "w", buffering=1)
    closed = io.StringIO()
    closed.close()
    # or that a script has put something of its own in its place, which fails
    for stream in (broken, closed, None, object()):
        monkeypatch.setattr(sys, "stderr", stream)
        # When the recorder has something to tell, then that is all that happens
        tell("a disk is full")
    with pytest.raises(BrokenPipeError):
        broken.close()
    assert capsys.readouterr().out == ""


def test_a_disk_that_cannot_be_asked_has_unknown_room(tmp_path, monkeypatch):
    # Given a place that may not be looked at, when what is free there is asked for
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    # Then that cannot be told, and the default stands
    budget = Budget(None, str(tmp_path / "a.zarr"))
    budget.settle()
    assert (budget.free(), budget.limit) == (None, DEFAULT_BYTES)
    # and where only the trace itself is not there yet, its disk is asked
    monkeypatch.undo()
    assert Budget(None, str(tmp_path / "deep" / "a.zarr")).free() > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_records_what_it_began_and_leaves_alone_what_it_did_not(tmp_path):
    # Given a recorder that has recorded a step, and one that has not begun
    recorder, unused = Recorder(tmp_path / "a.zarr"), Recorder(tmp_path / "b.zarr")
    one, two, three = weights(1, 2, 3)
    recorder.begin_run({}, [weight()])
    recorder.record_step(before=one, observed={}, after=two)
    recorder.flush()
    # When a process is forked, and both record a step there
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert recorder.failed
            assert not unused.failed
            recorder.record_step(before=two, observed={}, after=three)
            unused.begin_run({}, [weight()])
            unused.record_step(before=one, observed={}, after=three)
            unused.close()
            recorder.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    # Then the first trace is still that of the process that began it,
    recorder.record_step(before=two, observed={}, after=two)
    recorder.close()
    assert [v[0] for v in Plain(tmp_path / "a.zarr").rows("weight", "w")] == [1, 2, 2]
    # and the second was brought to disk by the child
    assert [v[0] for v in Plain(tmp_path / "b.zarr").rows("weight", "w")] == [1, 3]


def test_a_paused_run_is_complete_and_goes_on(tmp_path):
    # Given a run that a fit ended and another fit continues
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    one, two, three = weights(1, 2, 3)
    recorder.record_step(before=one, observed={}, after=two)
    recorder.pause("complete")
    run = Plain(tmp_path / "a.zarr")
    assert (run.steps, run.about["status"]) == (1, "complete")
    # When it goes on, then it says so until it ends again
    recorder.resume()
    recorder.record_step(before=two, observed={}, after=three)
    recorder.flush()
    run = Plain(tmp_path / "a.zarr")
    assert (run.steps, run.about["status"]) == (2, "recording")
    recorder.pause("complete")
    # and the end of the process does not undo that
    recorder.close("interrupted")
    run = Plain(tmp_path / "a.zarr")
    assert (run.steps, run.about["status"]) == (2, "complete")


@pytest.mark.parametrize("flush_every", [1, 3, 1000])
def test_values_may_cross_chunks_at_any_place(tmp_path, monkeypatch, flush_every):
    # Given chunks of 40 bytes, five values of eight bytes, and flushes in between
    monkeypatch.setattr(values_module, "CHUNK_BYTES", 40)
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight(), observed("input/0", "input", shape=None, ragged=True)])
    key = ("input", "input/0")
    states = weights(*range(24))
    batches = [np.arange(n % 4 * 3, dtype=np.float32).reshape(-1, 3) + n for n in range(23)]
    for step, batch in enumerate(batches):
        recorder.record_step(before=states[step], observed={key: batch}, after=states[step + 1])
        if step % flush_every == 0:
            recorder.flush()
    recorder.close()
    # Then all 24 states and 23 batches come back
    run = Plain(tmp_path / "a.zarr")
    assert run.group["values/weight/w"].chunks == (5, 2)
    assert [v.tolist() for v in run.rows("weight", "w")] == [[n, n] for n in range(24)]
    for found, batch in zip(run.rows(*key), batches):
        assert np.array_equal(found, batch)


def test_a_value_larger_than_a_codec_takes_is_split(tmp_path, monkeypatch):
    # Given that a chunk may have 64 bytes, when a value has 400
    monkeypatch.setattr(values_module, "CHUNK_BYTES", 40)
    monkeypatch.setattr(values_module, "MAX_CHUNK_BYTES", 64)
    value = np.arange(100, dtype=np.float32).reshape(25, 4)
    key = ("weight", "w")
    run = record(tmp_path / "a.zarr", [weight(shape=(25, 4))], [({key: value}, {key: value + 1})])
    # Then its chunks are parts of it, and it comes back whole
    assert run.group["values/weight/w"].chunks == (1, 4, 4)
    assert np.array_equal(run.rows(*key)[1], value + 1)


def test_many_small_steps_make_few_files(tmp_path):
    # Given 300 steps of a small weight and a loss
    states = weights(*range(301))
    loss = ("loss", "loss")
    run = record(
        tmp_path / "a.zarr",
        [weight(), observed("loss", "loss")],
        [(a, {loss: np.float32(i)}, b) for i, (a, b) in enumerate(zip(states, states[1:]))],
    )
    assert run.rows(*loss)[299] == 299
    # Then they lie in few chunks, for a file a tensor and step is what makes recording slow
    chunks = [
        p
        for p in (tmp_path / "a.zarr/run-0").rglob("*")
        if p.is_file() and not p.name.startswith(".")
    ]
    assert len(chunks) < 60


def test_a_slow_disk_makes_training_wait_and_loses_nothing(tmp_path, monkeypatch):
    # Given that the writer may fall behind by 100 bytes, when values of 8 and of 400 bytes come
    monkeypatch.setattr(background, "QUEUE_BYTES", 100)
    specs = [weight(), weight("large", shape=(100,))]
    states = [
        {("weight", "w"): f4(n, n), ("weight", "large"): np.full(100, n, np.float32)}
        for n in range(30)
    ]
    run = record(tmp_path / "a.zarr", specs, list(zip(states, states[1:])))
    # Then nothing is lost, and nothing waits for ever
    assert run.steps == 29
    assert [v[99] for v in run.rows("weight", "large")] == list(range(30))


def test_steps_however_small_do_not_pile_up(tmp_path, monkeypatch):
    # Given a writer that is slower than a training of small steps
    plain = writer_module.WriterState._on_step

    def slow(self, *work):
        time.sleep(0.002)
        plain(self, *work)

    monkeypatch.setattr(writer_module.WriterState, "_on_step", slow)
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    recorder.flush()
    waiting = []
    for one, two in itertools.pairwise(weights(*range(301))):
        recorder.record_step(before=one, observed={}, after=two)
        waiting.append(recorder._writer._queue.qsize())
    recorder.close()
    # Then a few wait, training waits for the others, and all are there
    assert 1 < max(waiting) <= background.QUEUE_BYTES / recorder_module.LEAST_BYTES
    assert Plain(tmp_path / "a.zarr").steps == 300


def test_recording_into_a_failed_recorder_is_harmless(tmp_path, capsys):
    # Given a recorder whose disk fails
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file" / "a.zarr")
    recorder.begin_run({}, [weight()])
    recorder.flush()
    assert recorder.failed
    # When steps, fits, flushes and the end follow, then none raises, and one line was said
    (state,) = weights(1)
    for _ in range(3):
        recorder.begin_fit({})
        recorder.record_step(before=state, observed={}, after=state)
        recorder.pause("complete")
        recorder.resume()
    recorder.close()
    recorder.close()
    assert len(capsys.readouterr().err.splitlines()) == 1
