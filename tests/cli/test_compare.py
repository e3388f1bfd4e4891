"""The verb `compare`: its exit status, its streams, and which run it takes."""

import json

import pytest
from support.build import RunPlan, make_trace
from support.runs import SGD, changed
from support.train import train

from tracediff.cli import main


@pytest.fixture
def traces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_trace("a.zarr", train(SGD))
    make_trace("same.zarr", train(SGD))
    make_trace("rounded.zarr", train(changed(SGD, reordered_sums=True)))
    make_trace("other.zarr", train(changed(SGD, lr=0.1)))
    return tmp_path


@pytest.mark.parametrize(
    ("b", "status", "answer"),
    [("same", 0, "identical"), ("rounded", 0, "within rounding"), ("other", 1, "diverge")],
)
def test_the_exit_status_is_the_answer(traces, capsys, b, status, answer):
    assert main(["compare", "a.zarr", f"{b}.zarr"]) == status
    out, err = capsys.readouterr()
    assert answer in out.splitlines()[0]
    assert err == ""


@pytest.mark.parametrize("form", ["json", "markdown", "text"])
def test_stdout_is_nothing_but_the_report(traces, capsys, form):
    assert main(["compare", "a.zarr", "other.zarr", "--format", form]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    if form == "json":
        assert json.loads(out)["verdict"] == "diverged"
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.zarr", "missing.zarr"], "missing.zarr does not exist"),
        (["a.zarr"], "required"),
        (["a.zarr", "same.zarr", "--format", "yaml"], "yaml"),
        (["a.zarr/run-7", "same.zarr"], "run-7"),
    ],
)
def test_trouble_is_one_line_and_status_2(traces, capsys, arguments, words):
    assert main(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("error: ")


def test_nothing_comparable_is_trouble(traces, capsys):
    make_trace("empty.zarr", RunPlan([], {}))
    assert main(["compare", "a.zarr", "empty.zarr"]) == 2
    assert "no complete step" in capsys.readouterr().err


def test_of_several_runs_the_first_is_taken_and_the_others_are_named(traces, capsys):
    make_trace("two.zarr", train(SGD), train(changed(SGD, lr=0.1)))
    assert main(["compare", "a.zarr", "two.zarr"]) == 0
    err = capsys.readouterr().err
    assert "comparing two.zarr/run-0" in err
    assert "two.zarr/run-1" in err
    assert len(err.splitlines()) == 1
    assert main(["compare", "a.zarr", "two.zarr/run-1"]) == 1
    assert capsys.readouterr().err == ""


def test_progress_is_for_terminals_only_and_leaves_no_trace(traces, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(["compare", "a.zarr", "same.zarr"]) == 0
    out, err = capsys.readouterr()
    assert "comparing [" in err
    assert " left" in err
    assert err.endswith("\r\x1b[K")
    assert "comparing" not in out


def test_help_shows_how(capsys):
    assert main(["compare", "--help"]) == 0
    assert "exit status" in capsys.readouterr().out
