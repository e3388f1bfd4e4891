"""`tracediff-record` records every `Model.fit` of a script that knows nothing of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.stacks import every_flavour, flavours, stack_or_skip

import tracediff

PROGRAMS = Path(__file__).parent / "programs"
WEIGHTS = ("hidden/kernel", "hidden/bias", "out/kernel", "out/bias")
RECORD = ("-m", "tracediff_hooks", "record")
PLACES = (
    "in_a_function",
    "in_a_class",
    "in_a_model_class_with_a_fit_of_its_own",
    "through_a_reference",
    "in_a_thread",
)
"""Where the script calls `fit`, in its order: a run each."""


class Recorded(NamedTuple):
    """One script, run as ever and run by the command."""

    plain: dict[str, Any]
    recorded: dict[str, Any]
    plain_weights: dict[str, list[np.ndarray]]
    weights: dict[str, list[np.ndarray]]
    plain_files: set[str]
    files: set[str]
    folder: Path
    runs: dict[str, Any]


def load(path):
    with np.load(path) as arrays:
        return {place: [arrays[f"{place}/{i}"] for i in range(4)] for place in PLACES}


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=every_flavour())
def script(request, tmp_path_factory):
    """An unmodified training script on each flavour, started from its folder by its bare name."""
    stack = stack_or_skip(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    answers, weights, files = [], [], []
    for name, command in (("plain", ()), ("recorded", (*RECORD, "-o", folder / "a.zarr"))):
        # All that a run may leave behind lies below `place`: the script, the home, what is
        # temporary.
        place = folder / name
        for part in ("home", "tmp"):
            (place / part).mkdir(parents=True)
        for program in ("plain_training.py", "training_kit.py"):
            shutil.copy(PROGRAMS / program, place)
        arguments = ("plain_training.py", stack.name, "w.npz", "--epochs", "2")
        env = {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
        done = stack.run(*command, *arguments, cwd=place, env=env)
        answers.append(json.loads(done.stdout))
        weights.append(load(place / "w.npz"))
        files.append(files_below(place))
    runs = tracediff.open_trace(folder / "a.zarr").runs
    assert len(runs) == len(PLACES)
    return Recorded(*answers, *weights, *files, folder, dict(zip(PLACES, runs, strict=True)))


def test_every_step_of_an_unmodified_script_is_recorded(script):
    # Given a script that passes all arguments of fit by position, when the command runs it
    run = script.runs["in_a_function"]
    # Then its two epochs of three steps are recorded, gradients and all,
    assert (run.steps, run.status) == (6, "complete")
    assert run.epoch.tolist() == [0, 0, 0, 1, 1, 1]
    for name in WEIGHTS:
        weight, gradient = run.tensor("weight", name), run.tensor("gradient", name)
        for step in range(6):
            np.testing.assert_allclose(
                run.read(weight, step, "after"),
                run.read(weight, step) - 0.25 * run.read(gradient, step),
                rtol=1e-6,
                atol=1e-7,
            )


def test_fit_is_recorded_wherever_a_script_calls_it(script):
    # Given a function, a class, a model's own class, a reference and a thread that train a model
    for place, run in script.runs.items():
        # Then each is a run of its steps, which ends with the weights that its model ended with
        steps = 6 if place == "in_a_function" else 3
        assert (run.steps, run.status) == (steps, "complete"), place
        for name, weight in zip(WEIGHTS, script.weights[place], strict=True):
            last = run.read(run.tensor("weight", name), steps - 1, "after")
            assert np.array_equal(last, weight), (place, name)
            assert run.find("gradient", name) is not None, (place, name)


def test_an_unmodified_script_trains_as_without_the_command(script):
    # Given the script run with and without the command, then it ends with the same bits,
    for place in PLACES:
        for recorded, plain in zip(script.weights[place], script.plain_weights[place], strict=True):
            assert recorded.tobytes() == plain.tobytes(), place
    # and its own callback was called as ever
    assert script.recorded["epochs"] == script.plain["epochs"]
    assert script.recorded["history"] == script.plain["history"]


def test_a_script_sees_the_interpreter_that_it_would_see(script):
    # Given the script run with and without the command, then argv, names, paths and pickling agree
    moved = json.dumps(script.recorded).replace(
        str(script.folder / "recorded"), str(script.folder / "plain")
    )
    assert json.loads(moved) == script.plain
    assert script.plain["name"] == "__main__"
    assert script.plain["argv"][0] == "plain_training.py"
    assert script.plain["path"] == str(script.folder / "plain")


def test_a_script_leaves_behind_what_it_leaves_without_the_command(script):
    # Given the script run with and without the command, then nothing else lies in its folder, in
    # its home or among temporary files, and beside them only the trace
    assert script.files == script.plain_files
    assert {path.name for path in script.folder.iterdir()} == {"plain", "recorded", "a.zarr"}


def test_the_trace_names_the_script_and_not_the_command(script):
    # Given a recorded script, then the command line in its trace is the script's own
    for run in script.runs.values():
        assert run.about["environment"]["command"] == script.plain["argv"]


def test_several_models_are_several_runs_and_a_script_that_records_itself_is_left_to_it(
    training, tmp_path
):
    # Given a module that imports the recorder first, trains one model twice, a second, a third
    # with a callback of its own, the second again from a generator, and ends with status 3
    done = training.run(
        *RECORD,
        "-o",
        tmp_path / "a.zarr",
        "-m",
        "recorded_package.several",
        training.name,
        tmp_path,
        cwd=PROGRAMS,
        status=3,
    )
    # Then it ran as `python -m` runs it,
    assert done.stdout.split() == ["__main__", str(PROGRAMS)]
    # the fits of one model are one run, another model is another, and fit_generator counts once
    runs = tracediff.open_trace(tmp_path / "a.zarr").runs
    assert [run.steps for run in runs] == [9, 7]
    assert [run.status for run in runs] == ["complete"] * 2
    assert runs[0].fit.tolist() == [0] * 3 + [1] * 6
    assert runs[1].fit.tolist() == [0] * 3 + [1] * 4
    # and the model with a callback of its own is in that one's trace and in no other
    (own,) = tracediff.open_trace(tmp_path / "own.zarr").runs
    assert (own.steps, own.status) == (2, "complete")


TWO_KERAS = {
    "keras2.3": ("keras", "tensorflow.keras", ["Keras 2.3", "tf.keras"]),
    "tf2.15": ("keras", "tensorflow.keras", ["tf.keras 2.15", "tf.keras 2.15"]),
    "tf-keras": ("tf_keras", "keras", ["tf_keras 2.", "Keras 3"]),
    "keras3": ("keras", "tensorflow.keras", ["Keras 3", "Keras 3"]),
}
"""Stacks with two names of Keras: which, and what a run of each is said to be trained with."""


@pytest.mark.parametrize("name", flavours(*TWO_KERAS))
def test_a_script_that_imports_two_keras(tmp_path, name):
    # Given a script that imports both, and trains a model of each in a function
    one, other, expected = TWO_KERAS[name]
    (tmp_path / "script.py").write_text(
        "import importlib, numpy\n"
        f"import {one} as one\n"
        + (
            f"import {other} as other\n"
            if "." not in other
            else "from tensorflow import keras as other\n"
        )
        + "def train(kind, name):\n"
        "    dense = kind.layers.Dense(2, input_shape=(3,), name=name)\n"
        "    model = kind.models.Sequential([dense])\n"
        "    model.compile('sgd', 'mse')\n"
        "    model.fit(numpy.ones((8, 3)), numpy.ones((8, 2)), batch_size=4, verbose=0)\n"
        "train(one, 'one')\n"
        "train(other, 'two')\n"
    )
    # When the command runs it
    stack_or_skip(name).run(*RECORD, "-o", "a.zarr", "script.py", cwd=tmp_path)
    # Then both are recorded, a run each, each step once
    runs = tracediff.open_trace(tmp_path / "a.zarr").runs
    assert [run.steps for run in runs] == [2, 2]
    stacks = [run.about["stack"]["keras"] for run in runs]
    assert all(found.startswith(start) for found, start in zip(stacks, expected, strict=True)), (
        stacks
    )
    assert runs[1].find("gradient", "two/kernel") is not None
