"""What the recorder writes is what docs/trace-format.md says: what is stored, once, and where.

Everything is read back with plain zarr, by the rules of that page and none of the recorder's code.
"""

from __future__ import annotations

import json
from urllib.parse import unquote

import numpy as np
import pytest
from support.plain_traces import Plain, f4, hash_of, observed, record, weight, weights

from tracediff_hooks import run as run_module
from tracediff_hooks.recorder import Recorder

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


def test_names_that_are_no_folders_stay_below_their_run(tmp_path):
    # Given names that would lead elsewhere, be hidden, or be those of another tensor's folder
    names = ["..", "../../x", ".", ".zarray", "x", "x/", "x//y", "x/y", "/x", ""]
    values = {("weight", name): f4(place, 1) for place, name in enumerate(names)}
    run = record(tmp_path / "a.zarr", [weight(name) for name in names], [(values, values)])
    # Then each has a place of its own
    paths = [run.lines["weight", name]["path"] for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        assert not {"", ".", ".."} & set(path.split("/"))
        assert not any(part.startswith(".") for part in path.split("/"))
    # nothing stands beside the run, and all of them read back
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr"]
    for place, name in enumerate(names):
        assert run.stored("weight", name)[0].tolist() == [place, 1]


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
