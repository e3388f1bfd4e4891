"""A damaged trace is told as one: never a silently wrong value, never a foreign exception."""

from __future__ import annotations

import gzip
import json
import shutil
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.build import RunPlan, Step, linear_run, make_trace

from tracediff import open_trace
from tracediff.cli import main
from tracediff.errors import DamagedTrace, NotKept, TracediffError
from tracediff_hooks import values as recorded_values
from tracediff_hooks.recorder import SparseRows

GRADIENT = ("gradient", "embedding/table")

# A zarr library may leave out a chunk that holds nothing but the fill value, which for these
# arrays is also an ordinary value.
MAY_BE_LEFT_OUT = {
    "steps/fit",
    "steps/epoch",
    "steps/batch",
    "steps/seconds",
    "external/column",
    "external/version",
}


def plan():
    """Every layout, a change from outside, and more than one epoch."""
    linear = linear_run(steps=6)
    rows = [SparseRows(np.full((2, 3), n, np.float32), np.array([n, 2])) for n in range(6)]
    steps = [
        Step(
            {**step.observed, GRADIENT: sparse},
            step.after,
            {("weight", "dense/bias"): np.ones(2, np.float32)} if number == 3 else {},
            epoch=step.epoch,
            batch=step.batch,
        )
        for number, (step, sparse) in enumerate(zip(linear.steps, rows, strict=True))
    ]
    specs = {**linear.specs, GRADIENT: {"shape": (8, 3)}}
    return RunPlan(steps, linear.initial, linear.about, specs)


