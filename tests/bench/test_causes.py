"""Labelled pairs of really recorded runs part where they were made to, for the cause they have.

A slice of the bench runs every time, of kinds that no other test trains; the whole is exhaustive.
"""

from __future__ import annotations

import pytest
from causes.bench import Recordings, examine
from causes.cases import CASES
from support.stacks import stack_or_skip

from tracediff.model import CAUSES

SLICE = (
    "keras3: standardised after brightness",
    "keras3: a sample missing",
    "keras3: He",
    "keras3: beta_1 and epsilon",
    "keras3: doubled gradient",
    "keras3: bfloat16",
    "tf2.3 to keras3: hard_sigmoid",
    "tf2.3 to keras3: gru",
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """The slice, recorded together: one process a stack."""
    chosen = [case for case in CASES if case.name in SLICE]
    for stack in sorted({run.stack for case in chosen for run in (case.a, case.b)}):
        stack_or_skip(stack)
    found = Recordings(tmp_path_factory.mktemp("causes"))
    found.record(chosen)
    return found


def assert_right(outcome) -> None:
    assert not outcome.trouble
    assert outcome.right_place, (outcome.case.first, outcome.first)
    assert outcome.right_cause, outcome.causes
    assert not outcome.missing
    assert not outcome.false_alarm


@pytest.mark.parametrize("case", [c for c in CASES if c.name in SLICE], ids=lambda c: c.name)
def test_a_labelled_pair_is_explained(recordings, case):
    assert_right(examine(case, recordings))


@pytest.fixture(scope="module")
def every_recording() -> Recordings:
    """All of them, from the cache of the bench."""
    for stack in sorted({run.stack for case in CASES for run in (case.a, case.b)}):
        stack_or_skip(stack)
    found = Recordings()
    found.record(CASES)
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_labelled_pair_is_explained(every_recording, case):
    assert_right(examine(case, every_recording))


def test_the_slice_is_of_the_bench():
    assert {case.name for case in CASES} >= set(SLICE)
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_bench_has_every_code_at_least_twice():
    codes = [case.code for case in CASES]
    # What is no cause to look for, and what no rule explains, cannot be made on purpose.
    expected = set(CAUSES) - {"rounding", "unexplained"}
    assert [code for code in sorted(expected) if codes.count(code) < 2] == []
    assert sum(case.clean for case in CASES) >= 10
