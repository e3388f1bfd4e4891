"""Statistics of values, held against numpy's widest type; and what is done to make them fast."""

from __future__ import annotations

import platform
import sys
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracediff.trace._statistics import statistics_of as read_statistics
from tracediff_hooks import native
from tracediff_hooks.flushing import flushed
from tracediff_hooks.moments import statistics_of


@pytest.fixture(autouse=True)
def in_numpy(monkeypatch):
    """Without the compiled passes, which have tests of their own."""
    monkeypatch.setattr(native, "PASSES", None)


FLUSHES = sys.platform == "linux" and platform.machine() == "x86_64"


def widest(values):
    """The same numbers, computed in numpy's widest type."""
    wide = values.reshape(-1).astype(np.longdouble)
    finite = wide[np.isfinite(wide)]
    mean = finite.mean()
    return [
        wide.size,
        mean,
        np.sqrt(((finite - mean) ** 2).mean()),
        np.sqrt((finite * finite).sum()),
        finite.min(),
        finite.max(),
        np.isnan(wide).sum(),
        np.isinf(wide).sum(),
    ]


def assert_alike(values):
    found, expected = statistics_of(values), np.array(widest(values), np.float64)
    size, mean, std, norm, least, most, nan, inf = found
    assert [size, nan, inf] == list(expected[[0, 6, 7]])
    # Extremes are exact, moments good to about six digits of the values' own size.
    assert [least, most] == list(expected[[4, 5]])
    scale = max(abs(least), abs(most))
    assert norm == pytest.approx(expected[3], rel=5e-6)
    assert mean == pytest.approx(expected[1], abs=3e-6 * scale)
    assert std == pytest.approx(expected[2], abs=2e-3 * scale)


@settings(deadline=None, database=None, max_examples=25)
@given(
    st.sampled_from([1, 5, 4096, 4097, 33_000, 300_000]),
    st.integers(-36, 30),
    st.integers(0, 8),
    st.sampled_from(["float32", "float64"]),
)
def test_statistics_hold_at_every_magnitude(size, exponent, spread, dtype):
    # Given values of whatever size, over some orders of magnitude
    stream = np.random.default_rng([size, exponent + 40])
    tens = exponent - stream.uniform(0, spread, size)
    with np.errstate(under="ignore"):
        values = (stream.uniform(-1, 1, size) * 10.0**tens).astype(dtype)
    # Then they are what the widest type makes of them
    assert_alike(values)


@pytest.mark.parametrize("size", [3, 5000, 400_000])
def test_squares_too_small_for_float32_count(size):
    # Given values whose squares float32 does not have, as the second moments of Adam are
    values = np.full(size, 1e-25, np.float32)
    # Then their norm is not zero
    assert statistics_of(values)[3] == pytest.approx(1e-25 * size**0.5, rel=1e-5)


def test_what_is_not_finite_is_counted_and_left_out():
    # Given a NaN at the end of a large array and an infinity in its middle
    values = np.random.default_rng(0).normal(size=300_000).astype("f4")
    values[[150_000, -1]] = np.inf, np.nan
    assert_alike(values)


def test_small_products_are_flushed_within_the_block_only():
    # Given numbers whose product float32 holds with fewer digits only
    small = np.full(64, 1e-20, np.float32)
    # Then it is zero within, where that can be had, and as ever outside
    with flushed() as flushes:
        within = small * small
    assert flushes == FLUSHES
    assert (within == 0).all() == FLUSHES
    assert (small * small != 0).all()
    # and statistics leave the thread as it was
    statistics_of(np.full(1 << 16, 1e-20, np.float32))
    assert (small * small != 0).all()


@pytest.mark.parametrize("scale", [1e300, 1e160, 1e-160, 1e-300])
@pytest.mark.parametrize("size", [3, 5000])
def test_elements_whose_squares_are_no_numbers_have_a_norm(scale, size):
    # Given float64 so large, or so small, that squares overflow, or are lost
    plain = np.random.default_rng(size).standard_normal(size)
    values = np.append(plain * scale, np.nan)
    # Then recorder and reader say what numpy says of the same numbers near one, so much larger
    expected = [n * scale for n in (plain.mean(), plain.std(), np.linalg.norm(plain))]
    for found in (statistics_of(values), astuple(read_statistics(values))):
        np.testing.assert_allclose(found[1:4], expected, rtol=1e-9)
        assert found[6:] == (1, 0)