@pytest.fixture(scope="module", params=[None, "lz4"], ids=["plain", "lz4"])
def sound(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.zarr"
    make_trace(path, plan(), compression=request.param)
    return path, contents(path)


def contents(path):
    """Everything in a trace that can be read, and what is told of the rest."""
    found = {}

    def look(key, ask):
        try:
            found[key] = ask()
        except (DamagedTrace, NotKept) as error:
            found[key] = error

    (run,) = open_trace(path).runs
    found["steps"] = run.steps
    for name in ("fit", "epoch", "batch", "seconds"):
        look(name, lambda name=name: getattr(run, name))
    look("external", lambda: np.array([change.step for change in run.external_changes()]))
    for tensor in run.tensors:
        for moment in ("before", "after"):
            key = (*tensor.key, moment)
            look((*key, "digests"), lambda t=tensor, m=moment: run.digests(t, m))
            for step in range(run.steps):
                look((*key, step), lambda t=tensor, s=step, m=moment: run.read(t, s, m))
    for error in found.values():
        if isinstance(error, TracediffError):
            assert str(path) in str(error)
            assert "\n" not in str(error)
    return found


def chunk_files(path):
    return sorted(
        entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith(".z")
    )


def interesting_places(size):
    """Bytes of each kind: headers, the first values, the padding, the end."""
    return sorted({*range(min(size, 96)), size // 2, *range(max(0, size - 12), size)})


@contextmanager
def altered(file, content):
    """The file with other content (None: without it) for a while."""
    sound = file.read_bytes()
    try:
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        yield
    finally:
        file.write_bytes(sound)


def assert_found_or_harmless(found, expected):
    assert found.keys() == expected.keys()
    for key, value in found.items():
        if not isinstance(value, TracediffError):
            np.testing.assert_array_equal(value, expected[key])


def any_damage(path, expected):
    """Whether damage is told; what is read all the same has to be right."""
    try:
        found = contents(path)
    except DamagedTrace:
        return True
    assert_found_or_harmless(found, expected)
    return any(isinstance(value, DamagedTrace) for value in found.values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_flipped_byte_is_found_or_harmless(sound, data):
    # given: one byte of one chunk altered
    path, expected = sound
    # The number of complete steps is one bare integer, which nothing can check; see below.
    chunks = [file for file in chunk_files(path) if file.parent.name != "progress"]
    chunk = data.draw(st.sampled_from(chunks))
    content = bytearray(chunk.read_bytes())
    place = data.draw(
        st.one_of(
            st.sampled_from(interesting_places(len(content))),
            st.integers(0, len(content) - 1),
        )
    )
    content[place] ^= data.draw(st.integers(1, 255))
    # when
    with altered(chunk, content):
        found = contents(path)
    # then
    assert_found_or_harmless(found, expected)


@pytest.mark.parametrize("length", [0, 9, -1], ids=lambda n: f"to {n}")
def test_a_truncated_chunk_is_found(sound, length):
    path, expected = sound
    for chunk in chunk_files(path):
        content = chunk.read_bytes()
        if length < len(content):
            with altered(chunk, content[:length]):
                assert any_damage(path, expected), f"{chunk} cut to {length} went unnoticed"


def test_a_missing_chunk_is_found(sound):
    path, expected = sound
    for chunk in chunk_files(path):
        array = chunk.relative_to(path / "run-0").parent.as_posix()
        if array in MAY_BE_LEFT_OUT:
            continue
        with altered(chunk, None):
            assert any_damage(path, expected), f"{chunk} could be deleted unnoticed"


def test_an_error_names_path_tensor_and_step(tmp_path):
    # given
    path = make_trace(tmp_path / "a.zarr", linear_run())
    chunk = path / "run-0/values/weight/dense/kernel/0.0.0"
    content = bytearray(chunk.read_bytes())
    content[24 * 2] ^= 1
    chunk.write_bytes(content)
    (run,) = open_trace(path).runs
    kernel = run.tensor("weight", "dense/kernel")
    # when, then: version 2 is the value before step 2, and others are sound
    with pytest.raises(DamagedTrace) as caught:
        run.read(kernel, 2)
    assert str(caught.value).startswith(f"{path}: weight dense/kernel at step 2 ")
    assert caught.value.hint
    assert run.read(kernel, 3).shape == (3, 2)


@pytest.mark.parametrize("family", ["sketches/weight/dense/kernel", "row_digests/input/input/0"])
def test_an_altered_summary_is_found_where_it_has_a_hash(tmp_path, family):
    # given: a trace of sketches, and how its summaries are read
    path = make_trace(tmp_path / "a.zarr", linear_run(), level="sketch")

    def read(step):
        (run,) = open_trace(path).runs
        if family.startswith("sketches"):
            return run.sketch(run.tensor("weight", "dense/kernel"), step).numbers
        return run.row_digests(run.tensor("input", "input/0"), step)

    sound = [read(step) for step in (0, 1)]
    folder = path / "run-0" / family
    content = bytearray((folder / "data/0").read_bytes())
    content[3] ^= 1
    # when
    with altered(folder / "data/0", bytes(content)):
        # then: the summary is told to be damaged, and others are read
        with pytest.raises(DamagedTrace, match=f"{family}: summary 0 is not what was recorded"):
            read(0)
        np.testing.assert_array_equal(read(1), sound[1])
        # and: a trace of a recorder that wrote no hashes is read as it is
        shutil.rmtree(folder / "hash")
        assert (read(0) != sound[0]).any()
    np.testing.assert_array_equal(read(0), sound[0])


@pytest.mark.parametrize("compression", [None, "lz4"])
@pytest.mark.parametrize(
    ("tensor", "chunk", "first", "last"),
    [
        # The state before step k is value k, and that after it value k + 1; a chunk has 64 of them.
        ("weight/dense/kernel", "1.0.0", 63, 79),
        ("gradient/dense/kernel", "0.0.0", 0, 63),
        ("input/input/0", "data/0", 0, 69),
    ],
)
def test_the_error_of_a_truncated_chunk_says_which_steps_it_holds(
    tmp_path, monkeypatch, capsys, compression, tensor, chunk, first, last
):
    # given: a run of 80 steps with more than one chunk
    monkeypatch.setattr(recorded_values, "LEAST_EXTENT", 1)
    path = make_trace(tmp_path / "a.zarr", linear_run(steps=80), compression=compression)
    other = make_trace(tmp_path / "b.zarr", linear_run(steps=80, seed=1))
    file = path / "run-0/values" / tensor / chunk
    file.write_bytes(file.read_bytes()[:100])
    # when
    status = main(["compare", str(path), str(other)])
    # then: one line that says which tensor, which chunk and which steps, and a hint
    error, hint = capsys.readouterr().err.strip().splitlines()
    role, _, name = tensor.partition("/")
    number = chunk.replace("data/", "").partition(".")[0]
    assert error.startswith(f"error: {path}: {role} {name}")
    assert f"(chunk {number} holds steps {first} to {last})" in error
    assert hint.startswith("hint:")
    assert status == 2
    # and: the values of other chunks are read
    (run,) = open_trace(path).runs
    found = run.tensor(role, name)
    beyond = 10 if first else 79
    assert run.read(found, beyond).size
    with pytest.raises(DamagedTrace, match=f"holds steps {first} to {last}"):
        run.read(found, last, "after")


@pytest.mark.parametrize("bytes_", [b"\xff" * 8, b"\x07" + b"\0" * 7, b"\0" * 8])
def test_an_impossible_number_of_steps_is_found(tmp_path, bytes_):
    path = make_trace(tmp_path / "a.zarr", linear_run(steps=6))
    (path / "run-0/progress/0").write_bytes(gzip.compress(bytes_))
    with pytest.raises(DamagedTrace, match="progress says"):
        open_trace(path)


def change_run(path, change, run="run-0"):
    attributes = path / run / ".zattrs"
    document = json.loads(attributes.read_text())
    change(document["run"])
    attributes.write_text(json.dumps(document))


def set_field(name, value):
    def change(run):
        run["tensors"][0][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.pop("tensors"), "table of tensors is missing"),
        (lambda run: run.update(tensors={}), "table of tensors is missing"),
        (lambda run: run.update(status="sleeping"), "unknown status 'sleeping'"),
        (lambda run: run["tensors"].append(3), "tensor 11: a JSON object expected"),
        (lambda run: run["tensors"].append(run["tensors"][0]), "a role and name twice"),
        (lambda run: run["tensors"].pop(6), "which was not recorded"),
        (lambda run: run["tensors"][0].pop("dtype"), "lacks the field dtype"),
        (set_field("column", True), "has True as its column"),
        (set_field("column", -1), "has -1 as its column"),
        (set_field("column", None), "has None as its column"),
        (set_field("table", "elsewhere"), "unknown table 'elsewhere'"),
        (set_field("layout", "woven"), "unknown layout 'woven'"),
        (set_field("shape", [3, -2]), "as its shape"),
        (set_field("shape", None), "has no shape"),
        (set_field("name", 7), "has 7 as its name"),
    ],
)
def test_a_table_of_tensors_that_makes_no_sense_is_found(tmp_path, change, message):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    change_run(path, change)
    with pytest.raises(DamagedTrace, match=message):
        open_trace(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_field("dtype", "int32"), "stored as float32, not as int32"),
        (set_field("shape", [2, 3]), "the table of tensors says"),
        (set_field("path", "values/weight/gone"), "gone is missing"),
        (set_field("path", "values/weight"), "is a group, an array expected"),
        (set_field("path", None), "stored nowhere"),
        (set_field("column", 1), None),
    ],
)
def test_a_value_that_is_not_what_the_table_says_is_found(tmp_path, change, message):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    change_run(path, change)
    (run,) = open_trace(path).runs
    with pytest.raises(DamagedTrace, match=message):
        run.read(run.tensor("weight", "dense/kernel"), 1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"run": 3}', b"null"])
