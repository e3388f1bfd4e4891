"""The shape of a drift over steps, and what is fitted to it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracediff.drift import growth

STEPS = np.arange(80)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (np.zeros(20), ("none", None)),
        (np.full(20, 3e-7), ("constant", None)),
        (np.full(20, 0.8), ("constant", None)),
        (1e-7 * (STEPS + 1), ("linear", None)),
        (1e-8 * 1.2**STEPS, ("exponential", None)),
        (np.where(STEPS < 37, 0.0, 0.4), ("jump", 37)),
        (np.where(STEPS < 37, 2e-7, 1e-3), ("jump", 37)),
        (np.where(STEPS == 3, 1e-4, 0.0), ("jump", 3)),
    ],
)
def test_growth_is_named(series, expected):
    found = growth(series)
    assert (found.shape, found.jump) == expected


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_change_the_name(seed):
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.2, len(STEPS)))
    assert growth(1e-7 * (STEPS + 1) * noise).shape == "linear"
    assert growth(1e-8 * 1.25**STEPS * noise).shape == "exponential"


def test_unknown_steps_do_not_matter():
    series = np.where(STEPS == 5, np.nan, 1e-7)
    assert growth(series).shape == "constant"


def test_what_does_not_grow_is_not_fitted():
    assert growth(np.zeros(9)).fit is None
    assert growth(np.full(9, 1e-7)).fit is None
    assert growth(np.array([0.0, 1e-7, 2e-7])).fit is None


@given(
    level=st.floats(1e-9, 1e-7),
    rate=st.floats(0.05, 1.0),
    onset=st.integers(0, 20),
    count=st.integers(50, 200),
    unknown=st.sets(st.integers(0, 300), max_size=8),
)
def test_the_rate_of_an_exponential_is_recovered(level, rate, onset, count, unknown):
    # GIVEN rounding that comes in at a step and grows by exp(rate) a step, some steps unknown
    steps = np.arange(onset + count)
    series = np.where(steps < onset, 0.0, level * np.exp(rate * (steps - onset)))
    series[[number for number in unknown if onset < number < len(series)]] = np.nan
    # WHEN it is fitted
    found = growth(series)
    # THEN rate and doubling time are those it was made with
    assert found.shape == "exponential"
    assert found.fit.rate == pytest.approx(rate, rel=1e-6)
    assert found.fit.doubling_steps == pytest.approx(np.log(2) / rate, rel=1e-6)
    assert found.fit.r_squared == pytest.approx(1.0, abs=1e-9)
    assert found.fit.first_step == onset


@given(slope=st.floats(1e-9, 4e-7), onset=st.integers(0, 20), count=st.integers(40, 200))
def test_the_slope_of_a_line_is_recovered(slope, onset, count):
    series = slope * np.maximum(np.arange(onset + count) - onset + 1, 0)
    found = growth(series)
    assert found.shape == "linear"
    assert found.fit.rate == pytest.approx(slope, rel=1e-6)
    assert found.fit.power == pytest.approx(1.0, rel=1e-6)
    assert found.fit.doubling_steps is None


@pytest.mark.parametrize("power", [0.7, 1.5, 2.0])
def test_the_power_of_the_step_count_is_recovered(power):
    found = growth(1e-9 * np.arange(1.0, 81.0) ** power)
    assert found.shape == "linear"
    assert found.fit.power == pytest.approx(power)


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_rate_by_as_much_as_the_fit_is_bad(seed):
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.3, len(STEPS)))
    found = growth(1e-8 * np.exp(0.1 * STEPS) * noise)
    # The standard error of the slope: 0.3 over the root of the spread of the steps.
    error = 0.3 / np.sqrt(np.sum((STEPS - STEPS.mean()) ** 2))
    assert found.fit.rate == pytest.approx(0.1, abs=4 * error)
    assert 0.9 < found.fit.r_squared < 1.0


def test_what_levels_off_is_fitted_until_then():
    # GIVEN a drift that doubles every two steps, until it is as large as the tensor
    series = np.minimum(1e-8 * 2.0 ** (STEPS / 2), 0.7)
    found = growth(series)
    assert found.shape == "exponential"
    assert found.fit.doubling_steps == pytest.approx(2.0, rel=0.02)
    assert found.fit.last_step == pytest.approx(np.log2(0.7e8) * 2, abs=2)


def test_a_jump_is_described_by_two_levels():
    found = growth(np.where(STEPS < 37, 2e-7, 1e-3))
    assert found.fit.rate is None
    assert found.fit.r_squared == pytest.approx(1.0)
    noise = np.random.default_rng(0).normal(0, 2e-4, len(STEPS))
    assert growth(np.where(STEPS < 37, 2e-7, 1e-3 + noise)).fit.r_squared < 0.95


@given(factor=st.floats(1e-3, 1e3), rate=st.floats(0.03, 0.5))
def test_the_rate_does_not_hang_on_the_scale(factor, rate):
    series = 1e-5 * np.exp(rate * np.arange(60))
    one, other = growth(series), growth(series * factor, shape="exponential")
    assert one.fit.rate == pytest.approx(other.fit.rate, rel=1e-9)


def test_a_shape_that_is_known_is_only_fitted():
    series = np.where(STEPS < 37, 2e-7, 1e-3)
    assert growth(series).shape == "jump"
    found = growth(series, shape="exponential")
    assert found.shape == "exponential"
    assert found.fit.rate > 0.0


@pytest.mark.parametrize(
    ("power", "shape"), [(0.0, "constant"), (0.5, "constant"), (1.0, "linear")]
)
def test_what_cancels_in_part_is_constant_and_what_adds_up_is_not(power, shape):
    assert growth(1e-8 * np.arange(1.0, 201.0) ** power).shape == shape
