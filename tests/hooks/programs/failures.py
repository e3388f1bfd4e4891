"""Lets trainings, disks and the recorder itself fail, and notes what the user gets to see.

`python failures.py FLAVOUR FOLDER`: writes `FOLDER/<case>.zarr` and prints one JSON object: case ->
facts, or {"error": traceback}.
"""

import contextlib
import functools
import importlib
import io
import json
import resource
import sys
import traceback
from pathlib import Path

from training_kit import (
    Kit,
    callback_of,
    fail_loudly,
    hide_output,
    problem,
    said_by_us,
    same_weights,
    snapshot,
    traces_of_us,
)

CASES = {}
ANNOUNCED = ", at most "
GENERATION = {
    "keras2.3": "keras_graph",
    "tf1.15": "keras_graph",
    "tf2.3": "tf_function",
    "tf2.15": "tf_keras",
    "tf-keras": "tf_keras",
    "keras3": "keras3",
    "keras3-jax": "keras3",
    "keras3-torch": "keras3",
}


def case(function):
    CASES[function.__name__] = function
    return function


class Bench:
    """One case's workplace."""

    def __init__(self, kit, folder, name):
        self.kit = kit
        self.folder = folder
        self.path = folder / (name + ".zarr")

    def trace(self, path=None):
        from tracediff_hooks import TraceCallback

        return TraceCallback(path or self.path)

    def train(self, callbacks=(), rows=22):
        """Trains the same model in the same way each time; returns it."""
        self.kit.fresh()
        model = self.kit.mlp()
        fit(model, callbacks, rows)
        return model

    def compare(self, path=None, rows=22):
        """Trains with and without recording; what is different, and what was said."""
        plain = self.train(rows=rows).get_weights()
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            model = self.train([self.trace(path)], rows)
        lines = said.getvalue().splitlines()
        return {
            "same_weights": same_weights(plain, model.get_weights()),
            "left_behind": traces_of_us(model),
            "announced": [line for line in lines if ANNOUNCED in line],
            "said": [line for line in lines if "tracediff" in line and ANNOUNCED not in line],
            "traceback": [line for line in lines if "Traceback" in line],
        }


def fit(model, callbacks=(), rows=22):
    x, y = problem(rows)
    # A third of the rows a batch: three steps an epoch.
    size = -(-rows // 3)
    model.fit(x, y, batch_size=size, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks))


def _raising(kit, error, step):
    seen = []

    def action(model, batch, logs):
        seen.append(batch)
        if len(seen) == step:
            raise error

    return callback_of(kit, on_train_batch_end=action)


def _after_interruption(bench, error):
    kit = bench.kit
    model = kit.mlp()
    caught = fail_loudly(lambda: fit(model, [bench.trace(), _raising(kit, error, 4)]))
    before = model.get_weights()
    fit(model)
    return {
        "same_error": caught is error,
        "later_fit_trained": not same_weights(before, model.get_weights()),
        "left_behind": traces_of_us(model),
    }


@case
def exception_in_a_callback(bench):
    return _after_interruption(bench, RuntimeError("enough"))


@case
def interrupt_by_the_user(bench):
    return _after_interruption(bench, KeyboardInterrupt())


@case
def exception_in_the_data(bench):
    x, y = problem()

    def batches():
        for _ in range(5):
            yield x[:8], y[:8]
        raise ValueError("the file is broken")

    def attempt(callbacks):
        bench.kit.fresh()
        model = bench.kit.mlp()
        error = fail_loudly(
            lambda: model.fit(
                batches(), steps_per_epoch=10, epochs=1, verbose=0, callbacks=callbacks
            )
        )
        return model, [type(error).__name__, "the file is broken" in str(error)]

    _, plain = attempt([])
    model, recorded = attempt([bench.trace()])
    before = model.get_weights()
    fit(model)
    return {
        "plain": plain,
        "recorded": recorded,
        "later_fit_trained": not same_weights(before, model.get_weights()),
        "left_behind": traces_of_us(model),
    }


@case
def continued_with_the_same_callback(bench):
    model = bench.kit.mlp()
    trace = bench.trace()
    fail_loudly(lambda: fit(model, [trace, _raising(bench.kit, RuntimeError("x"), 4)]))
    fit(model, [trace])
    return {"left_behind": traces_of_us(model)}


