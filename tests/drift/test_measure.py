"""Drift between arrays: against independent oracles, and by laws that have to hold."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracediff.drift import measure, squeezed_shape, ulp_distance

FLOATS = [np.float16, np.float32, np.float64]
HUGE = np.iinfo(np.uint64).max


def finite(dtype):
    return hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)


@st.composite
def triples(draw):
    dtype = draw(st.sampled_from(FLOATS))
    return [dtype(draw(finite(dtype))) for _ in range(3)]


def ulps(a, b):
    return int(ulp_distance(np.array([a]), np.array([b]))[0])


@given(triples())
def test_ulp_distance_is_a_metric(numbers):
    a, b, c = numbers
    assert ulps(a, b) == ulps(b, a)
    assert (ulps(a, b) == 0) == (a == b)
    assert ulps(a, c) <= ulps(a, b) + ulps(b, c)


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data(), count=st.integers(0, 40))
def test_ulp_distance_counts_steps_of_nextafter(dtype, data, count):
    start = dtype(data.draw(finite(dtype)))
    end = start
    for _ in range(count):
        with np.errstate(over="ignore"):
            end = np.nextafter(end, dtype(math.inf))
    if np.isfinite(end):
        # Both zeros are one point, and nextafter steps over the negative one.
        assert ulps(start, end) == count


def test_ulp_distance_of_the_far_ends_does_not_overflow():
    low, high = np.finfo(np.float64).min, np.finfo(np.float64).max
    assert ulps(low, high) == 2 * int(np.float64(high).view(np.int64))


def test_ulp_distance_of_nan_and_zeros():
    one, nan = np.float32(1), np.float32(math.nan)
    assert ulps(np.float32(0.0), np.float32(-0.0)) == 0
    assert ulps(nan, nan) == 0
    assert ulps(nan, one) == HUGE
    assert ulps(np.float32(math.inf), np.finfo(np.float32).max) == 1


def test_ulp_distance_of_two_dtypes_is_in_the_narrower():
    assert ulps(np.float64(1.0 + 2.0**-30), np.float32(1.0)) == 0
    assert ulps(np.float64(1.0 + 2.0**-23), np.float32(1.0)) == 1


ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e6, 1e6, width=32)
)


@given(st.data())
def test_measures_agree_with_exact_arithmetic(data):
    a = data.draw(ARRAYS)
    b = data.draw(hnp.arrays(np.float32, a.shape, elements=st.floats(-1e6, 1e6, width=32)))
    drift = measure(a, b)
    exact_a, exact_b = ([Fraction(float(v)) for v in x.reshape(-1)] for x in (a, b))
    square = sum((x - y) ** 2 for x, y in zip(exact_a, exact_b, strict=True))
    norms = [math.sqrt(sum(x * x for x in side)) for side in (exact_a, exact_b)]
    assert drift.norm_difference == pytest.approx(math.sqrt(square), rel=1e-12)
    expected = 0.0 if not square else math.sqrt(square) / max(norms)
    assert drift.relative_l2 == pytest.approx(expected, rel=1e-12)
    assert drift.max_abs == pytest.approx(
        float(max(abs(x - y) for x, y in zip(exact_a, exact_b, strict=True))), rel=1e-15
    )
    assert drift.different == sum(x != y for x, y in zip(exact_a, exact_b, strict=True))


@given(ARRAYS)
def test_an_array_does_not_differ_from_itself(array):
    drift = measure(array, array.copy())
    assert (drift.relative_l2, drift.max_abs, drift.max_ulp, drift.different) == (0, 0, 0, 0)
    assert drift.sign_agreement == 1.0


@given(ARRAYS, st.integers(0, 2**31))
def test_drift_is_symmetric(array, seed):
    other = np.random.default_rng(seed).permutation(array.reshape(-1)).reshape(array.shape)
    one, two = measure(array, other), measure(other, array)
    assert one.relative_l2 == two.relative_l2
    assert one.max_ulp == two.max_ulp
    assert (one.cosine == two.cosine) or (math.isnan(one.cosine) and math.isnan(two.cosine))


def test_large_arrays_are_measured_in_blocks_as_if_whole():
    random = np.random.default_rng(0)
    a = random.normal(size=600_001).astype(np.float32)
    b = a.copy()
    b[500_000] += np.float32(0.5)
    drift = measure(a, b)
    assert drift.worst == 500_000
    assert drift.different == 1
    assert drift.norm_a == pytest.approx(float(np.linalg.norm(a.astype(np.float64))), rel=1e-12)


def test_non_finite_values_are_counted_and_kept_out_of_norms():
    a = np.array([1.0, math.nan, math.inf, 2.0], np.float32)
    b = np.array([1.0, math.nan, 3.0, 2.5], np.float32)
    drift = measure(a, b)
    assert (drift.non_finite_a, drift.non_finite_b, drift.mismatched) == (2, 1, 1)
    assert math.isnan(drift.relative_l2)
    assert drift.max_abs == 0.5
    assert drift.worst == 2


def test_nan_and_infinity_in_both_agree():
    a = np.array([math.nan, math.inf, 1.0], np.float32)
    drift = measure(a, a.copy())
    assert (drift.relative_l2, drift.mismatched, drift.different) == (0.0, 0, 0)


def test_directions_and_signs():
    drift = measure(np.array([1.0, 1.0]), np.array([1.0, -1.0]))
    assert drift.cosine == 0.0
    assert drift.sign_agreement == 0.5
    assert math.isnan(measure(np.zeros(2), np.ones(2)).cosine)
    assert measure(np.ones(4), 3 * np.ones(4)).norm_ratio == pytest.approx(3.0)


def test_trailing_unit_axes_do_not_count_and_other_shapes_do():
    assert measure(np.arange(3.0), np.arange(3.0)[:, None]).relative_l2 == 0.0
    assert squeezed_shape((2, 1, 1)) == (2,)
    with pytest.raises(ValueError, match="shapes"):
        measure(np.zeros(3), np.zeros(4))


def test_integers_are_compared_by_value_with_floats():
    drift = measure(np.array([1, 2], np.int64), np.array([1, 2], np.float32))
    assert (drift.relative_l2, drift.different, drift.max_ulp) == (0.0, 0, None)
