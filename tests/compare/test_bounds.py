"""Tolerances that are given: what passes, what fails, and what would pass."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import RunPlan, Step, make_trace
from support.runs import SGD, changed
from support.train import train

from tracediff.cli import main
from tracediff.compare import bounds, compare, parse_rules
from tracediff.errors import UsageError
from tracediff.testing import assert_traces_agree
from tracediff.tolerance import Bound

KERNEL, BIAS = ("weight", "dense/kernel"), ("weight", "dense/bias")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Kernels 1e-3 apart where the largest element is 2, biases equal."""
    folder = tmp_path_factory.mktemp("pair")
    first = {KERNEL: np.array([1.0, 2.0], np.float32), BIAS: np.zeros(2, np.float32)}
    steps = [Step(after=first), Step(after={KERNEL: np.array([1.0, 2.0], np.float32)})]
    other = [Step(after=first), Step(after={KERNEL: np.array([1.001, 2.0], np.float32)})]
    return [
        make_trace(folder / f"{name}.zarr", RunPlan(plan, first))
        for name, plan in (("a", steps), ("b", other))
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    plans = SGD, changed(SGD, lr=0.0501)
    return [
        make_trace(folder / f"{name}.zarr", train(plan))
        for name, plan in zip("ab", plans, strict=True)
    ]


def test_without_tolerances_rounding_decides(pair):
    assert compare(*pair).verdict == "diverged"


@pytest.mark.parametrize(
    ("limits", "agree"),
    [
        ({"atol": 1.01e-3}, True),
        ({"atol": 0.9e-3}, False),
        ({"rtol": 5.1e-4}, True),
        ({"rtol": 4.9e-4}, False),
        ({"rtol": 3e-4, "atol": 5e-4}, True),
        ({"rtol": 3e-4, "atol": 3e-4}, False),
        ({"rules": {"kernel$": 1e-3}}, True),
        ({"rules": {"bias$": 1e-3}}, False),
        ({"rules": {"^weight .*kernel": (0.0, 2e-3), "kernel": 0.0}}, True),
        ({"rules": {"kernel": 0.0, "^weight .*kernel": (0.0, 2e-3)}}, False),
        ({"ignore": ["kernel"]}, True),
        ({"ignore": ["slot "]}, False),
    ],
)
def test_what_is_given_decides(pair, limits, agree):
    assert compare(*pair, within=bounds(**limits)).agree == agree


def test_the_report_says_what_was_allowed(pair):
    first = compare(*pair, within=bounds(atol=1e-4)).first_divergence
    assert (first.step, first.tensor) == (1, "dense/kernel")
    assert first.bound == pytest.approx(1e-4)
    assert first.times_tolerance == pytest.approx(10.0, rel=1e-3)


def test_a_stricter_tolerance_than_rounding_is_held_to(tmp_path):
    plans = SGD, changed(SGD, reordered_sums=True)
    a, b = (make_trace(tmp_path / f"{n}.zarr", train(p)) for n, p in zip("ab", plans, strict=True))
    assert compare(a, b).verdict == "rounding"
    assert compare(a, b, within=bounds(rtol=0.0)).verdict == "diverged"


def test_the_smallest_tolerance_of_each_tensor_passes_and_less_does_not(trained):
    rows = [row for row in compare(*trained).drift if row.passing_rtol]
    assert rows
    for row in rows:
        name = f"^{row.role} {row.tensor}$"
        for share, passes in ((1.0000001, True), (0.999, False)):
            for rule in (row.passing_rtol * share, (0.0, row.passing_atol * share)):
                found = compare(*trained, within=bounds(rtol=1e9, rules={name: rule}))
                assert found.agree == passes, (name, rule)
        break


def test_growth_excuses_nothing_that_a_tolerance_forbids(trained):
    assert compare(*trained, within=bounds(rtol=1e-9)).verdict == "diverged"


@settings(max_examples=50)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6))
def test_a_bound_grows_with_the_tensor(rtol, atol, peak):
    allowed = float(Bound(rtol, atol).allowed(np.float64(peak)))
    assert allowed == pytest.approx(atol + rtol * peak)


@pytest.mark.parametrize(
    "limits",
    [{"rtol": -1.0}, {"atol": float("nan")}, {"rules": {"(": 1.0}}, {"ignore": ["["]}],
)
def test_what_is_no_tolerance_is_refused(limits):
    with pytest.raises(UsageError):
        bounds(**limits)


@pytest.mark.parametrize("word", ["kernel", "=1", "kernel=x", "kernel=1,2,3"])
def test_what_is_no_rule_is_refused(word):
    with pytest.raises(UsageError, match="--tolerance"):
        parse_rules([word])


def test_a_check_fails_with_the_report(pair):
    assert assert_traces_agree(*pair, rtol=1e-3).agree
    assert assert_traces_agree(*pair, tolerances={"kernel": (0.0, 1e-2)}).agree
    with pytest.raises(AssertionError, match=r"First divergence\n  step 1 .*dense/kernel"):
        assert_traces_agree(*pair)


def test_junit_has_a_case_for_each_tensor(pair, capsys):
    words = ["compare", "--format", "junit", *map(str, pair)]
    assert main(words) == 1
    suite = ET.fromstring(capsys.readouterr().out)
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["dense/kernel"]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert main([*words, "--ignore", "kernel"]) == 0
    suite = ET.fromstring(capsys.readouterr().out)
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")


def test_the_command_takes_tolerances_together(pair, capsys):
    paths = [str(path) for path in pair]
    assert main(["compare", *paths, "--rtol", "3e-4", "--atol", "5e-4"]) == 0
    assert "The runs agree within the tolerances given." in capsys.readouterr().out
    assert main(["compare", *paths, "--tolerance", "kernel=4e-4"]) == 1
    assert "times what is allowed" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", *paths, "--rtol", "-1"]) == 2
    assert "-1.0 is no tolerance" in capsys.readouterr().err
