"""How much is kept: levels for each role, schedules, chosen tensors, and a budget of disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracediff
from tracediff_hooks.budget import parse_size
from tracediff_hooks.levels import Levels, schedule
from tracediff_hooks.recorder import Recorder, SparseRows, TensorSpec

KERNEL = ("weight", "hidden/kernel")
OTHER = ("weight", "out/kernel")
GRADIENT = ("gradient", "hidden/kernel")
INPUT = ("input", "input/0")
SHAPE = (40, 30)


def numbers(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def record(path, count=6, shape=SHAPE, external=None, **options):
    """Records a run of two weights, a gradient, a batch and a loss; returns it and its values."""
    recorder = Recorder(path, **options)
    recorder.announce()
    specs = [TensorSpec(name, role, "float32", shape) for role, name in (KERNEL, OTHER)]
    recorder.begin_run({"model": {"layers": []}}, specs, expected_steps=count)
    recorder.begin_fit({})
    recorder.declare(TensorSpec(GRADIENT[1], "gradient", "float32", shape))
    recorder.declare(TensorSpec("input/0", "input", "float32", None, ragged=True))
    recorder.declare(TensorSpec("loss", "loss", "float32", ()))
    state = {KERNEL: numbers(0, shape), OTHER: numbers(1, shape)}
    told = []
    for step in range(count):
        before = dict(state) if step == 0 else {}
        if step == external:
            before = {KERNEL: numbers(900, shape)}
            state = {**state, **before}
        after = {KERNEL: numbers(100 + step, shape), OTHER: state[OTHER]}
        observed = {
            GRADIENT: numbers(200 + step, shape),
            INPUT: numbers(300 + step, (5, 3)),
            ("loss", "loss"): np.float32(step),
        }
        told.append((dict(state), observed, after))
        recorder.record_step(before=before, observed=observed, after=after, batch=step)
        state = after
    recorder.close()
    (run,) = tracediff.open_trace(path).runs
    return run, told


def kept(run, key, moment="before"):
    return run.kept(run.tensor(*key), moment).tolist()


def sketched(run, key, moment="before"):
    return run.sketched(run.tensor(*key), moment).tolist()


# --- levels


@pytest.mark.parametrize("level", ["full", "sketch", "digest"])
def test_digests_statistics_and_scalars_are_kept_at_every_level(tmp_path, level):
    # Given a run recorded at a level
    run, told = record(tmp_path / "a.zarr", level=level)
    # Then the trace says which,
    assert run.about["level"] == level
    # every tensor has the digest of its bytes and its statistics at both ends of every step,
    full, _ = record(tmp_path / "full.zarr", level="full")
    for tensor in run.tensors:
        for moment in ("before", "after"):
            assert np.array_equal(run.digests(tensor, moment), full.digests(tensor, moment))
    for step, (before, observed, after) in enumerate(told):
        for values, moment in ((before, "before"), (observed, "before"), (after, "after")):
            for key, value in values.items():
                found = run.statistics(run.tensor(*key), step, moment)
                assert found.size == value.size
                assert (found.min, found.max) == (value.min(), value.max())
                assert found.mean == pytest.approx(value.mean(dtype=np.float64), abs=1e-6)
                assert found.norm == pytest.approx(np.linalg.norm(value), rel=1e-6)
    # scalars can be read at each,
    loss = run.tensor("loss", "loss")
    assert [float(run.read(loss, step)) for step in range(6)] == [0, 1, 2, 3, 4, 5]
    # and elements at level full only, sketches also at level sketch
    assert kept(run, KERNEL) == [level == "full"] * 6
    assert sketched(run, KERNEL, "after") == [level != "digest"] * 6


def test_each_role_may_have_its_level(tmp_path):
    # Given full weights, sketched gradients, and digests of the batches
    levels = {"weight": "full", "gradient": "sketch", "input": "digest"}
    run, _ = record(tmp_path / "a.zarr", level=levels)
    # Then each role is kept as asked, and the trace tells it
    assert (kept(run, KERNEL)[0], kept(run, GRADIENT)[0], kept(run, INPUT)[0]) == (1, 0, 0)
    assert (sketched(run, GRADIENT)[0], sketched(run, INPUT)[0]) == (True, False)
    assert run.about["level"] == "mixed"
    assert run.about["schedule"]["levels"]["gradient"] == "sketch"


def test_of_tensors_that_no_pattern_names_a_sketch_is_kept(tmp_path):
    # Given that elements are wanted of one layer only
    run, _ = record(tmp_path / "a.zarr", level="full", tensors=["hidden/*"])
    # Then those of it are kept, gradients included, and sketches of the others
    assert kept(run, KERNEL) == kept(run, GRADIENT) == [True] * 6
    assert kept(run, OTHER) == [False] * 6
    assert sketched(run, OTHER) == [True] * 6


def test_a_scheduled_step_has_its_state_at_both_ends(tmp_path):
    # Given that only step 3 is to be kept in full
    run, told = record(tmp_path / "a.zarr", level="full", steps="3")
    # Then what it saw is kept, the state before it and the state after it,
    assert kept(run, GRADIENT) == [False, False, False, True, False, False]
    assert kept(run, KERNEL, "before")[3]
    assert kept(run, KERNEL, "after")[3]
    assert np.array_equal(run.read(run.tensor(*KERNEL), 3, "after"), told[3][2][KERNEL])
    # and of the other steps the digests and statistics
    assert kept(run, KERNEL, "after") == [False, False, True, True, False, False]
    assert run.statistics(run.tensor(*GRADIENT), 1).max == told[1][1][GRADIENT].max()


def test_a_change_between_steps_has_a_summary_too(tmp_path):
    # Given sketches only, and a weight that something changes before step 2
    run, told = record(tmp_path / "a.zarr", level="sketch", external=2)
    # Then the sketch and the statistics before step 2 are those of the changed value
    before = told[2][0][KERNEL]
    assert [change.step for change in run.external_changes()] == [2]
    tensor = run.tensor(*KERNEL)
    assert run.statistics(tensor, 2).max == before.max()
    assert run.sketch(tensor, 2).distance(tracediff.trace.sketch_of(before)) < 1e-9
    assert run.statistics(tensor, 1, "after").max == told[1][2][KERNEL].max()


def test_what_is_equal_is_summarized_once(tmp_path):
    # Given a weight that never changes, when sketches are kept
    run, _ = record(tmp_path / "a.zarr", level="sketch")
    # Then every step points to one sketch
    tensor = run.tensor(*OTHER)
    numbers = [run.sketch(tensor, step).numbers for step in range(6)]
    assert all(np.array_equal(numbers[0], other) for other in numbers)
    shapes = tracediff.trace._store.TraceFiles(str(tmp_path / "a.zarr"))
    assert shapes.array("run-0/sketches/weight/out/kernel/shape").shape[0] == 1


def test_a_sparse_gradient_has_the_sketch_of_the_dense_one(tmp_path):
    # Given a gradient of some rows of a table, one of them twice
    rows = np.array([3, 700, 3], np.int64)
    values = numbers(5, (3, 8))
    recorder = Recorder(tmp_path / "a.zarr", level="sketch")
    recorder.begin_run({}, [])
    recorder.declare(TensorSpec("e/table", "gradient", "float32", (1000, 8), sparse=True))
    recorder.record_step(
        before={}, observed={("gradient", "e/table"): SparseRows(values, rows)}, after={}
    )
    recorder.close()
    # Then its sketch is that of the dense gradient
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    dense = np.zeros((1000, 8))
    np.add.at(dense, rows, values.astype(np.float64))
    found = run.sketch(run.tensor("gradient", "e/table"), 0)
    assert found.size == dense.size
    assert found.distance(tracediff.trace.sketch_of(dense)) < 1e-12


def test_rows_have_digests_that_show_another_order(tmp_path):
    # Given a batch and the same rows in another order, recorded as digests and in full
    batch = numbers(7, (6, 4))
    found = []
    for number, (level, value) in enumerate(
        [("digest", batch), ("digest", batch[::-1].copy()), ("full", batch)]
    ):
        path = tmp_path / f"{number}.zarr"
        recorder = Recorder(path, level=level)
        recorder.begin_run({}, [])
        recorder.declare(TensorSpec("input/0", "input", "float32", None, ragged=True))
        recorder.record_step(before={}, observed={INPUT: value}, after={})
        recorder.close()
        (run,) = tracediff.open_trace(path).runs
        found.append(run.row_digests(run.tensor(*INPUT), 0))
    # Then sorted they are the same, unsorted they tell the order, and full gives the same ones
    assert found[0].tolist() == found[1][::-1].tolist() != found[1].tolist()
    assert len(set(found[0].tolist())) == 6
    assert found[2].tolist() == found[0].tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.nan, np.inf, -np.inf, 3.0], (5, 1, 2, 1.0, 3.0, 2.0)),
        ([np.nan, np.nan], (2, 2, 0, np.nan, np.nan, np.nan)),
        ([3e38, -3e38, 3e38], (3, 0, 0, -3e38, 3e38, 1e38)),
    ],
)
def test_statistics_count_what_is_not_finite_and_leave_it_out(tmp_path, values, expected):
    # Given a weight with elements that are not finite, or whose squares are not
    value = {KERNEL: np.array(values, np.float32)}
    recorder = Recorder(tmp_path / "a.zarr", level="digest")
    recorder.begin_run({}, [TensorSpec(KERNEL[1], "weight", "float32", (len(values),))])
    recorder.record_step(before=value, observed={}, after=value)
    recorder.close()
    # Then they are counted, and the other numbers are those of the rest
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    found = run.statistics(run.tensor(*KERNEL), 0)
    told = (found.size, found.nan, found.inf, found.min, found.max, found.mean)
    assert told == pytest.approx(expected, rel=1e-6, nan_ok=True)


# --- schedules


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 20), st.integers(0, 250))
def test_a_slice_in_a_schedule_is_one_of_python(start, stop, stride, step):
    expected = step in range(start, stop, stride)
    assert schedule(f"{start}:{stop}:{stride}")(step) == expected
    assert schedule(slice(start, stop, stride))(step) == expected
    assert schedule(range(start, stop, stride))(step) == expected


def test_schedules_may_be_numbers_texts_functions_and_lists_of_them():
    def chosen(steps):
        return [step for step in range(12) if schedule(steps)(step)]

    assert chosen(None) == list(range(12))
    assert chosen(3) == [0, 1, 2]
    assert chosen(":2, 5, 7:9,::10") == [0, 1, 5, 7, 8, 10]
    assert chosen(lambda step: step == 4) == [4]
    assert chosen([1, range(6, 8), ":1"]) == [0, 1, 6, 7]


def test_a_function_in_a_schedule_is_asked_once_for_each_step(tmp_path):
    # Given a function that answers otherwise each time it is asked
    asked = []
    run, _ = record(tmp_path / "a.zarr", steps=lambda step: asked.append(step) or len(asked) % 2)
    # Then each step has one answer, and the states at both ends go by it
    assert asked == list(range(run.steps + 1))
    for step in range(0, run.steps, 2):
        assert kept(run, GRADIENT)[step]
        for moment in ("before", "after"):
            assert kept(run, ("weight", "hidden/kernel"), moment)[step]


@pytest.mark.parametrize(
    "steps", ["", "a", "1:2:0", ":-3", 1.5, True, slice(-3, None), -3, [2, -1]]
)
def test_a_schedule_that_means_nothing_is_refused(steps):
    with pytest.raises(ValueError, match="steps"):
        Levels("full", steps=steps)


def test_a_schedule_takes_whole_numbers_of_numpy():
    for steps in (np.arange(0, 9, 3), [0, 3, 6]):
        assert [step for step in range(12) if schedule(steps)(step)] == [0, 3, 6]
    assert [step for step in range(12) if schedule(np.int64(2))(step)] == [0, 1]


@pytest.mark.parametrize("tensors", [3, ["hidden/*", 4], {"hidden": 1}])
def test_patterns_that_are_no_names_are_refused(tensors):
    with pytest.raises(ValueError, match="tensors"):
        Levels("full", tensors=tensors)


def test_a_pattern_that_matches_nothing_is_said(tmp_path, capsys):
    # Given two patterns, one of them mistyped, when steps are recorded
    run, _ = record(tmp_path / "a.zarr", tensors=["hiden/*", KERNEL[1]])
    # Then that one is named, once, on stderr and in the trace
    (event,) = run.about["events"]
    assert (event["kind"], event["step"]) == ("not-recorded", 0)
    assert "hiden/*" in event["message"]
    assert capsys.readouterr().err.count("hiden/*") == 1
    # and the other one chooses
    assert all(kept(run, KERNEL, "after"))


@pytest.mark.parametrize("level", ["everything", {"weights": "full"}, {"weight": "all"}])
def test_a_level_or_role_that_does_not_exist_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        Levels(level)


# --- the budget


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5MB", 5_000_000),
        ("5 MiB", 5 << 20),
        ("1.5g", 1_500_000_000),
        (10 << 20, 10 << 20),
        (5e8, 500_000_000),
        ("5e8", 500_000_000),
        (np.int64(5_000_000), 5_000_000),
        (np.float32(5_000_000), 5_000_000),
    ],
)
def test_a_size_may_be_written_with_a_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "much",
        "",
        1000,
        "5 XB",
        "e9",
        "5e",
        "1e999",
        "1e308GB",
        True,
        float("inf"),
        float("nan"),
        5e6 + 0.5,
    ],
)
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="budget"):
        parse_size(text)


def size_of(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def test_a_budget_lowers_the_level_and_is_never_exceeded(tmp_path, capsys):
    # Given steps of 2.4 MB, of which a hundred would take 20 times the budget
    path, budget = tmp_path / "a.zarr", 12_000_000
    shape = (400, 500)
    run, told = record(path, count=100, shape=shape, level="full", budget=budget)
    # Then it was announced before the first step,
    first, *rest = capsys.readouterr().err.splitlines()
    assert f"at most {budget / (1 << 20):.1f} MiB of disk" in first
    # kept to,
    assert size_of(path) <= budget
    # every step is there, the first ones in full, later ones as sketches or digests,
    assert (run.steps, run.status) == (100, "complete")
    full = kept(run, GRADIENT)
    assert full[:2] == [True, True]
    assert sorted(full, reverse=True) == full
    assert sketched(run, GRADIENT)[sum(full)]
    assert run.statistics(run.tensor(*GRADIENT), 99).max == told[99][1][GRADIENT].max()
    # and each lowering is said on stderr and in the trace, with its step
    events = [event for event in run.about["events"] if event["kind"] == "budget"]
    assert len(events) == len(rest) > 0
    assert events[0]["step"] == sum(full)
    assert run.about["level"] == "mixed"


def test_a_budget_too_small_for_digests_ends_the_recording_and_says_so(tmp_path, monkeypatch):
    # Given a budget that even digests use up
    monkeypatch.setattr("tracediff_hooks.budget.RESERVE", 4_300_000)
    path = tmp_path / "a.zarr"
    run, _ = record(path, count=3000, shape=(4, 4), level="digest", budget=4_400_000)
    # Then the trace holds what fitted, and says why no more
    assert size_of(path) <= 4_400_000
    assert 0 < run.steps < 3000
    assert run.status == "failed"
    assert run.about["events"][-1]["kind"] == "budget"
    assert "training goes on" in run.about["events"][-1]["message"]


def test_rows_that_wait_to_be_written_count_for_the_budget(tmp_path, monkeypatch):
    # Given many small tensors, whose rows in the tables are gathered for long before they are
    # written
    monkeypatch.setattr("tracediff_hooks.writer.FLUSH_SECONDS", 1e6)
    path, budget = tmp_path / "a.zarr", 6 << 20
    names = [f"layer_{number}/kernel" for number in range(200)]
    recorder = Recorder(path, level="full", budget=budget)
    recorder.begin_run(
        {}, [TensorSpec(name, "weight", "float32", (7, 11), trainable=True) for name in names]
    )
    for name in names:
        recorder.declare(TensorSpec(name, "gradient", "float32", (7, 11)))
    recorder.begin_fit({})
    stream, before = np.random.default_rng(0), {}
    # When it is recorded until nothing fits
    for _ in range(600):
        values = stream.standard_normal((2, 200, 7, 11), np.float32)
        after, observed = (
            {(role, name): value for name, value in zip(names, part, strict=True)}
            for role, part in zip(("weight", "gradient"), values, strict=True)
        )
        recorder.record_step(before=before or after, observed=observed, after=after)
        before = after
    recorder.close()
    # Then the trace has kept to the budget, and used most of it
    run = tracediff.open_trace(path).runs[0]
    assert budget / 2 < size_of(path) <= budget
    assert run.status == "failed"
    assert 0 < run.steps < 600


def test_a_budget_that_suffices_changes_nothing(tmp_path):
    # Given a budget with room to spare, then everything is kept
    run, _ = record(tmp_path / "a.zarr", level="full", budget="1GB")
    assert run.about["level"] == "full"
    assert run.about["events"] == []
    assert kept(run, KERNEL, "after") == [True] * 6


@pytest.mark.parametrize(
    ("expected", "all_of_them"), [(300, True), (100_000, False)], ids=["short", "long"]
)
def test_sketches_take_from_a_budget_what_their_files_do(tmp_path, expected, all_of_them):
    # Given 20 tensors whose sketches of 60 steps take 5 MB, and of 100 000 steps 8 GB
    budget, path = 8 << 20, tmp_path / "a.zarr"
    names = [("weight", f"layer_{number}/kernel") for number in range(20)]
    recorder = Recorder(path, level="sketch", budget=budget)
    specs = [TensorSpec(name, role, "float32", (40, 40)) for role, name in names]
    recorder.begin_run({}, specs, expected_steps=expected)
    stream = np.random.default_rng(0)
    for step in range(60 if all_of_them else 200):
        state = {key: stream.random((40, 40), dtype=np.float32) for key in names}
        recorder.record_step(before={} if step else state, observed={}, after=state)
    # When the recording ends
    recorder.close()
    (run,) = tracediff.open_trace(path).runs
    found = [run.sketch(run.tensor(*names[0]), step, "after") is not None for step in range(60)]
    # Then the budget holds, and sketches are kept as long as they fit, however many may come
    assert size_of(path) <= budget
    assert all(found)
    lowered = [event["kind"] for event in run.about["events"]]
    assert lowered == ([] if all_of_them else ["budget"])


# --- what does not fit


def test_a_tensor_whose_dtype_changes_keeps_its_digests(tmp_path, capsys):
    # Given a gradient that is float64 from the third step on
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [])
    recorder.declare(TensorSpec(GRADIENT[1], "gradient", "float32", (3,)))
    values = [np.arange(3, dtype="f4"), np.ones(3, "f4"), np.ones(3, "f8"), np.zeros(3, "f4")]
    for value in values:
        recorder.record_step(before={}, observed={GRADIENT: value}, after={})
    recorder.close()
    # Then the others can be read, of that one the digest and statistics are there, and it is said
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    tensor = run.tensor(*GRADIENT)
    assert kept(run, GRADIENT) == [True, True, False, True]
    assert run.read(tensor, 3).tolist() == [0, 0, 0]
    assert run.statistics(tensor, 2).norm == pytest.approx(3**0.5)
    (event,) = run.about["events"]
    assert (event["kind"], event["step"]) == ("misfit", 2)
    assert "float64" in capsys.readouterr().err


def test_a_batch_of_more_dimensions_than_the_format_has_keeps_its_digests(tmp_path, capsys):
    # Given a batch of nine dimensions
    value = np.arange(2.0).reshape((2,) + (1,) * 8)
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [])
    recorder.declare(TensorSpec("input/0", "input", "float64", None, ragged=True))
    recorder.record_step(before={}, observed={INPUT: value}, after={})
    recorder.close()
    # Then its statistics and row digests are there, and it is said that its elements are not
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    assert run.statistics(run.tensor(*INPUT), 0).max == 1.0
    assert len(run.row_digests(run.tensor(*INPUT), 0)) == 2
    assert kept(run, INPUT) == [False]
    assert "9 dimensions" in capsys.readouterr().err
