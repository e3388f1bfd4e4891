"""Lower bounds from statistics: never above the truth, and worth something."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import RunPlan, Step, make_trace

from tracediff.drift import track_pair
from tracediff.drift.least import least_cells, least_distance, moments, sparse_moments
from tracediff.model import Pair
from tracediff.trace import open_trace
from tracediff_hooks.moments import statistics_of
from tracediff_hooks.recorder import SparseRows

KERNEL = ("weight", "hidden/kernel")
INPUT = ("input", "input/0")
GRADIENT = ("gradient", "hidden/kernel")

sizes = st.one_of(st.integers(1, 40), st.sampled_from([4096, 4097, 20_000, 100_000]))
bases = st.sampled_from(["normal", "constant", "positive", "offset", "tiny", "spiked"])
changes = st.sampled_from(["noise", "shift", "scale", "one", "permuted", "none"])


def drawn(size, base, change, seed, amount):
    """Two float32 arrays: one of a kind, and one that a change made of it."""
    random = np.random.default_rng(seed)
    a = random.normal(size=size)
    if base == "constant":
        a = np.full(size, 0.1)
    elif base == "positive":
        a = random.random(size)
    elif base == "offset":
        a = 1000.0 + random.normal(size=size)
    elif base == "tiny":
        a = 1e-20 * a
    elif base == "spiked":
        a[random.integers(size)] = 1e4
    b = a.copy()
    if change == "noise":
        b = a * (1.0 + amount * random.normal(size=size))
    elif change == "shift":
        b = a + amount * np.abs(a).max()
    elif change == "scale":
        b = a * (1.0 + amount)
    elif change == "one":
        b[random.integers(size)] *= 1.0 + amount
    elif change == "permuted":
        b = random.permutation(a)
    return a.astype(np.float32), b.astype(np.float32)


def of(*arrays):
    return moments(np.array([statistics_of(one) for one in arrays]))


@settings(max_examples=150)
@given(sizes, bases, changes, st.integers(0, 2**16), st.sampled_from([1e-7, 1e-5, 1e-3, 0.5]))
def test_a_bound_is_never_above_the_truth(size, base, change, seed, amount):
    # given
    a, b = drawn(size, base, change, seed, amount)
    apart = a.astype(np.float64) - b
    # when: with the statistics that a recorder makes
    norm, element = least_distance(of(a), of(b))
    # then
    above = 1.0 + 1e-9
    assert norm[0] <= np.linalg.norm(apart) * above
    assert element[0] <= np.abs(apart).max() * above
    cell = least_cells(of(a), of(b))[0]
    sizes_ = max(np.linalg.norm(one.astype(np.float64)) for one in (a, b))
    assert cell["relative_l2"] * sizes_ <= np.linalg.norm(apart) * above


@pytest.mark.parametrize("size", [1, 100, 50_000])
@pytest.mark.parametrize("change", ["shift", "scale"])
def test_what_moves_all_elements_is_seen_at_its_size(size, change):
    a, b = drawn(size, "positive", change, 3, 0.01)
    norm, _ = least_distance(of(a), of(b))
    assert norm[0] >= 0.9 * np.linalg.norm(a.astype(np.float64) - b)


def test_what_leaves_all_statistics_alone_is_not_seen():
    a = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    norm, element = least_distance(of(a), of(a[[1, 0, 3, 2]]))
    assert (norm[0], element[0]) == (0.0, 0.0)


@given(st.integers(1, 12), st.integers(0, 2**16), st.booleans())
def test_rows_that_are_still_to_be_added_up_bound_their_sum(count, seed, scaled):
    # given: rows of a dense tensor, some of them repeated
    random = np.random.default_rng(seed)
    rows = random.integers(0, 6, count)
    a = random.normal(size=(count, 3)).astype(np.float32)
    b = a * np.float32(1.5) if scaled else random.normal(size=(count, 3)).astype(np.float32)
    dense = [np.zeros((6, 3)), np.zeros((6, 3))]
    for full, values in zip(dense, (a, b), strict=True):
        np.add.at(full, rows, values.astype(np.float64))
    # when
    statistics = [np.array([statistics_of(values)]) for values in (a, b)]
    found = [sparse_moments(one, shape=(6, 3)) for one in statistics]
    cell = least_cells(*found)[0]
    # then: a bound on the dense difference and on what it is relative to
    assert cell["norm_difference"] <= np.linalg.norm(dense[0] - dense[1]) * (1 + 1e-9)
    for side, full in zip("ab", dense, strict=True):
        assert cell[f"norm_{side}"] >= np.linalg.norm(full) * (1 - 1e-9)
    assert cell["size"] == 18


# --- what a trace of digests is followed by


def followed(folder, key, *plans, **options):
    runs = [
        open_trace(make_trace(folder / f"{name}.zarr", plan, level="digest")).runs[0]
        for name, plan in zip("ab", plans, strict=True)
    ]
    pair = Pair(role=key[0], name=key[1], a=key[1], b=key[1])
    return track_pair(*runs, pair, steps=runs[0].steps, **options)


def observing(key, value, **spec):
    plan = {KERNEL: np.zeros(2, np.float32)}
    return RunPlan([Step(observed={key: value})], initial=plan, specs={key: spec} if spec else {})


def test_what_a_step_computes_is_bounded_and_what_it_is_fed_is_not(tmp_path):
    one, other = np.ones(3, np.float32), np.full(3, 2.0, np.float32)
    for number, (key, bounded) in enumerate(((GRADIENT, True), (INPUT, False))):
        folder = tmp_path / str(number)
        folder.mkdir()
        cell = followed(folder, key, observing(key, one), observing(key, other)).after[0]
        assert cell["differs"]
        assert (cell["known"], cell["at_least"]) == (bounded, bounded)
        if bounded:
            assert cell["norm_difference"] == pytest.approx(np.sqrt(3.0))
            assert cell["relative_l2"] == pytest.approx(0.5)
            assert cell["max_abs"] == 1.0


def test_state_is_bounded_once_a_step_has_made_it(tmp_path):
    first = [np.full(2, value, np.float32) for value in (1.0, 3.0)]
    after = [np.full(2, value, np.float32) for value in (2.0, 5.0)]
    plans = [
        RunPlan([Step(after={KERNEL: later}), Step(after={KERNEL: later})], {KERNEL: start})
        for start, later in zip(first, after, strict=True)
    ]
    track = followed(tmp_path, KERNEL, *plans)
    assert track.before["at_least"].tolist() == [False, True]
    assert track.before["known"].tolist() == [False, True]
    assert track.after["at_least"].tolist() == [True, True]
    assert track.after["relative_l2"][0] == pytest.approx(3.0 / 5.0)


def test_integers_of_other_bits_are_other_numbers(tmp_path):
    one, other = np.array([1, 2]), np.array([2, 1])
    cell = followed(tmp_path, GRADIENT, observing(GRADIENT, one), observing(GRADIENT, other))
    assert not cell.after["known"][0]


def test_another_dtype_says_nothing_of_the_values(tmp_path):
    labels = ("label", "label/0")
    whole = np.array([[3], [1]], np.int64)
    found = followed(
        tmp_path, labels, observing(labels, whole), observing(labels, whole.astype(np.float32))
    ).after[0]
    assert found["at_least"]
    assert found["relative_l2"] == 0.0


@pytest.mark.parametrize(
    ("b", "known", "mismatched"),
    [([1.0, np.nan], True, 1), ([1.0, np.inf], True, 1), ([2.0, 3.0], True, 0)],
)
def test_other_counts_of_what_is_not_finite_are_a_mismatch(tmp_path, b, known, mismatched):
    one, other = np.array([1.0, 2.0], np.float32), np.array(b, np.float32)
    cell = followed(tmp_path, GRADIENT, observing(GRADIENT, one), observing(GRADIENT, other))
    assert bool(cell.after["known"][0]) == known
    assert cell.after["mismatched"][0] == mismatched


def test_equal_counts_of_nan_leave_the_others_unknown(tmp_path):
    one, other = np.array([1.0, np.nan], np.float32), np.array([np.nan, 1.0], np.float32)
    cell = followed(tmp_path, GRADIENT, observing(GRADIENT, one), observing(GRADIENT, other))
    assert not cell.after["known"][0]


def test_sparse_gradients_are_bounded_by_the_sum_of_their_elements(tmp_path):
    plans = [
        observing(GRADIENT, SparseRows(np.full((2, 2), v, np.float32), rows), shape=(4, 2))
        for v, rows in ((1.0, np.array([1, 1])), (2.0, np.array([1, 3])))
    ]
    cell = followed(tmp_path, GRADIENT, *plans).after[0]
    # Sums of 4 and 8 over 8 elements: the means are 0.5 apart.
    assert cell["norm_difference"] == pytest.approx(np.sqrt(8.0) * 0.5)
    assert cell["at_least"]
