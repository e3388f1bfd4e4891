"""What a ladder of controls says, of runs trained in plain numpy."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.build import make_trace
from support.runs import SGD
from support.train import train

import tracediff
from tracediff.cli.ladder import recording
from tracediff.errors import UsageError
from tracediff.ladder import OPTIONS, ladder
from tracediff.report.ladder import conclusion, to_json, to_markdown, to_text


@pytest.fixture
def run(tmp_path):
    def make(name, plan):
        path = make_trace(tmp_path / f"{name}.zarr", train(plan))
        return tracediff.open_trace(path).runs[0]

    return make


def climb(a, *runs):
    return ladder(a, zip(OPTIONS, runs, strict=True))


def parts(found):
    return [one.part for one in found.places]


def test_runs_that_agree_without_control_need_no_ladder(run):
    a = run("a", SGD)
    found = climb(a, a, a, a, a)
    assert found.agree
    assert found.places == ()
    assert conclusion(found) == "The runs agree without control: there is no cause to look for."


def test_what_goes_away_with_the_start_is_the_initialisation(run):
    a, b = run("a", SGD), run("b", replace(SGD, init_seed=SGD.init_seed + 1))
    found = climb(a, b, a, a, a)
    assert parts(found) == ["initialisation"]
    assert found.places[0].share == pytest.approx(1.0)
    cause = found.places[0].causes[0]
    assert cause.code == "init.draw"
    assert cause.evidence[-1].startswith("ladder of controls: with A's initial weights")


def test_what_goes_away_with_the_batches_is_the_data(run):
    a, b = run("a", SGD), run("b", replace(SGD, seed=SGD.seed + 1))
    found = climb(a, b, b, a, a)
    assert parts(found) == ["data"]
    assert found.places[0].share == pytest.approx(1.0)


def test_what_no_single_step_shows_adds_up(run):
    # Given a lockstep without local errors under runs that part
    a, b = run("a", SGD), run("b", replace(SGD, lr=SGD.lr * 1.5))
    found = climb(a, b, b, b, a)
    assert parts(found) == ["sums"]


def test_every_format_tells_the_rungs_and_the_conclusion(run):
    a, b = run("a", SGD), run("b", replace(SGD, seed=SGD.seed + 1))
    found = climb(a, b, b, a, a)
    for text in (to_text(found), to_markdown(found)):
        assert "The cause lies in: data (100% of the gap in the final loss)." in text
        assert "initial weights and batches" in text
    told = json.loads(to_json(found))
    assert [one["control"] for one in told["rungs"]] == list(OPTIONS)
    assert told["conclusion"].startswith("The cause lies in: data (100%")


OPTION = ["-o", "b.zarr"]
RECORD = ["-m", "tracediff_hooks", "record", *OPTION]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "t.py", "-x"], ["python", *RECORD, "t.py", "-x"]),
        (["/e/bin/python3.7", "-u", "t.py"], ["/e/bin/python3.7", "-u", *RECORD, "t.py"]),
        (["python", "-W", "ignore", "t.py"], ["python", "-W", "ignore", *RECORD, "t.py"]),
        (["python", "-m", "p.train"], ["python", *RECORD, "-m", "p.train"]),
        (["tracediff-record", "t.py"], ["tracediff-record", *OPTION, "t.py"]),
        (["ssh", "h", "python", "{record}", "t.py"], ["ssh", "h", "python", *RECORD, "t.py"]),
    ],
)
def test_the_recorder_is_put_behind_the_interpreter(command, expected):
    assert recording(command, OPTION) == expected


@pytest.mark.parametrize("command", [["bash", "t.sh"], ["python", "-c", "1"], ["python", "-u"]])
def test_a_command_without_a_place_for_it_is_refused(command):
    with pytest.raises(UsageError):
        recording(command, OPTION)