@pytest.mark.parametrize("group", ["", "run-0"])
def test_broken_attributes_are_one_clear_error(tmp_path, group, content):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    (path / group / ".zattrs").write_bytes(content)
    with pytest.raises(TracediffError) as caught:
        open_trace(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_altered_metadata_never_raises_anything_foreign(sound, data):
    """JSON has no checksum: a flip may change a name, but it may not crash the reader."""
    path, _ = sound
    file = data.draw(st.sampled_from(sorted(path.rglob(".z*"))))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with altered(file, content), suppress(TracediffError):
        contents(path)


def test_a_damaged_run_leaves_the_others_readable(tmp_path):
    path = make_trace(tmp_path / "a.zarr", linear_run(), linear_run())
    (path / "run-1" / ".zattrs").write_text("{")
    with pytest.raises(DamagedTrace, match="run-1"):
        open_trace(path)
    (run,) = open_trace(path / "run-0").runs
    assert run.steps == 6


@pytest.mark.parametrize("part", ["state/digest", "steps/seconds", "progress", "external"])
def test_a_missing_part_is_named(tmp_path, part):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    shutil.rmtree(path / "run-0" / part)
    with pytest.raises(DamagedTrace, match=part):
        contents_or_raise(path)


def contents_or_raise(path):
    (run,) = open_trace(path).runs
    return run.digests(run.tensor("weight", "dense/kernel")), run.seconds, run.external_changes()


def test_a_killed_run_is_read_up_to_its_progress(tmp_path):
    # given: arrays that had grown further when the run was killed, its last chunk not written
    path = make_trace(tmp_path / "a.zarr", linear_run(steps=8, status="recording"))
    (path / "run-0/progress/0").write_bytes(gzip.compress(np.int64(5).tobytes()))
    for name in ("fit", "seconds"):
        change_rows(path / "run-0/steps" / name, 5000)
    change_rows(path / "run-0/state/digest", 9000)
    for name in ("step", "column", "version", "digest"):
        change_rows(path / "run-0/external" / name, 5000)
    # when
    (run,) = open_trace(path).runs
    # then
    assert (run.status, run.steps) == ("recording", 5)
    for tensor in run.tensors:
        assert run.kept(tensor).shape == (5,)
        assert run.read(tensor, 4, "after") is not None
    assert run.epoch.tolist() == [0, 0, 0, 1, 1]
    assert run.external_changes() == ()


def test_changes_from_outside_in_a_killed_run_count_up_to_its_progress(tmp_path):
    # given: changes before steps 1, 3 and 5 of 7, in arrays longer than what was written
    weight = ("weight", "w")
    steps = [Step(before={weight: np.ones(1) * n} if n % 2 else {}) for n in range(7)]
    path = make_trace(
        tmp_path / "a.zarr", RunPlan(steps, {weight: np.zeros(1)}, status="recording")
    )
    (path / "run-0/progress/0").write_bytes(gzip.compress(np.int64(5).tobytes()))
    for name in ("step", "column", "version", "digest"):
        change_rows(path / "run-0/external" / name, 9000)
    # when
    (run,) = open_trace(path).runs
    # then
    assert [change.step for change in run.external_changes()] == [1, 3]
    assert [run.read(run.tensor(*weight), n).item() for n in range(5)] == [0, 1, 1, 3, 3]


def test_lost_changes_from_outside_are_noticed_in_a_killed_run(tmp_path):
    weight = ("weight", "w")
    plan = RunPlan(
        [Step(), Step(before={weight: np.ones(1)})], {weight: np.zeros(1)}, status="recording"
    )
    path = make_trace(tmp_path / "a.zarr", plan)
    (path / "run-0/external/step/0").unlink()
    (run,) = open_trace(path).runs
    with pytest.raises(DamagedTrace, match="lacks the step of change 0"):
        run.external_changes()


def change_rows(array, rows):
    document = json.loads((array / ".zarray").read_text())
    document["shape"][0] = rows
    (array / ".zarray").write_text(json.dumps(document))


def test_a_run_killed_before_its_first_flush_has_no_steps(tmp_path):
    path = make_trace(tmp_path / "a.zarr", RunPlan([], status="recording"))
    shutil.rmtree(path / "run-0/progress")
    (run,) = open_trace(path).runs
    assert (run.steps, run.status) == (0, "recording")