@case
def continued_with_another_callback(bench):
    model = bench.kit.mlp()
    fail_loudly(lambda: fit(model, [bench.trace(), _raising(bench.kit, RuntimeError("x"), 4)]))
    second = bench.folder / "continued_with_another_callback_second.zarr"
    fit(model, [bench.trace(second)])
    left = traces_of_us(model)
    kept = snapshot(second)
    fit(model)
    return {"left_behind": left, "second_untouched_by_a_later_fit": snapshot(second) == kept}


@case
def two_callbacks_in_one_fit(bench):
    said = io.StringIO()
    model = bench.kit.mlp()
    other = bench.folder / "two_callbacks_in_one_fit_second.zarr"
    with contextlib.redirect_stderr(said):
        fit(model, [bench.trace(), bench.trace(other)])
    return {
        "left_behind": traces_of_us(model),
        "said": [
            line
            for line in said.getvalue().splitlines()
            if "tracediff" in line and ANNOUNCED not in line
        ],
    }


@case
def path_below_a_file(bench):
    (bench.folder / "file").write_text("no folder")
    return bench.compare(bench.folder / "file" / "a.zarr")


@case
def missing_parents(bench):
    return bench.compare(bench.folder / "not" / "yet" / "there" / "a.zarr")


@case
def full_disk(bench):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so a write beyond the limit is an error like that of a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
    try:
        return bench.compare(rows=30000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def _broken(owner, name, *, on_call=1):
    """Makes a function of the recorder raise at its n-th call and ever after."""
    original = getattr(owner, name)
    calls = []

    def broken(*args, **kwargs):
        calls.append(name)
        if len(calls) >= on_call:
            raise ValueError("boom")
        return original(*args, **kwargs)

    setattr(owner, name, broken)
    try:
        yield
    finally:
        setattr(owner, name, original)


@case
def error_while_a_step_is_recorded(bench):
    from tracediff_hooks.recorder import Recorder

    with _broken(Recorder, "record_step", on_call=3):
        return bench.compare()


@case
def fits_without_a_step(bench):
    """Two that have no epoch to train, and one that has."""
    x, y = problem()
    trace = bench.trace()
    model = bench.kit.mlp()
    said = []
    for begun in (2, 2, 0):
        arguments = {"batch_size": 11, "epochs": 2, "verbose": 0, "callbacks": [trace]}
        arguments["initial_epoch"] = begun
        said.append(said_by_us(functools.partial(model.fit, x, y, **arguments)))
    return {"said": said}


@case
def error_while_attaching(bench):
    name = "tracediff_hooks.generations." + GENERATION[bench.kit.flavour]
    with _broken(importlib.import_module(name), "named_layers"):
        return bench.compare()


@case
def error_inside_the_step(bench):
    if bench.kit.graph:
        from tracediff_hooks.generations.keras_graph import KerasGraphHook

        owner, name = KerasGraphHook, "_batch"
    else:
        from tracediff_hooks.generations.step_taps import StepTaps

        owner, name = StepTaps, "outputs"
    with _broken(owner, name):
        return bench.compare()


@case
def error_where_a_gradient_is_seen(bench):
    """In the midst of the framework's own step, called by its optimizer."""
    if bench.kit.graph:
        from tracediff_hooks.generations.graph_fetches import Fetches

        owner, name = Fetches, "values"
    else:
        from tracediff_hooks.generations.step_taps import StepTaps

        owner, name = StepTaps, "saw"
    with _broken(owner, name):
        return bench.compare()


@case
def error_in_the_writer(bench):
    from tracediff_hooks.writer import WriterState

    with _broken(WriterState, "_on_step", on_call=3):
        return bench.compare()


def main(flavour, folder, *names):
    kit = Kit(flavour)
    answers = {}
    for name, function in CASES.items():
        if names and name not in names:
            continue
        kit.fresh()
        try:
            with hide_output():
                answers[name] = function(Bench(kit, Path(folder), name))
        except Exception:  # noqa: BLE001 - the test of this case tells it, the others go on
            answers[name] = {"error": traceback.format_exc()}
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
