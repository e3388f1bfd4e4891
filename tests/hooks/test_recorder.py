"""What the recorder writes is what docs/trace-format.md says, and the same on every stack.

Everything is read back with plain zarr, by the rules of that page and none of the recorder's code.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import struct
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import xxhash
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracediff_hooks import recorder as recorder_module
from tracediff_hooks import run as run_module
from tracediff_hooks import values as values_module
from tracediff_hooks import writer as writer_module
from tracediff_hooks.digest import digest_of
from tracediff_hooks.recorder import Recorder, SparseRows, TensorSpec

PROGRAM = Path(__file__).parent / "programs" / "recorder_contract.py"
ABSENT = (0, 0)


def load_story():
    spec = importlib.util.spec_from_file_location("recorder_contract", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STORY = load_story()


class Plain:
    """A run, read by the format page."""

    def __init__(self, path, run="run-0"):
        self.group = zarr.open_group(path, mode="r")[run]
        self.about = self.group.attrs["run"]
        self.lines = {(line["role"], line["name"]): line for line in self.about["tensors"]}
        self.steps = int(self.group["progress"][0])

    def versions(self, role, name):
        line = self.lines[role, name]
        return self.group[line["table"]]["version"][:, line["column"]].tolist()

    def digests(self, role, name):
        line = self.lines[role, name]
        return [tuple(map(int, d)) for d in self.group[line["table"]]["digest"][:, line["column"]]]

    def stored(self, role, name):
        """Every stored value, in the order of versions; of sparse ones (values, rows)."""
        line = self.lines[role, name]
        at = self.group[line["path"]]
        if line["layout"] == "fixed":
            return list(at[...])
        values, start, row = [], 0, 0
        for padded in at["shape"][...]:
            shape = tuple(int(extent) for extent in padded if extent >= 0)
            end = start + int(np.prod(shape, dtype=np.int64))
            value = at["data"][start:end].reshape(shape)
            if line["layout"] == "sparse":
                rows = at["rows"][row : row + shape[0]]
                row += shape[0]
                value = value, rows
            values.append(value)
            start = end
        return values

    def rows(self, role, name):
        """The value of each row of the table, None where it was not observed or not kept."""
        stored = self.stored(role, name)
        return [None if v < 0 else stored[v] for v in self.versions(role, name)]

    def external(self):
        """(step, name, version, digest) of every change between steps."""
        part = self.group["external"]
        names = {
            line["column"]: line["name"]
            for line in self.about["tensors"]
            if line["table"] == "state"
        }
        return [
            (int(step), names[int(column)], int(version), tuple(map(int, digest)))
            for step, column, version, digest in zip(
                part["step"][...], part["column"][...], part["version"][...], part["digest"][...]
            )
        ]


def hash_of(*arrays):
    """The format page's digest: low and high word of the XXH3 hash of the bytes."""
    joined = b"".join(np.asarray(array).tobytes() for array in arrays)
    value = xxhash.xxh3_128(joined).intdigest()
    return value & (2**64 - 1), value >> 64


def weight(name="w", dtype="float32", shape=(2,), **more):
    return TensorSpec(name, "weight", dtype, shape, **more)


def observed(name, role, dtype="float32", shape=(), **more):
    return TensorSpec(name, role, dtype, shape, **more)


def f4(*values):
    return np.array(values, np.float32)


def record(path, specs, steps, **options):
    """Records steps of (before, after) or (before, observed, after), dicts by (role, name)."""
    recorder = Recorder(path, **options)
    recorder.begin_run({}, specs)
    for step in steps:
        before, seen, after = step if len(step) == 3 else (step[0], {}, step[1])
        recorder.record_step(before=before, observed=seen, after=after)
    recorder.close()
    return Plain(path)


def weights(*values, name="w"):
    return [{("weight", name): f4(value, value)} for value in values]


# --- the file


def test_a_trace_is_a_zarr_group_of_format_2_with_the_attribute_tracediff(tmp_path):
    # Given a trace with one step
    before, after = weights(1, 2)
    record(tmp_path / "a.zarr", [weight()], [(before, after)])
    # Then it is of format 2 all through, and says which version of which writer it is from
    assert list((tmp_path / "a.zarr").rglob("zarr.json")) == []
    about = json.loads((tmp_path / "a.zarr" / ".zattrs").read_text())["tracediff"]
    assert about["format"] == 1
    assert about["writer"].startswith("tracediff-hooks ")
    for array in (tmp_path / "a.zarr").rglob(".zarray"):
        assert json.loads(array.read_text())["zarr_format"] == 2


