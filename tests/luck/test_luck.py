"""Whether a gap is more than luck: against textbook numbers, and the laws that hold for any."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build import make_trace
from support.runs import SGD
from support.train import train

import tracediff
from tracediff.cli import main
from tracediff.errors import UnknownName, UsageError
from tracediff.luck import luck
from tracediff.outcome import final_value
from tracediff.report.luck import to_text

values = st.lists(st.floats(-10, 10), min_size=2, max_size=6)


def test_the_interval_is_welchs():
    # Given the worked example of R's t.test(extra ~ group, data = sleep)
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = luck(one, two)
    # then gap, interval and p are what R prints: -3.3654832  0.2054832, p = 0.07939
    assert found.gap == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((-0.2054832, 3.3654832), abs=1e-6)
    assert found.p == pytest.approx(0.07939, abs=1e-5)
    assert found.answer == "luck explains it"


def test_a_gap_beyond_the_spread_is_more_than_luck():
    assert luck([0.90, 0.91, 0.92], [0.80, 0.81, 0.82]).answer == "more than luck"


def test_one_run_is_held_against_the_spread_of_the_other_side():
    found = luck([0.90, 0.91, 0.92, 0.91], [0.905])
    assert found.answer == "luck explains it"
    # t(0.975; 3) = 3.182446, s = 0.00816497, one more draw: sqrt(1 + 1/4)
    assert found.high - found.gap == pytest.approx(3.182446 * 0.00816497 * np.sqrt(1.25), rel=1e-5)
    assert luck([0.90, 0.91, 0.92, 0.91], [0.80]).answer == "more than luck"


def test_repeats_that_do_not_differ_tell_nothing():
    found = luck([0.5, 0.5], [0.4, 0.4])
    assert found.answer == "no spread"
    assert "Cannot tell" in to_text(found)


@pytest.mark.parametrize(
    ("runs", "spreads", "low", "high"),
    [
        ((2, 2), (1, 1), 0.96, 0.995),
        ((3, 3), (1, 4), 0.92, 0.96),
        ((5, 5), (1, 1), 0.94, 0.97),
        ((2, 5), (4, 1), 0.87, 0.92),
        ((6, 1), (1, 1), 0.935, 0.965),
    ],
)
def test_the_interval_holds_the_true_gap_as_often_as_is_said(runs, spreads, low, high):
    # Given trainings whose true gap is 1, drawn a thousand times and more
    draw, count, held = np.random.default_rng(5), 1500, 0
    for _ in range(count):
        sides = [list(draw.normal(k, spreads[k], runs[k])) for k in (0, 1)]
        found = luck(*sides)
        held += found.low <= 1.0 <= found.high
    # then the interval holds it about as often as docs/cli.md says
    assert low < held / count < high


@given(values, values)
def test_a_wider_confidence_never_makes_more_of_a_gap(a, b):
    narrow, wide = luck(a, b, confidence=0.9), luck(a, b, confidence=0.99)
    if narrow.answer != "no spread":
        assert wide.low <= narrow.low <= narrow.high <= wide.high
        assert wide.answer == "luck explains it" or narrow.answer == "more than luck"
        # and p says the same as the interval at its own confidence
        assert (narrow.p < 0.1) == (narrow.answer == "more than luck")


def test_few_runs_are_said_and_so_is_what_they_could_not_tell():
    few, one, enough = luck([1.0, 1.1], [2.0, 2.1]), luck([1.0], [2.0, 2.1]), luck(*[range(5)] * 2)
    assert "2 and 2 runs are few" in few.caution
    assert "A is one run" in one.caution
    assert enough.caution is None
    for found in (few, one):
        assert found.caution in to_text(found)
        assert f"a gap below {found.reach:.4g} could not be told from luck" in to_text(found)


@pytest.mark.parametrize(("a", "b"), [([], [1.0, 2.0]), ([1.0], [2.0]), ([1.0, np.nan], [2.0])])
def test_too_few_or_undefined_values_are_refused(a, b):
    with pytest.raises(UsageError):
        luck(a, b)


@given(values, values, st.floats(-5, 5))
def test_shifting_both_sides_changes_no_answer_and_exchanging_them_only_signs(a, b, shift):
    found, back = luck(a, b), luck(b, a)
    assert back.gap == pytest.approx(-found.gap)
    if found.answer != "no spread":
        assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
        moved = luck([v + shift for v in a], [v + shift for v in b])
        assert moved.gap == pytest.approx(found.gap, abs=1e-9)


def test_the_final_loss_is_the_mean_over_the_last_epoch(tmp_path):
    path = make_trace(tmp_path / "a.zarr", train(SGD))
    run = tracediff.open_trace(path).runs[0]
    tensor = run.find("loss", "loss")
    last = [float(run.read(tensor, k)) for k in range(run.steps) if run.epoch[k] == run.epoch[-1]]
    assert 0 < len(last) < run.steps
    assert final_value(run) == pytest.approx(np.mean(last))
    with pytest.raises(UnknownName):
        final_value(run, "acuracy")


def test_the_command_takes_traces_and_numbers(tmp_path, capsys):
    path = str(make_trace(tmp_path / "a.zarr", train(SGD)))
    final = final_value(tracediff.open_trace(path).runs[0])
    near = [str(final + step) for step in (0.001, -0.001)]
    far = [str(final + 1 + step) for step in (0.001, 0.0, -0.001)]
    assert main(["luck", "--a", path, *near, "--b", *far, "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["answer"] == "more than luck"
    assert told["a"][0] == pytest.approx(final)
    assert main(["luck", "--a", path, *near, "--b", *near, path]) == 0
    assert main(["luck", "--a", path, "--b", path]) == 2
