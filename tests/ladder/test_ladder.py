"""What a ladder of controls says, of runs trained in plain numpy."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.build import make_trace
from support.runs import SGD
from support.train import train

import tracediff
from tracediff.cli._trainings import train as train_command
from tracediff.cli.ladder import _folder, recording
from tracediff.errors import NotKept, TracediffError, UsageError
from tracediff.ladder import OPTIONS, Ladder, Place, Rung, check_replayable, ladder
from tracediff.ladder._places import places
from tracediff.model import LocalError, Lockstep
from tracediff.report.ladder import asides, conclusion, to_json, to_markdown, to_text


@pytest.fixture
def run(tmp_path):
    def make(name, plan):
        path = tmp_path / f"{name}.zarr"
        if not path.exists():
            make_trace(path, train(plan))
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


# --- several parts of a step, and what nothing controls


def local(stage, tensor, role):
    return LocalError(stage, tensor, role, None, 6, 0, 6, 0, 0.1, 1e-5)


def rungs(run, errors, *, gaps=(1.0, 1.0, 0.5, 0.0), uncontrolled=()):
    """Rungs of which the last has the given local errors; the gap of each is given."""
    a, b = run("a", SGD), run("b", replace(SGD, lr=SGD.lr * 1.5))
    climbed = climb(a, b, b, b, b)
    found = [replace(one, gap=gap) for one, gap in zip(climbed.rungs, gaps, strict=True)]
    lockstep = Lockstep("a.zarr/run-0", 6, True, (), tuple(errors))
    comparison = replace(found[3].comparison, lockstep=lockstep)
    found[3] = replace(found[3], comparison=comparison, uncontrolled=tuple(uncontrolled))
    return found


LOSS, WEIGHT = local("loss", "loss", "loss"), local("update", "hidden/kernel", "weight")
MOVING = local("update", "bn/moving_variance", "weight")


def told(found):
    return [(one.part, one.share, one.shared_with) for one in found]


def test_parts_that_one_rung_controls_together_share_what_it_takes_away(run):
    assert told(places(rungs(run, [LOSS, WEIGHT]))) == [
        ("layers and loss", 0.5, ("optimizer",)),
        ("optimizer", 0.5, ("layers and loss",)),
    ]


def test_statistics_that_training_does_not_read_have_no_share(run):
    found = places(rungs(run, [MOVING, WEIGHT]))
    assert told(found) == [("optimizer", 0.5, ()), ("non-trained state", 0.0, ())]
    assert "training does not read these" in found[1].shown
    # but other state that is not trained may be read
    other = local("update", "norm/running_scale", "weight")
    assert told(places(rungs(run, [other, WEIGHT])))[1] == (
        "non-trained state",
        0.5,
        ("optimizer",),
    )


def test_random_layers_leave_no_shares_and_may_be_all_of_it(run):
    (found,) = places(rungs(run, [LOSS], uncontrolled=["drop"]))
    assert found.share is None
    assert "not controlled are the random numbers of drop" in found.shown


def test_without_a_gap_there_are_no_shares(run):
    (found,) = places(rungs(run, [LOSS], gaps=(1e-9, 1e-9, 1e-9, 0.0)))
    assert found.share is None


def place(part, share, *shared_with):
    return Place(part, "", share, shared_with)


def test_the_conclusion_names_shares_once_and_parts_that_have_one_together_as_one(run):
    found = climb(run("a", SGD), *[run("b", replace(SGD, lr=SGD.lr * 1.5))] * 4)
    some = (
        place("data", -0.1),
        place("layers and loss", 1.1, "optimizer"),
        place("optimizer", 1.1, "layers and loss"),
        place("sums", None),
    )
    assert conclusion(replace(found, places=some)) == (
        "The causes lie in: data (-10% of the gap in the final loss) and layers and loss with "
        "optimizer (110%)."
    )


def test_what_no_rung_controls_is_said_under_the_table(run):
    found = climb(run("a", SGD), *[run("b", replace(SGD, lr=SGD.lr * 1.5))] * 4)
    assert asides(found) == []
    last = replace(found.rungs[3], uncontrolled=("drop",), left={"out/kernel/m": "no such slot"})
    found = Ladder(found.a, found.final_loss, (*found.rungs[:3], last), found.places)
    assert isinstance(last, Rung)
    for text in (to_text(found, width=400), to_markdown(found)):
        assert "Not controlled: the random numbers of drop" in text
        assert "Not carried over from A: out/kernel/m (no such slot)." in text


# --- before and while B is trained


def test_a_trace_without_values_or_steps_cannot_be_climbed(run, tmp_path):
    check_replayable(run("a", SGD))
    path = make_trace(tmp_path / "digests.zarr", train(SGD), level="digest")
    with pytest.raises(NotKept, match="keeps no values of"):
        check_replayable(tracediff.open_trace(path).runs[0])


@pytest.mark.parametrize(
    ("a", "folder"),
    [("a.zarr", "a.ladder"), ("x/a.zarr/", "x/a.ladder"), ("a.zarr/run-1", "a.run-1.ladder")],
)
def test_rungs_go_beside_a_and_never_into_it(a, folder):
    given = SimpleNamespace(a=a, output=None, command=["python", "t.py"])
    assert _folder(given) == Path(folder).absolute()
    with pytest.raises(UsageError, match="not on this disk"):
        _folder(SimpleNamespace(a="s3://b/a.zarr", output=None, command=["python"]))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise SystemExit(3)", "ended with status 3: it said nothing"),
        ("print('error: no such data'); raise SystemExit(2)", "status 2: no such data"),
        ("raise ValueError('a typo')", "ended with status 1: ValueError: a typo"),
        ("print('well')", "ended well and recorded no step"),
    ],
)
def test_a_training_that_goes_wrong_is_said_in_one_line(tmp_path, script, words):
    with pytest.raises(TracediffError) as caught:
        train_command(
            [sys.executable, "-c", script],
            log=tmp_path / "log",
            trace=tmp_path / "b.zarr",
            tell=None,
        )
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "log") in caught.value.hint


def test_the_steps_recorded_so_far_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tracediff.cli._trainings._LOOK", 0.05)
    path, seen = make_trace(tmp_path / "b.zarr", train(SGD)), []
    sleeps = [sys.executable, "-c", "import time; time.sleep(0.5)"]
    steps = train_command(
        sleeps, log=tmp_path / "log", trace=path, tell=lambda step, _: seen.append(step)
    )
    assert steps == tracediff.open_trace(path).runs[0].steps > 0
    assert set(seen) == {steps}


# --- the command


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
