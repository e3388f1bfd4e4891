"""`tracediff-record --selftest` says whether recording changes a training.

On real stacks a script that trains the same, one that is made to notice the recorder, and one that
differs from itself; the comparison alone by arrays.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.stacks import stack_or_skip
from support.ways import ALL

import tracediff
from tracediff_hooks.selftest import Parted, Witnessed, _verdict, compare

PROGRAMS = Path(__file__).parent / "programs"
RECORD = ("-m", "tracediff_hooks", "record")
KEEPS_VELOCITY = ("keras2.3", "tf2.15", "tf-keras")
"""Where plain SGD has a slot for each weight."""

TRAINING = """
import os, sys, threading
import numpy as np
sys.path.insert(0, {programs!r})
from frameworks import keras, start
start(3)
x = np.linspace(-1, 1, 48).reshape(16, 3).astype("float32")
model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,), name="out")])
model.compile("sgd", "mse")
batches = []

class Act(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        batches.append(batch)
        {act}

model.fit(x, x[:, :2], batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=[Act()])
"""
READ_ELSEWHERE = """
import sys, threading
import numpy as np
sys.path.insert(0, {programs!r})
from frameworks import keras, start
start(3)
elsewhere = []

class Model(keras.Sequential):
    def get_weights(self):
        if threading.current_thread() is not threading.main_thread():
            elsewhere.append(threading.current_thread().name)
        return super().get_weights()

x = np.linspace(-1, 1, 48).reshape(16, 3).astype("float32")
model = Model([keras.layers.Input((3,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
model.fit(x, x[:, :2], batch_size=4, epochs=2, shuffle=False, verbose=0)
sys.exit(3 if elsewhere else 0)
"""
NOTICES = """
        if len(batches) == 3 and any(t.name == "tracediff-writer" for t in threading.enumerate()):
            self.model.set_weights([w + np.float32(0.5) for w in self.model.get_weights()])
"""
RANDOM = """
        if len(batches) == 5:
            noise = int.from_bytes(os.urandom(2), "little")
            self.model.set_weights([w + np.float32(noise) for w in self.model.get_weights()])
"""


def script(folder, act):
    path = folder / "train.py"
    path.write_text(TRAINING.format(programs=str(PROGRAMS), act=act))
    return path


def kept(trace):
    return json.loads((trace / ".zattrs").read_text())["tracediff"]["selftest"]


@pytest.mark.way("`tracediff-record --selftest`", "equal bit for bit", *ALL)
def test_a_script_that_trains_the_same(training, tmp_path):
    # Given a script that is itself reproducible, when it is tested, then one line says it is equal,
    (tmp_path / "tmp").mkdir()
    done = training.run(
        *RECORD,
        "--selftest",
        "-o",
        tmp_path / "a.zarr",
        script(tmp_path, "pass"),
        env={"TMPDIR": str(tmp_path / "tmp")},
    )
    (line,) = done.stdout.splitlines()
    assert "8 steps" in line
    assert "equal bit for bit" in line
    # and the trace is kept and says so too
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    assert (run.steps, run.status) == (8, "complete")
    assert (kept(tmp_path / "a.zarr")["verdict"], kept(tmp_path / "a.zarr")["steps"]) == (
        "equal",
        8,
    )
    # and of the runs that were compared nothing is left
    assert list((tmp_path / "tmp").glob("tracediff*")) == []


@pytest.mark.parametrize(
    "name", ["tf2.3", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ALL if n != "tf2.3")]
)
def test_a_training_that_the_recorder_changes(name, tmp_path):
    # Given a script that adds a half to its weights at the third step where the recorder works
    path = script(tmp_path, NOTICES)
    # When it is tested
    stack = stack_or_skip(name)
    done = stack.run(*RECORD, "--selftest", "-o", tmp_path / "a.zarr", path, status=1)
    # Then it is said to differ from that step on, in both weights, and the trace says it as well
    (line,) = done.stdout.splitlines()
    assert "differs from step 2 on" in line or "differs from step 3 on" in line
    assert "itself" not in line
    assert kept(tmp_path / "a.zarr")["verdict"] == "differs"
    slots = 2 if name in KEEPS_VELOCITY else 0
    assert kept(tmp_path / "a.zarr")["different"] == 2 + slots


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["keras3-jax", "keras3-torch"])
def test_weights_are_read_before_the_next_step_trains_them(name, tmp_path):
    # Given a script without callbacks, for which Keras 3 may run others in the background,
    # and which fails where its weights are read there
    path = tmp_path / "train.py"
    path.write_text(READ_ELSEWHERE.format(programs=str(PROGRAMS)))
    # When it is tested, then it trains to its end and is the same
    done = stack_or_skip(name).run(*RECORD, "--selftest", path)
    (line,) = done.stdout.splitlines()
    assert "8 steps" in line
    assert "equal bit for bit" in line


def test_a_training_that_differs_from_itself(tf23, tmp_path):
    # Given a script that draws from the system at the fifth step, when it is tested
    done = tf23.run(*RECORD, "--selftest", script(tmp_path, RANDOM), status=1)
    # Then the recorder is not blamed, the step is named, and no trace is left
    (line,) = done.stdout.splitlines()
    assert "differs from itself without the recorder, from step" in line
    assert not list(tmp_path.glob("*.zarr"))


def test_a_script_that_fails_is_an_error(tf23, tmp_path):
    # Given a script that ends with a status of its own, when it is tested
    path = tmp_path / "train.py"
    path.write_text("import sys; sys.exit(7)\n")
    done = tf23.run(*RECORD, "--selftest", path, status=2)
    # Then one line says so
    assert done.stdout == ""
    assert "error: the script ended with status 7" in done.stderr


# --- the comparison alone


def run_of(*steps, final=(1.0, 2.0)):
    return Witnessed(
        np.array(steps), {f"final/0/{i}": np.float32([v]) for i, v in enumerate(final)}
    )


def test_equal_runs_do_not_part():
    run = run_of(["a", "b"], ["c", "d"])
    assert compare(run, run) == Parted(None, 0, 2, 0.0)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (run_of(["a", "b"], ["c", "x"]), Parted(1, 0, 2, 0.0)),
        (run_of(["a", "b"]), Parted(1, 0, 2, 0.0)),
        (run_of(["a"], ["c"]), Parted(0, 0, 2, 0.0)),
        (run_of(["a", "b"], ["c", "d"], final=(1.5, 2.0)), Parted(None, 1, 2, 0.5)),
        (run_of(["a", "b"], ["c", "d"], final=(1.0,)), Parted(None, 1, 2, float("inf"))),
    ],
)
def test_runs_part_where_they_first_differ(other, expected):
    # Given runs that differ in a digest, in length, in weights, or in final values only
    assert compare(run_of(["a", "b"], ["c", "d"]), other) == expected


SAME = Parted(None, 0, 2, 0.0)


def at(step):
    return Parted(step, 1, 2, 0.1)


@pytest.mark.parametrize(
    ("parted", "again", "verdict"),
    [
        (at(3), SAME, "differs"),
        (at(3), at(3), "irreproducible"),
        (at(5), at(3), "irreproducible"),
        (at(2), at(3), "differs"),
        (at(None), at(None), "irreproducible"),
        (at(3), at(None), "differs"),
    ],
)
def test_the_recorder_is_blamed_only_for_what_comes_before(parted, again, verdict):
    # Given where the recorded run parts, and where a second plain one does
    assert _verdict(parted, again) == verdict
