"""The whole comparison: verdicts, steps, what has no partner, and what cannot be compared."""

import os
import subprocess
import sys
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from support.build import RunPlan, Step, linear_run, make_trace
from support.runs import ADAM, SGD, changed, compared
from support.train import train

from tracediff.compare import compare, open_run
from tracediff.errors import DamagedTrace, NothingComparable
from tracediff.trace import Run, open_trace

KERNEL = ("weight", "hidden/kernel")


def test_a_shorter_run_is_compared_on_the_common_steps(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, steps=5))
    assert comparison.verdict == "identical"
    steps = comparison.steps
    assert (steps.a, steps.b, steps.compared, steps.alignment) == (8, 5, 5, "number")
    assert any("A is longer; its 3 more steps were not compared" in n for n in comparison.notes)


def test_a_divergence_beyond_the_common_steps_is_none(tmp_path):
    late = changed(SGD, lr=lambda s: 0.05 if s < 6 else 0.5)
    assert compared(tmp_path, changed(SGD, steps=6), late).verdict == "identical"


def test_a_killed_run_is_compared_and_the_report_says_so(tmp_path):
    a = make_trace(tmp_path / "a.zarr", linear_run())
    b = make_trace(tmp_path / "b.zarr", linear_run(status="recording"))
    comparison = compare(a, b)
    assert comparison.verdict == "identical"
    assert any(note.startswith("B is incomplete") for note in comparison.notes)


def test_renamed_layers_are_compared_as_what_they_are(tmp_path):
    def renamed(plan):
        def name(key):
            role, text = key
            return role, text.replace("hidden", "fc1") if "/" in text else text

        steps = [
            Step(
                observed={name(k): v for k, v in step.observed.items()},
                after={name(k): v for k, v in step.after.items()},
                epoch=step.epoch,
                batch=step.batch,
            )
            for step in plan.steps
        ]
        specs = {
            name(k): {**v, "layer": v["layer"].replace("hidden", "fc1")} if v.get("layer") else v
            for k, v in plan.specs.items()
        }
        return RunPlan(steps, {name(k): v for k, v in plan.initial.items()}, plan.about, specs)

    a = make_trace(tmp_path / "a.zarr", train(ADAM))
    b = make_trace(tmp_path / "b.zarr", renamed(train(ADAM)))
    comparison = compare(a, b)
    assert comparison.verdict == "identical"
    assert comparison.unpaired == ()
    found = {pair.a: pair.b for pair in comparison.pairs}
    assert found["hidden/kernel"] == "fc1/kernel"
    assert found["hidden/kernel/m"] == "fc1/kernel/m"


def test_an_unused_slot_of_one_run_leaves_runs_identical(tmp_path):
    def with_idle_slots(plan):
        run = train(plan)
        slots = {
            ("slot", f"{n}/momentum"): np.zeros_like(v)
            for (r, n), v in run.initial.items()
            if r == "weight"
        }
        return RunPlan(run.steps, {**run.initial, **slots}, run.about, run.specs)

    plan = changed(SGD, momentum=0.0)
    a = make_trace(tmp_path / "a.zarr", with_idle_slots(plan))
    b = make_trace(tmp_path / "b.zarr", train(plan))
    comparison = compare(a, b)
    assert comparison.verdict == "identical"
    assert len(comparison.unpaired) == 4
    assert not any(one.matters for one in comparison.unpaired)


def test_non_finite_values_are_a_divergence_unless_both_have_them(tmp_path):
    def exploding(value):
        loss = ("loss", "loss")
        steps = [Step(observed={loss: np.float32(v)}, after={}) for v in (1.0, value, value)]
        return RunPlan(steps, {KERNEL: np.ones(3, np.float32)})

    a = make_trace(tmp_path / "a.zarr", exploding(np.nan))
    b = make_trace(tmp_path / "b.zarr", exploding(2.0))
    comparison = compare(a, b)
    assert comparison.first_divergence.step == 1
    assert np.isnan(comparison.first_divergence.relative_l2)
    assert compare(a, a).verdict == "identical"
    row = next(one for one in comparison.drift if one.role == "loss")
    assert row.non_finite == (2, 0)


