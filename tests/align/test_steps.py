"""Which step of one run is which of the other."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build import RunPlan, make_trace
from support.runs import ADAM, SGD, changed
from support.train import batches, train

from tracediff.align import align_steps, pair_tensors
from tracediff.align.batches import by_batches
from tracediff.compare import AlignOptions, compare
from tracediff.errors import UsageError
from tracediff.trace import open_trace

COUNTER = ("slot", "optimizer/iteration")


def begun_at(plan, first, *, counter=True):
    """The same run, recorded from a later step on; with the counter, or one that begins anew."""
    state = dict(plan.initial)
    for step in plan.steps[:first]:
        state |= step.before
        state |= step.after
    steps = []
    for number, step in enumerate(plan.steps[first:]):
        after = dict(step.after)
        if not counter:
            after[COUNTER] = np.int64(number + 1)
        steps.append(replace(step, after=after))
    if not counter:
        state[COUNTER] = np.int64(0)
    return RunPlan(steps, state, plan.about, plan.specs, plan.status)


def recorded(folder, *plans, **options):
    return [
        open_trace(make_trace(folder / f"{place}.zarr", plan, **options)).runs[0]
        for place, plan in enumerate(plans)
    ]


def aligned(a, b, by="auto"):
    return align_steps(a, b, pair_tensors(a, b), by)


@pytest.mark.parametrize("level", ["full", "digest"])
def test_a_run_that_began_later_is_paired_from_where_it_began(tmp_path, level):
    whole = train(ADAM)
    a, b = recorded(tmp_path, whole, begun_at(whole, 3), level=level)
    found = aligned(a, b)
    assert (found.by, found.offset, found.start, found.age) == ("iteration", -3, 3, 3)
    assert found.b.tolist() == [-1, -1, -1, 0, 1, 2, 3, 4]
    # AND the other way round
    back = aligned(b, a)
    assert (back.by, back.offset, back.start, back.age) == ("iteration", 3, 0, 3)
    assert back.b.tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("level", ["full", "digest"])
def test_a_counter_that_begins_anew_does_not_hide_where_a_run_goes_on(tmp_path, level):
    whole = train(SGD)
    a, b = recorded(tmp_path, whole, begun_at(whole, 3, counter=False), level=level)
    found = aligned(a, b)
    assert (found.by, found.offset) == ("state", -3)
    assert "before step 3" in found.reason


def test_a_counter_that_begins_anew_is_no_fault_of_an_optimizer_that_does_not_count(tmp_path):
    for plan, verdict in ((SGD, "identical"), (ADAM, "diverged")):
        whole = train(plan)
        folder = tmp_path / plan.optimizer
        a, b = recorded(folder, whole, begun_at(whole, 3, counter=False))
        assert compare(a, b).verdict == verdict


def test_weights_that_agree_but_for_rounding_tell_where_a_run_goes_on(tmp_path):
    whole = train(SGD)
    late = begun_at(train(changed(SGD, reordered_sums=True)), 3, counter=False)
    a, b = recorded(tmp_path, whole, late)
    kernel = a.tensor("weight", "hidden/kernel")
    assert (a.digests(kernel)[3] != b.digests(kernel)[0]).any()
    assert (aligned(a, b).by, aligned(a, b).offset) == ("state", -3)
    assert compare(a, b).verdict == "rounding"


def test_other_first_weights_and_the_same_batches_are_the_same_steps(tmp_path):
    # GIVEN an optimizer that has counted before, with a model that is new
    counted = train(changed(SGD, init_seed=9))
    counted = replace(counted, initial={**counted.initial, COUNTER: np.int64(3)})
    counted = replace(
        counted,
        steps=[
            replace(step, after={**step.after, COUNTER: np.int64(place + 4)})
            for place, step in enumerate(counted.steps)
        ],
    )
    a, b = recorded(tmp_path, train(SGD), counted)
    assert (aligned(a, b).by, aligned(a, b).offset) == ("number", 0)


@pytest.mark.parametrize("change", [{}, {"steps": 5}, {"lr": 0.1}, {"init_seed": 9}, {"seed": 9}])
def test_steps_of_one_number_belong_together_otherwise(tmp_path, change):
    a, b = recorded(tmp_path, train(SGD), train(changed(SGD, **change)))
    found = aligned(a, b)
    assert (found.by, found.plain, found.reason) == ("number", True, None)
    assert found.compared == min(a.steps, b.steps)


def moved(step, x, y):
    """The batches of the second epoch, the other way round."""
    if step < SGD.epoch:
        return x, y
    return batches(SGD)[SGD.epoch - 1 - step % SGD.epoch]


@pytest.mark.parametrize("level", ["full", "digest"])
def test_batches_in_another_order_are_not_paired_unasked(tmp_path, level):
    a, b = recorded(tmp_path, train(SGD), train(changed(SGD, feed=moved)), level=level)
    assert aligned(a, b).by == "number"
    first = compare(a, b).first_divergence
    assert (first.step, first.stage) == (SGD.epoch, "data")


@pytest.mark.parametrize("level", ["full", "digest"])
def test_batches_in_another_order_are_paired_if_asked(tmp_path, level):
    a, b = recorded(tmp_path, train(SGD), train(changed(SGD, feed=moved)), level=level)
    found = aligned(a, b, "batches")
    assert found.b.tolist() == [0, 1, 2, 3, 7, 6, 5, 4]
    assert found.departs == 4
    comparison = compare(a, b, align=AlignOptions(steps="batches"))
    assert comparison.verdict == "diverged"
    order = next(cause for cause in comparison.causes if cause.code == "data.order")
    assert (order.step, order.a, order.b) == (4, 4, 7)


def test_batches_of_a_run_that_began_later_are_in_order(tmp_path):
    plan = changed(SGD, epoch=8)
    whole = train(plan)
    a, b = recorded(tmp_path, whole, begun_at(whole, 3))
    assert aligned(a, b, "batches").departs is None
    assert compare(a, b, align=AlignOptions(steps="batches")).verdict == "identical"


@pytest.mark.parametrize("by", ["state", "batches", "iteration"])
def test_what_runs_do_not_hold_steps_cannot_be_told_by(tmp_path, by):
    bare = train(changed(SGD, seed=5, init_seed=5))
    initial = {key: value for key, value in bare.initial.items() if key != COUNTER}
    steps = [
        replace(step, after={k: v for k, v in step.after.items() if k != COUNTER})
        for step in bare.steps
    ]
    a, b = recorded(tmp_path, train(SGD), replace(bare, initial=initial, steps=steps))
    with pytest.raises(UsageError) as caught:
        aligned(a, b, by)
    assert "steps=number" in caught.value.hint


def by_the_rule(keys_a, keys_b, epochs_a, epochs_b):
    """The step of B for each of A, as the rule says it: of its epoch, or else the first left."""
    left, found = list(range(len(keys_b))), []
    for key, epoch in zip(keys_a, epochs_a, strict=True):
        alike = [step for step in left if keys_b[step] == key]
        chosen = ([step for step in alike if epochs_b[step] == epoch] or alike or [-1])[0]
        if chosen >= 0:
            left.remove(chosen)
        found.append(chosen)
    return found


@given(st.data())
def test_steps_told_by_their_batches_follow_the_rule(data):
    # Given two runs of few different batches, so that most come again and again
    keys = [data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=12)) for _ in "ab"]
    keys[1].append(keys[0][0])
    epochs = [sorted(data.draw(st.integers(0, 2)) for _ in own) for own in keys]
    a, b = (
        SimpleNamespace(
            path="a.zarr",
            steps=len(own),
            epoch=np.array(numbers),
            tensor=lambda role, name: (role, name),
            digests=lambda _, own=own: np.array([own, own], np.uint64).T,
        )
        for own, numbers in zip(keys, epochs, strict=True)
    )
    pairing = SimpleNamespace(pairs=[SimpleNamespace(role="input", a="input/0", b="input/0")])
    # When steps are told by them, then each goes with the one that the rule names
    expected = by_the_rule(*keys, *epochs)
    while expected[-1] < 0:
        expected.pop()
    assert by_batches(a, b, pairing).b.tolist() == expected
