"""A run without the scale of its loss is the run that recorded gradients without one."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import RunPlan, Step, make_trace

from tracediff import open_trace
from tracediff.errors import DamagedTrace, NotKept
from tracediff.trace import UnscaledRun, scaled_by, scales
from tracediff.trace._tensor import parse_tensors
from tracediff_hooks.recorder import SparseRows

DENSE, SPARSE = ("gradient", "hidden/kernel"), ("gradient", "table/embeddings")
SCALE = ("slot", "optimizer/dynamic_scale")
POWERS = [2.0**10, 2.0**10, 2.0**11, 1.0, 2.0**15]


def drawn(step, *shape):
    return np.random.RandomState(step).normal(size=shape).astype(np.float32)


def run_of(folder, name, factors, *, by=SCALE[1], level="full", event=None, finite=True):
    """A run with gradients times the factors, and what it says that they are scaled by."""
    steps = []
    for step, factor in enumerate(factors):
        dense, rows = drawn(step, 30, 40), drawn(step, 2, 3)
        if not finite:
            dense[0, :2] = np.inf, np.nan
        values = {DENSE: dense * np.float32(factor)}
        values[SPARSE] = SparseRows(rows * np.float32(factor), np.array([step, 0]))
        after = np.float32(factors[min(step + 1, len(factors) - 1)])
        steps.append(Step(observed=values, after={SCALE: after}))
    specs = {SPARSE: {"shape": (9, 3), "scaled_by": by}, DENSE: {"scaled_by": by}}
    plan = RunPlan(steps, {SCALE: np.float32(factors[0])}, specs=specs)
    path = make_trace(folder / f"{name}.zarr", plan, level=level)
    if event is not None:
        attributes = zarr.open_group(path, mode="r+")["run-0"].attrs
        told = {"step": 0, "kind": event, "message": ""}
        attributes["run"] = {**attributes["run"], "events": [told]}
    (run,) = open_trace(path).runs
    return run


@pytest.mark.parametrize("level", ["full", "sketch", "digest"])
def test_a_scaled_run_without_its_scales_is_the_plain_one(tmp_path, level):
    # given scales that are powers of two, 1 among them
    plain = run_of(tmp_path, "plain", [1.0] * 5, by=None, level=level)
    scaled = run_of(tmp_path, "scaled", POWERS, level=level)
    # when
    run = UnscaledRun(scaled, [DENSE, SPARSE])
    # then all that is known of each gradient is the same, bit for bit
    for key in (DENSE, SPARSE):
        one, other = plain.tensor(*key), run.tensor(*key)
        assert (run.kept(other) == plain.kept(one)).all()
        np.testing.assert_array_equal(
            run.recorded_statistics(other)[:, [0, 3, 4, 5, 6, 7]],
            plain.recorded_statistics(one)[:, [0, 3, 4, 5, 6, 7]],
        )
        for step in range(5):
            assert math.isclose(
                run.statistics(other, step).norm, plain.statistics(one, step).norm, rel_tol=1e-7
            )
            if level != "digest":
                sketches = run.sketch(other, step), plain.sketch(one, step)
                assert sketches[0].distance(sketches[1]) == 0.0
            if level == "full":
                np.testing.assert_array_equal(
                    run.read(other, step), plain.read(one, step), strict=True
                )
    equal = (run.digests(run.tensor(*DENSE)) == plain.digests(plain.tensor(*DENSE))).all(axis=1)
    sparse = (run.digests(run.tensor(*SPARSE)) == plain.digests(plain.tensor(*SPARSE))).all(axis=1)
    # and so are digests where they can be known: not of values that are gone, but at a scale of 1
    known = [True] * 5 if level == "full" else [False, False, False, True, False]
    assert equal.tolist() == sparse.tolist() == known
    # while the run that was recorded holds what it held
    if level == "full":
        seen = scaled.read(scaled.tensor(*DENSE), 2)
        np.testing.assert_array_equal(seen, drawn(2, 30, 40) * np.float32(2048))


def test_what_is_not_finite_stays_so(tmp_path):
    scaled = run_of(tmp_path, "scaled", [1024.0], finite=False)
    found = UnscaledRun(scaled, [DENSE])
    statistics = found.statistics(found.tensor(*DENSE), 0)
    assert (statistics.inf, statistics.nan) == (1, 1)
    assert np.isfinite(astuple(statistics)).all()


def test_a_step_of_which_no_scale_is_known_counts_as_not_observed(tmp_path):
    # given a gradient that is said to be scaled by a slot that nobody recorded
    scaled = run_of(tmp_path, "scaled", POWERS, by="optimizer/elsewhere")
    run = UnscaledRun(scaled, [DENSE])
    gradient = run.tensor(*DENSE)
    # then
    assert np.isnan(scales(scaled, gradient)).all()
    assert not run.observed(gradient).any()
    assert not run.kept(gradient).any()
    with pytest.raises(NotKept, match="scale of the loss"):
        run.read(gradient, 0)


def test_an_older_trace_tells_by_an_event_alone_that_gradients_are_scaled(tmp_path):
    told = run_of(tmp_path, "told", POWERS, by=None, event="scaled-gradients")
    silent = run_of(tmp_path, "silent", POWERS, by=None)
    assert scales(told, told.tensor(*DENSE)).tolist() == POWERS
    assert scaled_by(silent, silent.tensor(*DENSE)) is None
    assert scales(silent, silent.tensor(*DENSE)).tolist() == [1.0] * 5


@settings(max_examples=60)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1), st.integers(-20, 20))
def test_dividing_by_a_power_of_two_gives_back_what_was_multiplied(
    tmp_path_factory, numbers, power
):
    # given numbers of which none overflows or becomes subnormal
    values = np.array(numbers, np.float32)
    tiny, huge = 2.0**-100, 2.0**100
    values = values[(values == 0.0) | ((np.abs(values) > tiny) & (np.abs(values) < huge))]
    scale = 2.0**power
    step = Step(observed={DENSE: values * np.float32(scale)})
    plan = RunPlan([step], specs={DENSE: {"scaled_by": scale}})
    # when
    (scaled,) = open_trace(make_trace(tmp_path_factory.mktemp("law") / "scaled.zarr", plan)).runs
    run = UnscaledRun(scaled, [DENSE])
    # then
    np.testing.assert_array_equal(run.read(run.tensor(*DENSE), 0), values, strict=True)


@pytest.mark.parametrize("wrong", [[2], True, {"by": "optimizer/dynamic_scale"}])
def test_a_scale_that_makes_no_sense_is_a_damaged_trace(tmp_path, wrong):
    run_of(tmp_path, "scaled", POWERS)
    attributes = zarr.open_group(tmp_path / "scaled.zarr", mode="r+")["run-0"].attrs
    lines = [{**line, "scaled_by": wrong} for line in attributes["run"]["tensors"]]
    with pytest.raises(DamagedTrace, match="scaled_by"):
        parse_tensors(lines, "a.zarr")