def test_tables_and_values_say_what_was_where(tmp_path):
    # Given two steps, of which each changes the weight
    one, two, three = weights(1, 2, 3)
    loss = {("loss", "loss"): np.float32(0.5)}
    run = record(
        tmp_path / "a.zarr",
        [weight(layer="d", order=4, trainable=True), observed("loss", "loss")],
        [(one, loss, two), (two, loss, three)],
    )
    # Then row 0 of the state is the state before, row k + 1 that after step k
    assert run.steps == 2
    assert [v.tolist() for v in run.rows("weight", "w")] == [[1, 1], [2, 2], [3, 3]]
    # what is observed has a row a step,
    assert run.rows("loss", "loss") == [0.5, 0.5]
    # every digest is the hash of the bytes,
    assert run.digests("weight", "w") == [hash_of(f4(v, v)) for v in (1, 2, 3)]
    assert run.digests("loss", "loss") == [hash_of(f4(0.5))] * 2
    # and the table of tensors knows each
    line = run.lines["weight", "w"]
    assert (line["table"], line["layout"], line["path"]) == ("state", "fixed", "values/weight/w")
    assert (line["dtype"], line["shape"], line["layer"]) == ("float32", [2], "d")
    assert (line["order"], line["trainable"], line["same_as"]) == (4, True, None)
    assert run.about["status"] == "complete"
    assert run.about["level"] == "full"


def test_steps_know_fit_epoch_and_batch(tmp_path):
    # Given two fits, the second of two epochs
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    (state,) = weights(1)
    for fit, epoch, batch in ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)):
        if (epoch, batch) == (0, 0):
            recorder.begin_fit({"epochs": fit + 1})
        recorder.record_step(before=state, observed={}, after=state, epoch=epoch, batch=batch)
    recorder.close()
    # Then each step tells where it stands, and each fit where it began
    run = Plain(tmp_path / "a.zarr")
    steps = run.group["steps"]
    assert steps["fit"][...].tolist() == [0, 0, 1, 1]
    assert steps["epoch"][...].tolist() == [0, 0, 0, 1]
    assert steps["batch"][...].tolist() == [0, 1, 0, 0]
    assert np.all(np.diff(steps["seconds"][...]) >= 0)
    assert run.about["fits"] == [
        {"epochs": 1, "first_step": 0},
        {"epochs": 2, "first_step": 2},
    ]


def test_names_are_percent_encoded_in_paths_only(tmp_path):
    # Given a name with a space, a colon, an umlaut and a percent sign
    name = "größe 1/käse:0 100%"
    value = {("weight", name): f4(1, 2)}
    run = record(tmp_path / "a.zarr", [weight(name)], [(value, value)])
    # Then the table has it as it is, and the path holds plain characters that mean the same
    path = run.lines["weight", name]["path"]
    assert path.isascii()
    assert not set(path) & set(" :%") - {"%"}
    assert unquote(path) == "values/weight/" + name
    assert run.stored("weight", name)[0].tolist() == [1, 2]


# --- stored once


def test_equal_values_are_stored_once(tmp_path):
    # Given a weight that goes 1, 2, 1, 2, 3
    states = weights(1, 2, 1, 2, 3)
    run = record(tmp_path / "a.zarr", [weight()], list(zip(states, states[1:])))
    # Then three values are stored, and the others point to them
    assert run.versions("weight", "w") == [0, 1, 0, 1, 2]
    assert len(run.stored("weight", "w")) == 3


def test_equal_means_equal_bytes(tmp_path):
    # Given zeros of both signs and a NaN that stays
    values = [0.0, -0.0, np.nan, np.nan]
    states = weights(*values)
    run = record(tmp_path / "a.zarr", [weight()], list(zip(states, states[1:])))
    # Then the zeros are two values, and the NaN one
    assert run.versions("weight", "w") == [0, 1, 2, 2]
    assert np.signbit(run.stored("weight", "w")[1]).all()
    # and nothing of it is called a change from outside
    assert run.external() == []


def test_equal_bytes_of_another_shape_are_another_value(tmp_path):
    # Given batches of six zeros, as (2, 3) and as (3, 2)
    key = ("input", "input/0")
    batches = [np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)]
    run = record(
        tmp_path / "a.zarr",
        [observed("input/0", "input", shape=None, ragged=True)],
        [({}, {key: batch}, {}) for batch in batches],
    )
    # Then each comes back in its shape
    assert [v.shape for v in run.rows(*key)] == [(2, 3), (3, 2)]