def test_nothing_in_common(tmp_path):
    key = ("weight", "other/table")
    a = make_trace(tmp_path / "a.zarr", train(SGD))
    plan = RunPlan(
        [Step(after={key: np.ones((5, 5), np.float32)})], {key: np.zeros((5, 5), np.float32)}
    )
    b = make_trace(tmp_path / "b.zarr", plan)
    with pytest.raises(NothingComparable, match="no weight and no input in common"):
        compare(a, b)


def test_no_common_step(tmp_path):
    a = make_trace(tmp_path / "a.zarr", train(SGD))
    b = make_trace(tmp_path / "b.zarr", RunPlan([], {KERNEL: np.zeros(3, np.float32)}))
    with pytest.raises(NothingComparable, match="no complete step"):
        compare(a, b)


def test_a_trace_without_runs(tmp_path):
    trace = open_trace(make_trace(tmp_path / "a.zarr", train(SGD)))
    with pytest.raises(NothingComparable, match="no run"):
        open_run(replace(trace, runs=()))


def test_the_first_of_several_runs_is_taken(tmp_path):
    a = make_trace(tmp_path / "a.zarr", train(SGD), train(changed(SGD, lr=0.1)))
    assert open_run(a).path.endswith("run-0")
    assert compare(a, open_trace(a).runs[1]).verdict == "diverged"
    assert compare(f"{a}/run-0", a).verdict == "identical"


def test_a_damaged_value_is_an_error_that_names_it(tmp_path):
    a = make_trace(tmp_path / "a.zarr", train(SGD))
    b = make_trace(tmp_path / "b.zarr", train(changed(SGD, init_seed=4)))
    for chunk in (b / "run-0" / "values" / "weight" / "hidden" / "kernel").glob("0*"):
        chunk.write_bytes(b"\1" * chunk.stat().st_size)
    with pytest.raises(DamagedTrace, match="hidden/kernel"):
        compare(a, b)


def test_progress_is_told(tmp_path):
    a = make_trace(tmp_path / "a.zarr", train(SGD))
    told, lock = [], threading.Lock()

    def progress(done, total):
        with lock:
            told.append((done, total))

    compare(a, a, progress=progress)
    assert told[-1][0] == told[-1][1] > 0
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_no_more_than_a_few_values_are_held_at_a_time(tmp_path, monkeypatch):
    # GIVEN inputs of 40 steps that all differ
    plans = [
        RunPlan(
            [
                Step(observed={("input", "input/0"): np.full(1000, step + offset, np.float32)})
                for step in range(40)
            ]
        )
        for offset in (0.0, 0.5)
    ]
    paths = [
        make_trace(tmp_path / f"{name}.zarr", plan) for name, plan in zip("ab", plans, strict=True)
    ]
    held = weakref.WeakSet()
    most = 0
    original = Run.read

    class Held(np.ndarray):
        """An array that can be watched."""

    def watched(self, tensor, step, moment="before"):
        nonlocal most
        value = original(self, tensor, step, moment).view(Held)
        held.add(_Watch.of(value))
        most = max(most, len(held))
        return value

    monkeypatch.setattr(Run, "read", watched)
    compare(*paths)
    # THEN no more than the handful that is remembered for each run was alive at once
    assert 2 <= most <= 12


class _Watch:
    """Lives as long as the array it hangs on; arrays themselves do not hash."""

    @classmethod
    def of(cls, value):
        value.watch = cls()
        return value.watch


def test_the_package_offers_compare_whichever_is_imported_first(tmp_path):
    a = make_trace(tmp_path / "a.zarr", train(SGD))
    use = "assert tracediff.compare(sys.argv[1], sys.argv[1]).verdict == 'identical'"
    for imports in ("import tracediff", "import tracediff.compare", "import tracediff.cli.compare"):
        program = f"import sys, tracediff\n{imports}\n{use}\ntracediff.Comparison"
        subprocess.run([sys.executable, "-c", program, str(a)], check=True, env=_environment())


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
