"""Which rows of A are the rows of a batch of B."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import RunPlan, Step, make_trace
from support.runs import SGD, cause, changed, compared
from support.train import batches

from tracediff.align import RowIndex
from tracediff.trace import open_trace

INPUT = ("input", "input/0")
SAMPLES = np.random.default_rng(4).normal(size=(40, 5)).astype(np.float32)


def fed(path, *rows, level="full", change=lambda x: x):
    """A run that is fed these rows of the samples, a list for each step."""
    steps = [Step(observed={INPUT: change(SAMPLES[list(step)])}) for step in rows]
    return open_trace(make_trace(path, RunPlan(steps), level=level)).runs[0]


A = (range(8), range(8, 16), range(16, 24))


def located(tmp_path, rows, *, exact=False, **options):
    a = fed(tmp_path / "a.zarr", *A, **({"level": options["level"]} if "level" in options else {}))
    b = fed(tmp_path / "b.zarr", rows, **options)
    return RowIndex(a, [INPUT], exact=exact).locate(b, [INPUT], 0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (range(8), ["rows 0 to 7 of step 0 in A are rows 0 to 7 of step 0 in B"]),
        (range(7, -1, -1), ["rows 7 to 0 of step 0 in A are rows 0 to 7 of step 0 in B"]),
        (
            [*range(12, 16), *range(16, 20)],
            [
                "rows 4 to 7 of step 1 in A are rows 0 to 3 of step 0 in B",
                "rows 0 to 3 of step 2 in A are rows 4 to 7 of step 0 in B",
            ],
        ),
        ([9], ["row 1 of step 1 in A is row 0 of step 0 in B"]),
        (
            [0, 1, 30, 31],
            [
                "rows 0 to 1 of step 0 in A are rows 0 to 1 of step 0 in B",
                "rows 2, 3 of step 0 in B: nowhere in A",
            ],
        ),
    ],
)
def test_rows_are_told_exactly(tmp_path, rows, words):
    assert list(located(tmp_path, rows).words()) == words


def test_digest_capture_is_enough(tmp_path):
    found = located(tmp_path, range(7, -1, -1), exact=True, level="digest")
    assert list(found.words()) == ["rows 7 to 0 of step 0 in A are rows 0 to 7 of step 0 in B"]


def test_a_row_that_comes_twice_is_taken_beside_its_neighbour(tmp_path):
    a = fed(tmp_path / "a.zarr", [1, 2, 3], [4, 2, 5])
    b = fed(tmp_path / "b.zarr", [4, 2, 5])
    (segment,) = RowIndex(a, [INPUT]).locate(b, [INPUT], 0).segments
    assert (segment.step_a, segment.first_a, segment.count) == (1, 0, 3)


@settings(max_examples=15)
@given(st.permutations(range(8)), st.floats(-4, 4).filter(lambda s: abs(s) > 0.1), st.floats(-3, 3))
def test_rows_that_moved_and_were_scaled(tmp_path_factory, order, scale, offset):
    folder = tmp_path_factory.mktemp("rows")
    a = fed(folder / "a.zarr", *A)
    b = fed(
        folder / "b.zarr",
        [8 + row for row in order],
        change=lambda x: (x * np.float32(scale) + np.float32(offset)).astype(np.float32),
    )
    found = RowIndex(a, [INPUT]).locate_transformed(b, [INPUT], 0)
    assert found.missing == ()
    places = {
        segment.first_b + k: (segment.step_a, segment.first_a + segment.stride * k)
        for segment in found.segments
        for k in range(segment.count)
    }
    assert places == {row: (1, place) for row, place in enumerate(order)}
    assert found.scale == pytest.approx(scale, rel=1e-3)
    assert found.offset == pytest.approx(offset, abs=1e-3)


def test_other_rows_are_not_called_transformed(tmp_path):
    a = fed(tmp_path / "a.zarr", *A)
    b = fed(tmp_path / "b.zarr", range(32, 40))
    assert RowIndex(a, [INPUT]).locate_transformed(b, [INPUT], 0) is None
    assert RowIndex(a, [INPUT]).locate(b, [INPUT], 0).segments == ()


def reversed_rows(step, x, y):
    return x[::-1], y[::-1]


def test_findings_say_which_rows(tmp_path):
    found = cause(compared(tmp_path, SGD, changed(SGD, feed=reversed_rows)), "data.order")
    assert "rows 15 to 0 of step 0 in A are rows 0 to 15 of step 0 in B" in found.evidence


def test_findings_say_which_rows_at_digest_level(tmp_path):
    both = compared(tmp_path, SGD, changed(SGD, feed=reversed_rows), level="digest")
    found = cause(both, "data.order")
    assert "rows 15 to 0 of step 0 in A are rows 0 to 15 of step 0 in B" in found.evidence


def test_samples_of_another_order_that_were_scaled_as_well(tmp_path):
    def feed(step, x, y):
        x, y = batches(SGD)[(step + 1) % SGD.epoch]
        return (x * np.float32(2)).astype(np.float32), y

    comparison = compared(tmp_path, SGD, changed(SGD, feed=feed))
    found = cause(comparison, "data.transform")
    assert found.b["scale"] == pytest.approx(2.0, rel=1e-4)
    assert "rows 0 to 15 of step 1 in A are rows 0 to 15 of step 0 in B" in found.evidence
    assert cause(comparison, "data.order").step == 0
