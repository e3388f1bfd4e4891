"""``tracediff info``: what it says is what was recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.build import RunPlan, Step, linear_run, make_trace

from tracediff import open_trace
from tracediff.cli import main
from tracediff.report.info import to_text
from tracediff.report.terminal import Style
from tracediff.trace import summarize


@pytest.fixture
def trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return make_trace("a.zarr", linear_run(), linear_run(steps=2, status="recording"))


def run_info(capsys, *words):
    assert main(["info", *map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_text_says_what_was_run(trace, capsys):
    out = run_info(capsys, "a.zarr/run-0")
    for expected in (
        "a.zarr/run-0  1 run, trace format 1, written by tracediff-hooks",
        "status     complete",
        "6 steps in 2 epochs and 1 fit",
        "level full",
        "Keras 3.15 on TensorFlow",
        "python 3.11.9",
        "SGD(learning_rate=0.1, momentum=0.9, nesterov=False)",
        "Sequential linear, 1 layer, 8 numbers in its weights",
        "dense  Dense  kernel 3×2, bias 2  here dense_7",
    ):
        assert expected in out
    assert "\x1b" not in out
    assert "events" not in out
    assert "changed from outside" not in out


def test_the_loss_is_the_recorded_one(trace, capsys):
    plan = linear_run()
    first, last = (float(plan.steps[step].observed["loss", "loss"]) for step in (0, 5))
    assert f"{first:.7g} at step 0, {last:.7g} at step 5" in run_info(capsys, "a.zarr/run-0")
    (run,) = json.loads(run_info(capsys, "a.zarr/run-0", "--format", "json"))["runs"]
    assert (run["first_loss"], run["last_loss"]) == (first, last)


def test_an_incomplete_run_is_called_so(trace, capsys):
    out = run_info(capsys, "a.zarr")
    assert "a.zarr  2 runs" in out
    assert "incomplete: still running, or killed" in out
    runs = json.loads(run_info(capsys, "a.zarr", "--format", "json"))["runs"]
    assert [run["complete"] for run in runs] == [True, False]
    assert [run["steps"] for run in runs] == [6, 2]


def test_a_run_without_steps_is_shown_with_its_events(tmp_path, capsys):
    path = make_trace(tmp_path / "a.zarr", RunPlan([], status="failed"))
    attributes = path / "run-0/.zattrs"
    document = json.loads(attributes.read_text())
    document["run"]["events"] = [{"step": 0, "kind": "failure", "message": "disk \x1b[2J full"}]
    attributes.write_text(json.dumps(document))
    out = run_info(capsys, path)
    assert "no complete step" in out
    assert "the recorder gave up, see the events" in out
    assert "step 0, failure: disk \\x1b[2J full" in out


def test_tensors_are_listed_when_asked_for(trace, capsys):
    brief, long = run_info(capsys, "a.zarr/run-0"), run_info(capsys, "a.zarr/run-0", "--tensors")
    assert "dense/kernel/momentum" not in brief
    assert "dense/kernel/momentum" in long
    assert "same as gradient" in long
    assert "varies" in long


def test_json_counts_tensors_and_bytes_by_role(trace, capsys):
    (run,) = json.loads(run_info(capsys, "a.zarr/run-0", "--format", "json"))["runs"]
    roles = {role["role"]: role for role in run["roles"]}
    assert {role: entry["tensors"] for role, entry in roles.items()} == {
        "weight": 2,
        "slot": 1,
        "input": 1,
        "label": 1,
        "loss": 1,
        "gradient": 2,
        "learning_rate": 1,
        "applied_gradient": 2,
    }
    weights = sum(
        file.stat().st_size
        for file in (trace / "run-0/values/weight").rglob("dense/*/*")
        if file.is_file()
    )
    assert roles["weight"]["bytes_on_disk"] == weights
    assert roles["applied_gradient"]["bytes_on_disk"] == 0
    assert len(run["tensors"]) == 11


def test_json_has_no_numbers_that_json_lacks(tmp_path, capsys):
    about = {"optimizer": {"class": "SGD", "config": {"clipnorm": float("inf")}}}
    loss = ("loss", "loss")
    path = make_trace(tmp_path / "a.zarr", RunPlan([Step({loss: np.float32("nan")})], about=about))

    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(run_info(capsys, path, "--format", "json"), parse_constant=refuse)
    assert document["schema"] == 1
    (run,) = document["runs"]
    assert run["hyperparameters"] == {"clipnorm": "inf"}
    assert run["first_loss"] == "nan"


def test_changes_from_outside_are_named(tmp_path, capsys):
    weight = ("weight", "w")
    steps = [Step(before={weight: np.ones(1) * (number + 5)}) for number in range(9)]
    path = make_trace(tmp_path / "a.zarr", RunPlan(steps, {weight: np.zeros(1)}))
    out = run_info(capsys, path)
    assert "at 8 steps something else than the optimizer changed state" in out
    assert "before step 1: w" in out
    assert "and 3 more" in out


@pytest.mark.parametrize(
    "about",
    [
        {"model": None, "optimizer": 3, "stack": "x"},
        {"model": {"layers": {"a": 1}}, "optimizer": {"config": []}, "stack": {"versions": 4}},
        {"model": {"layers": [3, {"name": None}]}, "events": [5]},
    ],
)
def test_odd_attributes_hide_nothing_else(tmp_path, capsys, about):
    path = make_trace(tmp_path / "a.zarr", RunPlan([Step()], about=about))
    assert "1 step in 1 epoch and 1 fit" in run_info(capsys, path)
    json.loads(run_info(capsys, path, "--format", "json"))


def test_lines_fit_the_width(tmp_path):
    layer = {"name": "block", "framework_name": "model/block", "class": "Block", "trainable": False}
    weights = {("weight", f"block/kernel_{n}"): np.zeros((4, 300), np.float32) for n in range(9)}
    specs = {key: {"layer": "block"} for key in weights}
    about = {"model": {"name": "m", "class": "Model", "layers": [layer]}}
    plan = RunPlan([Step()], weights, about, specs)
    summary = summarize(open_trace(make_trace(tmp_path / "a.zarr", plan)))
    text = to_text(summary, width=90)
    assert "block/" not in text.replace("model/block", "")
    assert all(len(line) <= 90 for line in text.splitlines()[1:])
    assert text.count("4×300") == 9
    assert "here model/block, frozen" in text


def test_colour_changes_no_character(trace):
    summary = summarize(open_trace("a.zarr"))
    plain = to_text(summary, style=Style(colour=False))
    coloured = to_text(summary, style=Style(colour=True))
    assert coloured != plain
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_the_page_lists_every_field_of_the_json_object(trace, capsys):
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    section = page.split("The JSON object has")[1]
    document = json.loads(run_info(capsys, "a.zarr", "--format", "json"))
    for field in [*document, *document["runs"][0]]:
        assert f"`{field}`" in section
