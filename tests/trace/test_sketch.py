"""Sketches: linear, the same in recorder and reader, and as good as they say."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import RunPlan, Step, make_trace
from support.sketches import by_the_page

from tracediff import open_trace
from tracediff.drift.estimate import estimate
from tracediff.trace import SKETCH_ERROR, sketch_of
from tracediff.trace._cells import Cells
from tracediff_hooks import sketch as recorder


@pytest.mark.parametrize("size", [0, 1, 508, 509, 510, 16287, 16288, 16289, 530000])
def test_recorder_and_reader_compute_what_the_format_says(size):
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    expected = by_the_page(values)
    for found in (recorder.sketch_of(values), sketch_of(values).numbers):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


def test_many_blocks_make_the_same_sketch():
    values = np.random.default_rng(0).standard_normal(40 * 16288 + 7).astype(np.float32)
    np.testing.assert_allclose(
        sketch_of(values).numbers, recorder.sketch_of(values), rtol=0, atol=1e-9
    )


@settings(max_examples=25)
@given(st.integers(0, 60000), st.integers(0, 1000), st.floats(-3, 3))
def test_a_sketch_is_linear(size, seed, factor):
    a, b = np.random.default_rng(seed).standard_normal((2, size))
    combined = recorder.sketch_of(a + factor * b)
    parts = recorder.sketch_of(a) + factor * recorder.sketch_of(b)
    np.testing.assert_allclose(combined, parts, rtol=0, atol=1e-9)


@settings(max_examples=25)
@given(st.integers(1, 509), st.integers(0, 1000))
def test_norms_of_small_values_are_exact(size, seed):
    a, b = np.random.default_rng(seed).standard_normal((2, size)).astype(np.float32)
    found = estimate(sketch_of(a), sketch_of(b))
    exact = np.linalg.norm(a.astype(np.float64) - b.astype(np.float64))
    assert found.exact
    assert found.norm_difference == pytest.approx(exact, rel=1e-12)


DIFFERENCES = {
    "noise": lambda d, g: d.__iadd__(g.standard_normal(d.shape)),
    "a constant": lambda d, g: d.__iadd__(1.0),
    "one column": lambda d, g: d[:, g.integers(d.shape[1])].__iadd__(1.0),
    "one row": lambda d, g: d[g.integers(d.shape[0])].__iadd__(1.0),
    "every eighth element": lambda d, g: d.reshape(-1)[::8].__iadd__(1.0),
    "one block": lambda d, g: d[:60, :60].__iadd__(g.standard_normal((60, 60))),
    "heavy tails": lambda d, g: d.__iadd__(g.standard_t(3, d.shape)),
    "a hundred elements": lambda d, g: d.reshape(-1).__setitem__(
        g.integers(0, d.size, 100), g.standard_normal(100)
    ),
}


@pytest.mark.parametrize("shape", [(784, 512), (3, 3, 64, 120), (1000, 300), (257, 1021)])
@pytest.mark.parametrize("what", DIFFERENCES)
def test_the_error_of_an_estimate_is_the_stated_one(shape, what):
    # Given differences of one kind, with other numbers or in other places
    errors = []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        difference = np.zeros(shape).reshape(-1, shape[-1])
        if what == "a constant" and seed:
            break  # one constant is as good as another
        DIFFERENCES[what](difference, generator)
        exact = np.linalg.norm(difference)
        errors.append(sketch_of(difference).norm / exact - 1)
    # Then the estimates are off by the stated error, within what a dozen samples can tell
    assert np.sqrt(np.mean(np.square(errors))) < 2 * SKETCH_ERROR
    assert np.max(np.abs(errors)) < 4 * SKETCH_ERROR


def test_tiny_differences_of_large_values_are_seen():
    # Given a weight and the same with every hundredth element one ulp larger
    a = np.random.default_rng(1).standard_normal(200_000).astype(np.float32)
    b = a.copy()
    b[::100] = np.nextafter(b[::100], np.float32(np.inf))
    exact = np.linalg.norm(a.astype(np.float64) - b.astype(np.float64))
    # Then the estimate is as good as of large ones: nothing is lost in the sums
    found = estimate(sketch_of(a), sketch_of(b))
    assert found.relative_l2 < 1e-8
    assert found.norm_difference == pytest.approx(exact, rel=4 * SKETCH_ERROR)


def test_values_of_other_sizes_have_no_distance():
    a, b = sketch_of(np.ones(600)), sketch_of(np.ones(601))
    assert estimate(a, b) is None
    with pytest.raises(ValueError, match="no difference"):
        a.distance(b)


@pytest.mark.parametrize("level", ["full", "sketch"])
def test_one_step_is_asked_of_its_own_cell(tmp_path, monkeypatch, level):
    # Given a run whose weight is changed from outside before step 2, asked once about each kind
    states = np.random.default_rng(0).standard_normal((6, 600)).astype(np.float32)
    batches = np.arange(30, dtype=np.float32).reshape(5, 3, 2)
    weight, batch = ("weight", "hidden/kernel"), ("input", "input/0")
    steps = [Step({batch: batches[k]}, after={weight: states[k + 1]}) for k in range(5)]
    steps[2] = Step({batch: batches[2]}, after={weight: states[3]}, before={weight: states[5]})
    path = make_trace(tmp_path / "a.zarr", RunPlan(steps, initial={weight: states[0]}), level=level)
    (run,) = open_trace(path).runs
    kernel, fed = run.tensor(*weight), run.tensor(*batch)
    run.sketch(kernel, 0)
    run.row_digests(fed, 0)
    # When it is asked about every step, and no more than one cell of each table may be looked at
    for name in ("digests", "versions", "places", "all_statistics"):
        monkeypatch.delattr(Cells, name)
    # Then it answers, at both ends of the step with the outside change, too
    for step in range(5):
        before = states[5] if step == 2 else states[step]
        for moment, value in (("before", before), ("after", states[step + 1])):
            found = run.sketch(kernel, step, moment)
            np.testing.assert_allclose(found.numbers, sketch_of(value).numbers, atol=1e-11)
            norm = run.statistics(kernel, step, moment).norm
            assert norm == pytest.approx(np.linalg.norm(value), rel=1e-5)
        expected = [xxhash.xxh3_64_intdigest(row.tobytes()) for row in batches[step]]
        assert run.row_digests(fed, step).tolist() == expected


def test_summaries_are_found_whatever_a_tensor_is_called(tmp_path):
    # Given weights and batches whose names would be no folders, in a trace that keeps summaries
    names = ["..", "../x", ".hidden", "x", "x/", "x//y", "größe 1"]
    values = np.random.default_rng(1).standard_normal((len(names), 30, 20)).astype(np.float32)
    state = {("weight", name): value for name, value in zip(names, values, strict=True)}
    fed = {("input", name): value for name, value in zip(names, values, strict=True)}
    plan = RunPlan([Step(fed, after=state)], initial=state)
    (run,) = open_trace(make_trace(tmp_path / "a.zarr", plan, level="sketch")).runs
    # Then sketches and row digests of each are those of its own value
    for name, value in zip(names, values, strict=True):
        found = run.sketch(run.tensor("weight", name), 0, "after")
        np.testing.assert_allclose(found.numbers, sketch_of(value).numbers, atol=1e-11)
        expected = [xxhash.xxh3_64_intdigest(row.tobytes()) for row in value]
        assert run.row_digests(run.tensor("input", name), 0).tolist() == expected