def test_a_value_that_comes_again_after_very_many_others_is_right_all_the_same(
    tmp_path, monkeypatch
):
    # Given that only two values of a tensor are remembered, when three take turns
    monkeypatch.setattr(run_module, "KNOWN_VERSIONS", 2)
    numbers = [1, 2, 3] * 3
    states = weights(*numbers)
    run = record(tmp_path / "a.zarr", [weight()], list(zip(states, states[1:])))
    # Then each row has its value, and those remembered were stored once
    assert [v[0] for v in run.rows("weight", "w")] == numbers


def test_the_recorder_keeps_what_it_was_given_not_what_became_of_it(tmp_path):
    # Given arrays of another array's memory
    memory = f4(1, 2, 3, 4)
    key = ("weight", "w")
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()])
    recorder.record_step(before={key: memory[::2].copy()}, observed={}, after={key: memory[1::2]})
    recorder.close()
    # Then those that are not contiguous are stored and hashed by their values
    run = Plain(tmp_path / "a.zarr")
    assert [v.tolist() for v in run.rows(*key)] == [[1, 3], [2, 4]]
    assert run.digests(*key) == [hash_of(f4(1, 3)), hash_of(f4(2, 4))]


# --- changes from outside


def test_a_change_between_two_steps_is_noticed_and_only_that(tmp_path):
    # Given two weights, of which one is found changed before step 2 and the other before step 3
    def state(a, b):
        return {("weight", "a"): f4(a, a), ("weight", "b"): f4(b, b)}

    run = record(
        tmp_path / "a.zarr",
        [weight("a"), weight("b")],
        [
            (state(0, 0), state(1, 1)),
            (state(1, 1), state(2, 2)),
            (state(9, 2), state(3, 3)),
            (state(3, 1), state(4, 4)),
        ],
    )
    # Then the external table holds just these two, the second as the version it already was
    assert run.external() == [
        (2, "a", 3, hash_of(f4(9, 9))),
        (3, "b", 1, hash_of(f4(1, 1))),
    ]
    assert run.stored("weight", "a")[3].tolist() == [9, 9]
    assert run.stored("weight", "b")[1].tolist() == [1, 1]
    # and the rows of the state are those after the steps
    assert [v[0] for v in run.rows("weight", "a")] == [0, 1, 2, 3, 4]


def test_only_what_changed_need_be_given_before_a_later_step(tmp_path):
    # Given a recorder that is asked what of the state it does not know yet
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight("a"), weight("b")])
    one = {("weight", "a"): f4(1, 1), ("weight", "b"): f4(1, 1)}
    assert set(recorder.changed(one)) == set(one)
    recorder.record_step(before=one, observed={}, after=one)
    # When one of two weights was changed since
    other = {**one, ("weight", "b"): f4(7, 7)}
    found = recorder.changed(other)
    # Then that one is found, as a copy that may be kept
    assert list(found) == [("weight", "b")]
    assert not np.shares_memory(found["weight", "b"], other["weight", "b"])
    recorder.record_step(before=found, observed={}, after=other)
    recorder.close()
    run = Plain(tmp_path / "a.zarr")
    assert [change[:2] for change in run.external()] == [(1, "b")]


# --- layouts


def test_batches_of_any_shape_are_stored_one_after_the_other(tmp_path):
    # Given batches of 3, 2, 0 and again 3 rows
    key = ("input", "input/0")
    batches = [np.arange(n * 2, dtype=np.float32).reshape(n, 2) for n in (3, 2, 0, 3)]
    run = record(
        tmp_path / "a.zarr",
        [observed("input/0", "input", shape=None, ragged=True)],
        [({}, {key: batch}, {}) for batch in batches],
    )
    # Then each comes back in its shape, the fourth as the first
    assert run.lines[key]["layout"] == "ragged"
    assert run.lines[key]["shape"] is None
    for found, batch in zip(run.rows(*key), batches):
        assert np.array_equal(found, batch)
        assert found.shape == batch.shape
    assert run.versions(*key) == [0, 1, 2, 0]


