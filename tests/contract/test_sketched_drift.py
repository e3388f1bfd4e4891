"""What sketches tell of real trainings, beside what all their elements tell."""

from pathlib import Path

import numpy as np
import pytest
from support.stacks import stack_or_skip

from tracediff.compare import bounds, compare
from tracediff.trace import SKETCH_ERROR

PROGRAM = Path(__file__).parent / "programs" / "sketched.py"
FAULTS = {
    "rate": (0, "update", "optimizer/learning_rate"),
    "corrupted": (7, "data", "input/0"),
}


@pytest.fixture(scope="module", params=["keras2.3", "keras3"])
def traces(request, tmp_path_factory):
    """Return where the trace of a variant at a level is."""
    folder = tmp_path_factory.mktemp("sketched")
    stack_or_skip(request.param).run(PROGRAM, folder)
    return lambda variant, level: folder / f"{variant}-{level}.zarr"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("levels", [("sketch", "sketch"), ("full", "sketch")])
def test_the_first_divergence_is_the_same(traces, fault, levels):
    full = compare(traces("base", "full"), traces(fault, "full"))
    found = compare(traces("base", levels[0]), traces(fault, levels[1]))
    for one in (full, found):
        first = one.first_divergence
        assert (first.step, first.stage, first.tensor) == FAULTS[fault]
        assert one.verdict == "diverged"


@pytest.mark.parametrize("fault", FAULTS)
def test_estimates_are_as_far_off_as_is_stated(traces, fault):
    # GIVEN the same two trainings, compared by all elements and by sketches
    full = compare(traces("base", "full"), traces(fault, "full"))
    found = compare(traces("base", "sketch"), traces(fault, "sketch"))
    parts = {(row.layer, part.role, part.slot): part for row in found.layers for part in row.parts}
    rows = {(row.role, row.tensor): row for row in found.drift}
    pairs = [(row, rows[row.role, row.tensor]) for row in full.drift]
    pairs += [
        (part, parts[row.layer, part.role, part.slot]) for row in full.layers for part in row.parts
    ]
    # WHEN
    errors = []
    for true, estimated in pairs:
        there = true.series > 0.0
        errors.extend(estimated.series[there] / true.series[there] - 1.0)
    # THEN drift of tensors, updates and layers is known at every step, to the error stated
    assert len(errors) > 100
    assert np.sqrt(np.mean(np.square(errors))) <= SKETCH_ERROR
    # AND where they agree both say so
    for true, estimated in pairs:
        assert ((true.series == 0.0) == (estimated.series == 0.0)).all()


def test_runs_that_agree_are_identical_by_sketches(traces):
    assert compare(traces("base", "full"), traces("base", "sketch")).verdict == "identical"


def test_tolerances_hold_what_sketches_cannot_exclude_against_a_run(traces):
    pair = traces("base", "sketch"), traces("rate", "sketch")
    found = compare(*pair, within=bounds(atol=1e-9))
    assert found.verdict == "diverged"
    # WHEN what the report says would pass is allowed
    passing = max(row.passing_atol for row in found.drift)
    # THEN it passes, and so do the elements themselves
    whole = traces("base", "full"), traces("rate", "full")
    for one in (pair, whole):
        assert compare(*one, within=bounds(atol=passing * 1.001)).verdict == "rounding"
    # AND that is no more than what is not known about elements makes it
    true = {(row.role, row.tensor): row for row in compare(*whole, within=bounds(atol=1e-9)).drift}
    for row in found.drift:
        assert row.passing_atol >= true[row.role, row.tensor].passing_atol * (1 - 1e-6)
    assert compare(*whole, within=bounds(atol=passing / 1e4)).verdict == "diverged"
