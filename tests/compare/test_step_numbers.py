"""Whose number a step has: A's, and B's beside it where the two runs count otherwise."""

import dataclasses
import json

import numpy as np
import pytest
from support.build import linear_run, make_trace

from tracediff.compare import compare
from tracediff.report.comparison import to_json, to_text

LATE = 4
WRONG = 9


def runs(folder, *, wrong_side):
    """A run, and the same from its step 4 on, in a trace of its own; one has a corrupted batch."""
    plan = linear_run(steps=15)
    later = plan.steps[LATE:]
    start = plan.steps[LATE - 1].after
    cut = dataclasses.replace(plan, steps=list(later), initial=start)
    whole, part = list(plan.steps), list(later)
    steps, place = (whole, WRONG) if wrong_side == "whole" else (part, WRONG - LATE)
    key = ("input", "input/0")
    observed = {**steps[place].observed}
    observed[key] = observed[key].copy()
    observed[key][1] = 7.0
    steps[place] = dataclasses.replace(steps[place], observed=observed)
    return (
        make_trace(folder / "whole.zarr", dataclasses.replace(plan, steps=whole)),
        make_trace(folder / "part.zarr", dataclasses.replace(cut, steps=part)),
    )


@pytest.mark.parametrize("wrong_side", ["whole", "part"])
def test_the_run_that_began_later_has_its_own_numbers(tmp_path, wrong_side):
    whole, part = runs(tmp_path, wrong_side=wrong_side)
    # WHEN the run that began later is B
    found = compare(whole, part)
    # THEN steps are A's, and B's own number stands beside
    first = found.first_divergence
    assert (first.step, first.step_b, first.stage, first.tensor) == (
        WRONG,
        WRONG - LATE,
        "data",
        "input/0",
    )
    assert found.steps.offset == -LATE
    assert all(cause.step == WRONG for cause in found.causes[:1])
    text = " ".join(to_text(found).split())
    assert f"step {WRONG} (epoch 3, batch 0; B's step {WRONG - LATE})" in text
    assert json.loads(to_json(found))["first_divergence"]["step_b"] == WRONG - LATE
    # AND where it is A, the other way round
    back = compare(part, whole)
    assert (back.first_divergence.step, back.first_divergence.step_b) == (WRONG - LATE, WRONG)
    assert f"B's step {WRONG})" in " ".join(to_text(back).split())


def test_where_both_count_alike_one_number_is_enough(tmp_path):
    a = make_trace(tmp_path / "a.zarr", linear_run(steps=5))
    b = make_trace(tmp_path / "b.zarr", linear_run(steps=5, learning_rate=0.11))
    found = compare(a, b)
    assert found.first_divergence.step_b == found.first_divergence.step
    assert "B's step" not in to_text(found)


def test_rows_are_told_by_the_number_of_the_run_that_has_them(tmp_path):
    # GIVEN a run that began later and takes two batches in the other order
    plan = linear_run(steps=15)
    late = list(plan.steps[LATE:])
    late[2], late[3] = (
        dataclasses.replace(one, observed={**one.observed, **_batch(other)})
        for one, other in ((late[2], late[3]), (late[3], late[2]))
    )
    start = plan.steps[LATE - 1].after
    a = make_trace(tmp_path / "a.zarr", plan)
    b = make_trace(tmp_path / "b.zarr", dataclasses.replace(plan, steps=late, initial=start))
    found = compare(a, b)
    order = next(cause for cause in found.causes if cause.code == "data.order")
    assert order.step == LATE + 2
    text = " ".join(order.evidence)
    assert f"of step {LATE + 3} in A are rows" in text
    assert "of step 2 in B" in text


def _batch(step):
    return {key: np.array(value) for key, value in step.observed.items() if key[0] == "input"}