def test_sparse_gradients_keep_their_rows(tmp_path):
    # Given indexed slices: of as many rows, of fewer, of the same values in another order
    key = ("gradient", "w")
    slices = [
        (np.ones((2, 3), np.float32), np.array([4, 1])),
        (np.ones((2, 3), np.float32), np.array([1, 4])),
        (np.full((1, 3), 5, np.float32), np.array([0])),
        (np.ones((2, 3), np.float32), np.array([4, 1])),
    ]
    run = record(
        tmp_path / "a.zarr",
        [observed("w", "gradient", shape=(5, 3), sparse=True)],
        [({}, {key: SparseRows(*pair)}, {}) for pair in slices],
    )
    # Then values and rows come back, equal pairs stored once
    assert run.lines[key]["layout"] == "sparse"
    assert run.lines[key]["shape"] == [5, 3]
    assert run.versions(*key) == [0, 1, 2, 0]
    for (values, rows), (expected, numbers) in zip(run.rows(*key), slices):
        assert np.array_equal(values, expected)
        assert rows.tolist() == numbers.tolist()
    # and the digest is that of the values' bytes and then the rows' as int64
    assert run.digests(*key) == [hash_of(v, r.astype(np.int64)) for v, r in slices]


def test_a_tensor_that_appears_later_is_not_observed_before(tmp_path):
    # Given a metric that is first reported by the third of four steps, and not by the fourth
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [observed("loss", "loss")])
    loss, metric = ("loss", "loss"), ("metric", "metric/late")
    for step in range(4):
        seen = {loss: np.float32(step)}
        if step == 2:
            recorder.declare(observed("metric/late", "metric"))
            seen[metric] = np.float32(7)
        recorder.record_step(before={}, observed=seen, after={})
        recorder.flush()
    recorder.close()
    # Then its column has one value; elsewhere version -1 and a digest of zeros
    run = Plain(tmp_path / "a.zarr")
    assert run.rows(*metric) == [None, None, 7, None]
    assert run.digests(*metric) == [ABSENT, ABSENT, hash_of(f4(7)), ABSENT]
    assert run.rows(*loss) == [0, 1, 2, 3]


def test_a_gradient_that_is_both_raw_and_applied_is_recorded_once(tmp_path):
    # Given an applied gradient declared to be the raw one
    key = ("gradient", "w")
    run = record(
        tmp_path / "a.zarr",
        [
            observed("w", "gradient", shape=(2,)),
            observed("w", "applied_gradient", shape=(2,), same_as="gradient"),
        ],
        [({}, {key: f4(1, 2)}, {})],
    )
    # Then its line points to the other, and it has no column of its own
    line = run.lines["applied_gradient", "w"]
    assert (line["same_as"], line["column"]) == ("gradient", None)
    assert line["path"] == run.lines[key]["path"]
    assert run.group["observed/version"].shape == (1, 1)


@pytest.mark.parametrize("dtype", STORY.DTYPES)
def test_every_dtype_comes_back_as_it_was(tmp_path, dtype):
    # Given values of a dtype, its extremes among them
    kind = np.dtype(dtype).kind
    extremes = [0, 1]
    if kind in "iu":
        extremes = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    if kind in "fc":
        extremes = [np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal]
    value = np.array([0, 1, *extremes], dtype)
    key = ("weight", "w")
    run = record(tmp_path / "a.zarr", [weight(dtype=dtype, shape=(4,))], [({key: value},) * 2])
    # Then the stored value has the dtype and the bytes
    found = run.stored(*key)[0]
    assert (found.dtype, found.tobytes()) == (np.dtype(dtype), value.tobytes())
    assert run.lines[key]["dtype"] == dtype


def test_bfloat16_is_stored_as_integers_of_its_width(tmp_path):
    # Given 1.0 and -2.0 as bfloat16, whose bits are the upper half of float32's
    bits = (f4(1, -2).view(np.uint32) >> 16).astype(np.uint16)
    value = bits.view("V2")  # what numpy makes of a type it does not know
    key = ("weight", "w")
    run = record(tmp_path / "a.zarr", [weight(dtype="bfloat16")], [({key: value},) * 2])
    # Then the bits are there as uint16, the digest is that of the bytes, the table knows the type
    found = run.stored(*key)[0]
    assert (found.dtype, found.tolist()) == (np.uint16, bits.tolist())
    assert run.digests(*key)[0] == hash_of(bits)
    assert run.lines[key]["dtype"] == "bfloat16"


# --- what is kept


def test_level_digest_keeps_scalars_and_digests(tmp_path):
    # Given level digest
    one, two = weights(1, 2)
    loss = ("loss", "loss")
    run = record(
        tmp_path / "a.zarr",
        [weight(), observed("loss", "loss")],
        [(one, {loss: np.float32(3)}, two)],
        level="digest",
    )
    # Then tensors have digests and no values, scalars have both
    assert run.about["level"] == "digest"
    assert run.lines["weight", "w"]["path"] is None
    assert run.versions("weight", "w") == [-1, -1]
    assert run.digests("weight", "w") == [hash_of(f4(1, 1)), hash_of(f4(2, 2))]
    assert run.rows(*loss) == [3]
    assert "weight" not in run.group["values"]


