"""Several tensors taken together: as if they lay side by side in one array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracediff.drift import together, unmeasured
from tracediff.drift.cells import equal_cells, measured_cells, unknown_cells

UNKNOWN = np.full(1, np.nan)


def cells_of(a, b):
    return measured_cells(a.reshape(1, -1), b.reshape(1, -1), other_bits=False)


def tensors(seed, count, *, spread=3.0):
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        a = random.normal(size=random.integers(1, 40)) * 10.0 ** random.uniform(-spread, spread)
        pairs.append((a, a * (1 + random.normal(size=a.shape) * 10.0 ** random.uniform(-7, 0))))
    return pairs


def drift(pairs):
    return float(together([cells_of(*pair) for pair in pairs], [UNKNOWN] * len(pairs))[0])


def oracle(pairs):
    """The formula, element by element, in float64."""
    above = sum(np.sum((a - b) ** 2) for a, b in pairs)
    below = sum(max(np.sum(a**2), np.sum(b**2)) for a, b in pairs)
    return np.sqrt(above / below)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
@settings(deadline=None)
def test_it_is_the_norm_of_the_differences_over_that_of_the_larger_values(seed, count):
    pairs = tensors(seed, count)
    assert drift(pairs) == pytest.approx(oracle(pairs), rel=1e-12)


@given(seed=st.integers(0, 10_000), exponent=st.integers(-60, 60))
@settings(deadline=None)
def test_neither_order_nor_scale_matters(seed, exponent):
    pairs = tensors(seed, 4)
    one = drift(pairs)
    assert drift(pairs[::-1]) == pytest.approx(one, rel=1e-12)
    factor = 10.0**exponent
    assert drift([(a * factor, b * factor) for a, b in pairs]) == pytest.approx(one, rel=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_it_lies_between_the_drifts_of_the_tensors(seed):
    pairs = tensors(seed, 3)
    alone = [drift([pair]) for pair in pairs]
    assert min(alone) * (1 - 1e-9) <= drift(pairs) <= max(alone) * (1 + 1e-9)


def test_a_large_tensor_that_agrees_counts_by_its_norm():
    # GIVEN a bias that is off by a tenth, beside a kernel a hundred times as large that agrees
    cells = [cells_of(np.array([1.0]), np.array([0.9])), equal_cells(np.ones(1, bool))]
    # THEN the kernel's norm is asked for, and counts
    assert [one.tolist() for one in unmeasured(cells)] == [[False], [True]]
    found = together(cells, [UNKNOWN, np.array([100.0])])
    assert found[0] == pytest.approx(0.1 / np.hypot(1.0, 100.0))


def test_no_norm_is_asked_for_where_all_agree():
    cells = [equal_cells(np.ones(2, bool))] * 2
    assert not np.any(unmeasured(cells))
    assert together(cells, [np.full(2, np.nan)] * 2).tolist() == [0.0, 0.0]


def test_what_is_not_known_of_one_is_not_known_of_all():
    cells = [cells_of(np.ones(2), np.ones(2) * 2), unknown_cells(1)]
    assert np.isnan(together(cells, [UNKNOWN] * 2)[0])
    wrong = cells_of(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    assert np.isnan(together([cells[0], wrong], [UNKNOWN] * 2)[0])


def test_a_step_at_which_none_is_there_is_not_compared():
    assert np.isnan(together([equal_cells(np.zeros(1, bool))], [UNKNOWN])[0])
