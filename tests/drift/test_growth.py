"""The shape of a drift over steps."""

import numpy as np
import pytest

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
    assert growth(series) == expected


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_change_the_name(seed):
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.2, len(STEPS)))
    assert growth(1e-7 * (STEPS + 1) * noise)[0] == "linear"
    assert growth(1e-8 * 1.25**STEPS * noise)[0] == "exponential"


def test_unknown_steps_do_not_matter():
    series = np.where(STEPS == 5, np.nan, 1e-7)
    assert growth(series) == ("constant", None)