@pytest.mark.parametrize(
    ("size", "level"), [(64 << 20, "full"), ((64 << 20) + 1, "sketch"), (10 << 30, "sketch")]
)
def test_level_auto_keeps_everything_of_small_models_and_says_where_not(
    tmp_path, capsys, size, level
):
    # Given a step of a size at level auto
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [weight()], bytes_per_step=size)
    (state,) = weights(1)
    recorder.record_step(before=state, observed={}, after=state)
    recorder.close()
    # Then the level is chosen by it, and a choice to keep less is said on stderr and in the trace
    run = Plain(tmp_path / "a.zarr")
    assert run.about["level"] == level
    said = capsys.readouterr().err
    told = [event["kind"] for event in run.about["events"]]
    assert (bool(said), told) == ((level == "sketch"), ["level"] * (level == "sketch"))


def test_level_full_keeps_everything_of_large_models(tmp_path, capsys):
    # Given a huge step, when the user asked for level full, then everything is kept without a word
    recorder = Recorder(tmp_path / "a.zarr", level="full")
    recorder.begin_run({}, [weight()], bytes_per_step=10 << 30)
    recorder.close()
    assert Plain(tmp_path / "a.zarr").about["level"] == "full"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_values_come_back_as_they_were(tmp_path, compression):
    # Given a compression
    states = [{("weight", "w"): np.full(2000, v, np.float32)} for v in (1, 2)]
    run = record(
        tmp_path / "a.zarr", [weight(shape=(2000,))], [tuple(states)], compression=compression
    )
    # Then the values are smaller on disk and the same
    assert [v[7] for v in run.rows("weight", "w")] == [1, 2]
    chunks = [p for p in (tmp_path / "a.zarr/run-0/values").rglob("*") if p.name[0] != "."]
    assert sum(p.stat().st_size for p in chunks if p.is_file()) < 4000


def test_attributes_are_plain_json(tmp_path):
    # Given attributes with numbers that JSON does not have, and objects of numpy
    recorder = Recorder(tmp_path / "a.zarr")
    about = {
        "optimizer": {"a": float("nan"), "b": [np.inf, -np.inf], "c": np.float32(0.5)},
        "model": {"d": np.int64(3), "e": np.bool_(True), "f": np.arange(2), 7: (1, None)},
    }
    recorder.begin_run(about, [])
    recorder.close()
    # Then a strict parser reads them, and what is not finite is text
    text = (tmp_path / "a.zarr/run-0/.zattrs").read_text()

    def refuse(name):
        raise AssertionError(name)

    run = json.loads(text, parse_constant=refuse)["run"]
    assert run["optimizer"] == {"a": "nan", "b": ["inf", "-inf"], "c": 0.5}
    assert run["model"] == {"d": 3, "e": True, "f": [0, 1], "7": [1, None]}


# --- runs, flushes, chunks


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
    monkeypatch.setattr(writer_module, "QUEUE_BYTES", 100)
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
    assert 1 < max(waiting) <= writer_module.QUEUE_BYTES / recorder_module.LEAST_BYTES
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


# --- digests


def test_the_digest_is_xxh3_of_128_bits():
    # Given the hash of nothing, as the specification of XXH3 has it
    high, low = 0x99AA06D3014798D8, 0x6001C324468D497F
    # Then the digest is its low and its high word
    assert digest_of(np.zeros((0, 3), np.float32)) == (low, high)


@settings(deadline=None, database=None, max_examples=60)
@given(st.data())
def test_the_digest_is_that_of_the_bytes_whatever_the_layout_in_memory(data):
    # Given any array, in any order in memory, strided or not
    array = data.draw(
        hnp.arrays(hnp.scalar_dtypes().filter(little_endian), hnp.array_shapes(min_side=0))
    )
    for view in (array, array.T, np.asfortranarray(array), array[::2]):
        # Then its digest is the hash of its bytes in C order
        assert digest_of(view) == hash_of(view)
    # and several arrays are hashed as their bytes one after the other
    assert digest_of(array, array) == hash_of(array, array)


def little_endian(dtype):
    return dtype.kind in "biufc" and dtype.byteorder != ">" and dtype.itemsize <= 16


