"""Opening what is no trace gives one clear error, of the right class, with a hint."""

from __future__ import annotations

import os

import pytest
from support.bad_inputs import ON_OPENING, archive, folder_of_traces
from support.build import linear_run, make_trace

from tracediff import TracediffError, open_trace
from tracediff.errors import NotATrace, TraceNotFound, UnknownName


@pytest.mark.parametrize("make", ON_OPENING, ids=lambda make: make.__name__)
def test_what_is_no_sound_trace_is_refused(tmp_path, make):
    # given
    path = tmp_path / "a.zarr"
    make(path)
    # when
    with pytest.raises(TracediffError) as caught:
        open_trace(path)
    # then
    assert type(caught.value) is ON_OPENING[make]
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_errors_are_also_the_builtin_that_fits(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_trace(tmp_path / "gone.zarr")
    with pytest.raises(ValueError, match="not a trace"):
        open_trace(tmp_path)


def test_a_misspelt_path_is_answered_with_the_nearest(tmp_path):
    path = make_trace(tmp_path / "adam-tf23.zarr", linear_run())
    with pytest.raises(TraceNotFound) as caught:
        open_trace(tmp_path / "adam-tf32.zarr")
    assert caught.value.hint == f"did you mean {path}?"


def test_a_folder_of_traces_names_one(tmp_path):
    folder_of_traces(tmp_path / "runs")
    with pytest.raises(NotATrace) as caught:
        open_trace(tmp_path / "runs")
    assert caught.value.hint == f"did you mean {tmp_path / 'runs' / 'inside.zarr'}?"


def test_an_archive_is_to_be_unpacked(tmp_path):
    archive(tmp_path / "a.zarr.zip")
    with pytest.raises(NotATrace) as caught:
        open_trace(tmp_path / "a.zarr.zip")
    assert caught.value.hint == "unpack the archive first"


def test_a_run_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    path = make_trace(tmp_path / "a.zarr", linear_run(), linear_run())
    with pytest.raises(UnknownName, match="has no run-7") as caught:
        open_trace(path / "run-7")
    assert caught.value.hint == "it has run-0, run-1"


def test_a_group_inside_a_run_leads_back_to_the_trace(tmp_path):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    with pytest.raises(NotATrace) as caught:
        open_trace(path / "run-0" / "values")
    assert str(path) in caught.value.hint


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything"
)
def test_a_folder_that_may_not_be_read_is_told(tmp_path):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    path.chmod(0)
    try:
        with pytest.raises(TracediffError, match="Permission denied"):
            open_trace(path)
    finally:
        path.chmod(0o755)


def test_foreign_files_in_a_trace_are_passed_over(tmp_path):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    (path / ".DS_Store").write_bytes(b"\0")
    (path / "notes.txt").write_text("mine")
    (path / "plots").mkdir()
    assert len(open_trace(path).runs) == 1


def test_runs_come_in_the_order_of_their_numbers(tmp_path):
    path = make_trace(tmp_path / "a.zarr", *[linear_run(steps=1)] * 11)
    assert [run.path for run in open_trace(path).runs][-2:] == [f"{path}/run-9", f"{path}/run-10"]


def test_a_url_is_opened_through_fsspec(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    path = make_trace(tmp_path / "a.zarr", linear_run())
    memory = fsspec.filesystem("memory")
    memory.put(str(path), "/traces/a.zarr", recursive=True)
    (run,) = open_trace("memory://traces/a.zarr/run-0").runs
    assert run.read(run.tensor("weight", "dense/kernel"), 3).shape == (3, 2)
    assert run.bytes_on_disk(run.tensor("loss", "loss")) > 0
    with pytest.raises(TracediffError):
        open_trace("memory://traces/b.zarr")
