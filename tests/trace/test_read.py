"""What the reader returns is what the recorder was given, and what plain zarr reads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from support.build import ABOUT, RunPlan, Step, linear_run, make_trace

from tracediff import open_trace
from tracediff.errors import NotKept, TracediffError, UnknownName, UsageError
from tracediff.trace import _table
from tracediff.trace._digests import digest_of
from tracediff.trace._element_types import decoded
from tracediff_hooks.digest import digest_of as recorded_digest
from tracediff_hooks.recorder import SparseRows

KERNEL = ("weight", "hidden/kernel")
LOSS = ("loss", "loss")
INPUT = ("input", "input/0")


def only_run(path):
    (run,) = open_trace(path).runs
    return run


def float32(*numbers):
    return np.array(numbers, np.float32)


def test_every_value_comes_back_at_both_ends_of_every_step(tmp_path):
    # given
    plan = linear_run(steps=7)
    run = only_run(make_trace(tmp_path / "a.zarr", plan))
    before = dict(plan.initial)
    # when, then
    assert run.steps == 7
    for number, step in enumerate(plan.steps):
        for key, value in step.observed.items():
            read = run.read(run.tensor(*key), number)
            assert read.dtype == np.asarray(value).dtype
            np.testing.assert_array_equal(read, value, strict=True)
        for key, value in step.after.items():
            np.testing.assert_array_equal(run.read(run.tensor(*key), number), before[key])
            np.testing.assert_array_equal(run.read(run.tensor(*key), number, "after"), value)
        before.update(step.after)


def test_the_reader_agrees_with_plain_zarr_and_the_format_page(tmp_path):
    # given
    path = make_trace(tmp_path / "a.zarr", linear_run())
    run = only_run(path)
    group = zarr.open_group(path, mode="r")["run-0"]
    # when, then
    for line in group.attrs["run"]["tensors"]:
        if line["same_as"]:
            continue
        tensor = run.tensor(line["role"], line["name"])
        table = group[line["table"]]
        digests = table["digest"][: run.steps, line["column"]]
        np.testing.assert_array_equal(run.digests(tensor), digests)
        for step in range(run.steps):
            version = int(table["version"][step, line["column"]])
            if line["layout"] == "fixed":
                value = group[line["path"]][version]
            else:
                shapes = group[line["path"]]["shape"][:]
                sizes = [int(np.prod(shape[shape >= 0])) for shape in shapes]
                start = sum(sizes[:version])
                flat = group[line["path"]]["data"][start : start + sizes[version]]
                value = flat.reshape(shapes[version][shapes[version] >= 0])
            np.testing.assert_array_equal(run.read(tensor, step), value)
    for name in ("fit", "epoch", "batch", "seconds"):
        np.testing.assert_array_equal(getattr(run, name), group[f"steps/{name}"][: run.steps])


@pytest.mark.parametrize(
    "arrays",
    [
        (np.arange(12, dtype=np.float32).reshape(3, 4),),
        (np.arange(12, dtype=np.float32).reshape(3, 4).T,),
        (np.float64(2.5),),
        (np.array([True, False]),),
        (np.zeros((0, 3), np.float16),),
        (np.ones((2, 3), np.float32), np.array([5, 1])),
    ],
)
def test_digests_are_those_of_the_recorder(arrays):
    assert digest_of(*map(np.asarray, arrays)) == recorded_digest(*map(np.asarray, arrays))


def test_a_digest_is_of_little_endian_bytes():
    value = np.array([1.5, -2.0])
    assert digest_of(value.astype(">f8")) == digest_of(value.astype("<f8"))
    assert digest_of(value) != digest_of(value[::-1])


def test_a_change_from_outside_is_seen_before_the_step_and_only_there(tmp_path):
    # given
    plan = RunPlan(
        [
            Step(after={KERNEL: float32(1)}),
            Step(before={KERNEL: float32(50)}, after={KERNEL: float32(2)}),
            Step(after={KERNEL: float32(3)}),
        ],
        initial={KERNEL: float32(0)},
    )
    # when
    run = only_run(make_trace(tmp_path / "a.zarr", plan))
    kernel = run.tensor(*KERNEL)
    # then
    assert [run.read(kernel, step).item() for step in range(3)] == [0, 50, 2]
    assert [run.read(kernel, step, "after").item() for step in range(3)] == [1, 2, 3]
    assert [(change.step, change.tensor) for change in run.external_changes()] == [(1, kernel)]
    expected = [digest_of(float32(number)) for number in (0, 50, 2)]
    assert [tuple(row) for row in run.digests(kernel).tolist()] == expected


def test_an_untouched_run_has_no_external_changes(tmp_path):
    assert only_run(make_trace(tmp_path / "a.zarr", linear_run())).external_changes() == ()


def test_sparse_gradients_are_added_up_in_order(tmp_path):
    # given
    gradient = ("gradient", "embedding/table")
    values, rows = float32(1e8, 1, -1e8, 4).reshape(4, 1), np.array([2, 2, 2, 0])
    plan = RunPlan(
        [
            Step({gradient: SparseRows(values, rows)}),
            Step({gradient: SparseRows(values[:0], rows[:0])}),
            Step({gradient: SparseRows(values[:1], rows[:1])}),
        ],
        specs={gradient: {"shape": (5, 1)}},
    )
    # when
    run = only_run(make_trace(tmp_path / "a.zarr", plan))
    tensor = run.tensor(*gradient)
    # then
    in_order = ((np.float32(1e8) + np.float32(1)) + np.float32(-1e8)).item()
    assert run.read(tensor, 0).ravel().tolist() == [4, 0, in_order, 0, 0]
    assert run.read(tensor, 1).ravel().tolist() == [0] * 5
    assert run.read(tensor, 2).ravel().tolist() == [0, 0, 1e8, 0, 0]
    sparse = run.read_sparse(tensor, 0)
    assert sparse.shape == (5, 1)
    assert sparse.rows.tolist() == rows.tolist()
    np.testing.assert_array_equal(sparse.values, values)


def test_a_dense_gradient_has_no_sparse_rows(tmp_path):
    run = only_run(make_trace(tmp_path / "a.zarr", linear_run()))
    with pytest.raises(UsageError, match="recorded dense"):
        run.read_sparse(run.tensor("gradient", "dense/kernel"), 0)


def test_an_alias_reads_what_it_is_the_same_as(tmp_path):
    run = only_run(make_trace(tmp_path / "a.zarr", linear_run()))
    raw = run.tensor("gradient", "dense/kernel")
    applied = run.tensor("applied_gradient", "dense/kernel")
    np.testing.assert_array_equal(run.digests(applied), run.digests(raw))
    np.testing.assert_array_equal(run.read(applied, 3), run.read(raw, 3))
    assert run.kept(applied).all()


def test_level_digest_keeps_digests_and_scalars_only(tmp_path):
    # given
    run = only_run(make_trace(tmp_path / "a.zarr", linear_run(), level="digest"))
    kernel, loss = run.tensor("weight", "dense/kernel"), run.tensor(*LOSS)
    # then
    assert run.observed(kernel).all()
    assert not run.kept(kernel).any()
    assert run.kept(loss).all()
    with pytest.raises(NotKept, match="weight dense/kernel at step 2: its elements were not kept"):
        run.read(kernel, 2)


def test_what_was_not_observed_is_told_from_what_was_not_kept(tmp_path):
    plan = RunPlan([Step({LOSS: float32(1)[0]}), Step({LOSS: float32(2)[0], INPUT: float32(3)})])
    run = only_run(make_trace(tmp_path / "a.zarr", plan))
    tensor = run.tensor(*INPUT)
    assert run.observed(tensor).tolist() == [False, True]
    assert run.kept(tensor).tolist() == [False, True]
    with pytest.raises(NotKept, match="input input/0 at step 0 was not observed"):
        run.read(tensor, 0)


def test_unknown_names_suggest_the_nearest(tmp_path):
    run = only_run(make_trace(tmp_path / "a.zarr", linear_run()))
    assert run.find("weight", "dense/kernle") is None
    with pytest.raises(UnknownName) as caught:
        run.tensor("weight", "dense/kernle")
    assert caught.value.hint == "did you mean dense/kernel?"
    with pytest.raises(UnknownName) as caught:
        run.tensor("weights", "dense/kernel")
    assert caught.value.hint == "did you mean weight?"


@pytest.mark.parametrize("step", [-1, 6, 1000])
def test_a_step_that_is_not_there_is_refused(tmp_path, step):
    run = only_run(make_trace(tmp_path / "a.zarr", linear_run(steps=6)))
    with pytest.raises(UnknownName, match="has steps 0 to 5"):
        run.read(run.tensor(*LOSS), step)


def test_a_moment_that_is_none_is_refused(tmp_path):
    run = only_run(make_trace(tmp_path / "a.zarr", linear_run()))
    for ask in (
        run.digests,
        run.observed,
        run.kept,
        lambda *given: run.read(given[0], 0, given[1]),
    ):
        with pytest.raises(UsageError, match='"before" or "after"'):
            ask(run.tensor(*LOSS), "during")


def test_a_tensor_of_another_run_means_the_one_of_that_name(tmp_path):
    # given: the same tensor in another column
    a = only_run(make_trace(tmp_path / "a.zarr", linear_run(seed=1)))
    other = RunPlan([Step({("input", "x"): float32(7), LOSS: np.float32(5)})])
    b = only_run(make_trace(tmp_path / "b.zarr", other))
    # when, then
    assert b.read(a.tensor(*LOSS), 0) == 5
    with pytest.raises(UnknownName):
        b.read(a.tensor("weight", "dense/kernel"), 0)


def test_a_run_without_steps_can_be_opened_and_asked(tmp_path):
    run = only_run(make_trace(tmp_path / "a.zarr", RunPlan([], specs={KERNEL: {"shape": (2,)}})))
    kernel = run.tensor(*KERNEL)
    assert run.steps == 0
    assert run.digests(kernel).shape == (0, 2)
    assert run.kept(kernel, "after").shape == run.observed(kernel).shape == (0,)
    assert run.epoch.shape == (0,)
    assert run.external_changes() == ()
    with pytest.raises(UnknownName, match="no complete step"):
        run.read(kernel, 0)


def test_runs_are_named_as_a_user_would_type_them(tmp_path):
    one = make_trace(tmp_path / "one.zarr", linear_run())
    two = make_trace(tmp_path / "two.zarr", linear_run(), linear_run(steps=2))
    assert [run.path for run in open_trace(one).runs] == [str(one)]
    assert [run.path for run in open_trace(two).runs] == [f"{two}/run-0", f"{two}/run-1"]
    (chosen,) = open_trace(f"{two}/run-1/").runs
    assert (chosen.path, chosen.steps) == (f"{two}/run-1", 2)


def test_a_trace_may_itself_be_called_like_a_run(tmp_path):
    path = make_trace(tmp_path / "run-3", linear_run(), linear_run())
    assert [run.path for run in open_trace(path).runs] == [f"{path}/run-0", f"{path}/run-1"]


def test_a_path_in_the_working_directory_stays_as_typed(tmp_path, monkeypatch):
    make_trace(tmp_path / "a.zarr", linear_run())
    monkeypatch.chdir(tmp_path)
    assert only_run("a.zarr").path == "a.zarr"
    assert only_run("a.zarr/run-0").path == "a.zarr/run-0"
    monkeypatch.chdir("a.zarr")
    assert only_run("run-0").steps == 6


def test_fits_and_epochs_tell_steps_apart(tmp_path):
    steps = [Step({LOSS: np.float32(n)}, fit=n // 4, epoch=n // 2, batch=n % 2) for n in range(8)]
    run = only_run(make_trace(tmp_path / "a.zarr", RunPlan(steps)))
    assert run.fit.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert run.epoch.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert run.batch.tolist() == [0, 1] * 4
    assert np.all(np.diff(run.seconds) >= 0)


def test_numbers_that_json_lacks_come_back_as_floats(tmp_path):
    about = {
        "optimizer": {
            "class": "SGD",
            "config": {"clipnorm": float("inf"), "rates": [float("nan")]},
        },
        "model": {"name": "nan", "class": "Sequential", "layers": [{"name": "inf"}]},
    }
    run = only_run(make_trace(tmp_path / "a.zarr", RunPlan([Step()], about=about)))
    assert run.about["optimizer"]["config"]["clipnorm"] == float("inf")
    assert np.isnan(run.about["optimizer"]["config"]["rates"][0])
    assert run.about["model"]["name"] == "nan"
    assert run.about["model"]["layers"][0]["name"] == "inf"
    assert run.about["stack"] == ABOUT["stack"]


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_compressed_values_read_the_same(tmp_path, compression):
    plan = linear_run()
    run = only_run(make_trace(tmp_path / "a.zarr", plan, compression=compression))
    value = run.read(run.tensor("weight", "dense/kernel"), 5, "after")
    np.testing.assert_array_equal(value, plan.steps[5].after["weight", "dense/kernel"])


def test_what_is_read_belongs_to_the_caller(tmp_path):
    run = only_run(make_trace(tmp_path / "a.zarr", linear_run()))
    kernel = run.tensor("weight", "dense/kernel")
    first = run.read(kernel, 0)
    kept = first.copy()
    first[:] = 99
    run.digests(kernel)[:] = 0
    np.testing.assert_array_equal(run.read(kernel, 0), kept)


def test_narrow_bands_of_a_table_hold_the_same_columns(tmp_path, monkeypatch):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    whole = only_run(path)
    expected = {tensor.key: whole.digests(tensor) for tensor in whole.tensors}
    monkeypatch.setattr(_table, "BAND_BYTES", 1)
    banded = only_run(path)
    for tensor in banded.tensors:
        np.testing.assert_array_equal(banded.digests(tensor), expected[tensor.key])


def test_a_tensor_declared_later_is_not_observed_before(tmp_path):
    # given: what one fit feeds and the next does not, in a table that has been written already
    from tracediff_hooks.recorder import Recorder, TensorSpec

    recorder = Recorder(tmp_path / "a.zarr", level="full")
    recorder.begin_run(about=ABOUT, tensors=[TensorSpec("loss", "loss", "float32", ())])
    recorder.record_step(before={}, observed={LOSS: np.float32(1)}, after={})
    recorder.flush()
    weight = TensorSpec("sample_weight/0", "sample_weight", "float32", (1,))
    recorder.declare(weight)
    late = {LOSS: np.float32(2), ("sample_weight", "sample_weight/0"): float32(8)}
    recorder.record_step(before={}, observed=late, after={})
    recorder.close()
    # when
    run = only_run(tmp_path / "a.zarr")
    tensor = run.tensor("sample_weight", "sample_weight/0")
    # then
    assert run.observed(tensor).tolist() == [False, True]
    assert run.read(tensor, 1).tolist() == [8]


def test_threads_read_what_one_reads(tmp_path):
    # given
    path = make_trace(tmp_path / "a.zarr", linear_run(steps=30))
    alone, shared = only_run(path), only_run(path)
    wanted = [(tensor, step) for tensor in alone.tensors for step in range(30)]
    expected = [alone.read(tensor, step) for tensor, step in wanted]
    started = threading.Barrier(8)

    def read_all(_):
        started.wait()
        return [shared.read(tensor, step) for tensor, step in wanted]

    # when
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(read_all, range(8)))
    # then
    for result in results:
        for found, value in zip(result, expected, strict=True):
            np.testing.assert_array_equal(found, value)


def test_narrow_floats_are_decoded_exactly():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name, width in (("bfloat16", 16), ("float8_e5m2", 8), ("float8_e4m3fn", 8)):
        stored = np.arange(2**width, dtype=f"u{width // 8}")
        expected = stored.view(getattr(ml_dtypes, name)).astype(np.float32)
        np.testing.assert_array_equal(decoded(stored, name), expected)


def test_bfloat16_is_read_as_float32(tmp_path):
    # given: 1.0, -2.5 and infinity, stored as a recorder stores what numpy lacks
    stored = np.array([0x3F80, 0xC020, 0x7F80], np.uint16)
    plan = RunPlan(
        [Step(after={KERNEL: stored})],
        initial={KERNEL: stored},
        specs={KERNEL: {"dtype": "bfloat16"}},
    )
    # when
    run = only_run(make_trace(tmp_path / "a.zarr", plan))
    value = run.read(run.tensor(*KERNEL), 0)
    # then
    assert value.dtype == np.float32
    assert value.tolist() == [1.0, -2.5, np.inf]


def test_an_element_type_without_a_counterpart_is_told(tmp_path):
    plan = RunPlan(
        [Step({INPUT: np.array([1], np.uint8)})], specs={INPUT: {"dtype": "float8_e3m4"}}
    )
    run = only_run(make_trace(tmp_path / "a.zarr", plan))
    tensor = run.tensor(*INPUT)
    assert run.observed(tensor).all()
    assert not run.kept(tensor).any()
    with pytest.raises(TracediffError, match="element type float8_e3m4"):
        run.read(tensor, 0)


def test_reprs_say_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = open_trace(make_trace("a.zarr", linear_run(), linear_run(steps=1, status="recording")))
    assert repr(trace).splitlines() == [
        "Trace('a.zarr', written by tracediff-hooks 0.1.0)",
        "  Run('a.zarr/run-0': 6 steps, complete, 11 tensors)",
        "  Run('a.zarr/run-1': 1 step, incomplete, 11 tensors)",
    ]
    tensors = trace.runs[0].tensors
    assert repr(tensors[0]) == "Tensor(weight 'dense/kernel', float32 (3, 2))"
    varying = trace.runs[0].tensor("input", "input/0")
    assert repr(varying) == "Tensor(input 'input/0', float32 varying shape)"


@pytest.mark.parametrize("spec", [{"ragged": True, "shape": None}, {"sparse": True}, {}])
def test_a_tensor_that_was_never_observed_takes_no_room_worth_telling(tmp_path, spec):
    plan = RunPlan([Step({LOSS: np.float32(1)})], specs={INPUT: {"shape": (2, 3), **spec}})
    run = only_run(make_trace(tmp_path / "a.zarr", plan))
    tensor = run.tensor(*INPUT)
    assert not run.observed(tensor).any()
    assert run.bytes_on_disk(tensor) < 2000