DTYPES = st.sampled_from([np.dtype(name) for name in STORY.DTYPES])


@settings(deadline=None, database=None, max_examples=25)
@given(st.data())
def test_any_array_makes_the_round_trip(data):
    # Given a few values of any dtype: of one shape, 0-d and empty ones too, and batches of any
    dtype = data.draw(DTYPES)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    values = data.draw(st.lists(hnp.arrays(dtype, shape), min_size=2, max_size=5))
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    batches = [data.draw(hnp.arrays(dtype, shapes)) for _ in values[1:]]
    state, batch = ("weight", "w"), ("input", "input/0")
    # When they are recorded
    with tempfile.TemporaryDirectory() as folder:
        run = record(
            Path(folder) / "a.zarr",
            [
                weight(dtype=dtype.name, shape=shape),
                observed("input/0", "input", dtype.name, None, ragged=True),
            ],
            [
                ({state: before}, {batch: fed}, {state: after})
                for before, fed, after in zip(values, batches, values[1:])
            ],
        )
        # Then every one comes back with its dtype, shape and bytes, and its digest is its hash
        for key, given_values in ((state, values), (batch, batches)):
            found = run.rows(*key)
            assert len(found) == len(given_values)
            for value, expected in zip(map(np.asarray, found), given_values):
                assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
                assert value.tobytes() == expected.tobytes()
            assert run.digests(*key) == [hash_of(value) for value in given_values]
            # and values of equal bytes and shape are stored once
            distinct = {(v.tobytes(), v.shape) for v in given_values}
            assert len(run.stored(*key)) == len(distinct)


# --- the same on every stack


@pytest.fixture(scope="module")
def written_here(tmp_path_factory):
    """The story, recorded by this interpreter."""
    folder = tmp_path_factory.mktemp("here")
    STORY.write(folder)
    return folder / "a.zarr"


@pytest.fixture(scope="module")
def written_there(stack, tmp_path_factory):
    """The story, recorded by a stack's own Python, numpy and zarr."""
    folder = tmp_path_factory.mktemp(stack.name)
    stack.run(PROGRAM, "write", folder)
    return folder / "a.zarr"


def assert_story(run):
    specs, steps = STORY.story()
    for name, role, _, _ in specs:
        expected = [steps[0][0][role, name]] + [after[role, name] for _, _, after in steps]
        for value, truth in zip(run.rows(role, name), expected):
            assert np.asarray(value).tobytes() == truth.tobytes(), name
            assert np.asarray(value).dtype == truth.dtype
        assert run.digests(role, name) == [hash_of(value) for value in expected]
    for step, (_, seen, _) in enumerate(steps):
        values, rows = run.rows("gradient", "never/changes")[step]
        assert np.array_equal(values, seen["gradient", "never/changes"][0])
        assert np.array_equal(rows, seen["gradient", "never/changes"][1])
        assert np.array_equal(run.rows("input", "input/0")[step], seen["input", "input/0"])
        loss = run.rows("loss", "loss")[step]
        assert struct.pack("<f", loss) == struct.pack("<f", seen["loss", "loss"])
    assert run.versions("weight", "never/changes") == [0] * 8
    assert run.rows("metric", "metric/late one") == [None] * 3 + [3, 4, 5, 6]
    changes = [change[:2] for change in run.external()]
    assert changes == [(2, "changed/outside"), (5, "changed/outside")]


def test_the_story_is_recorded_as_it_was_told(written_there):
    # Given the story of the contract, recorded by the oldest and the newest zarr, when it is read
    # by the newest, then every value and digest is as it was told
    assert_story(Plain(written_there))


def test_every_stack_writes_the_same_tables_and_values(written_there, written_here):
    # Given the story recorded here and on a stack, when all arrays of both are compared
    here, there = STORY.read(str(written_here)), STORY.read(str(written_there))
    # Then they have the same names, shapes, dtypes and bytes, but for the time that passed
    differ = [name for name in set(here) | set(there) if here.get(name) != there.get(name)]
    assert sorted(differ) == ["run-0/steps/seconds"]
    # and the attributes agree, but for the time it was
    one, other = (Plain(path).about for path in (written_here, written_there))
    assert {**one, "started": 0} == {**other, "started": 0}


def test_every_stack_reads_what_the_newest_zarr_writes(stack, written_here):
    # Given the story recorded here, when a stack's own zarr reads it
    there = json.loads(stack.run(PROGRAM, "read", written_here).stdout)
    # Then it finds what this one finds
    assert there == STORY.read(str(written_here))
