"""Which of two values is the other one in a coarser number format."""

import numpy as np
import pytest

from tracediff.diagnose.roundings import rounded


@pytest.fixture
def drawn():
    return np.random.default_rng(0).normal(size=(40, 100))


def test_values_of_half_precision_are_told_on_either_side(drawn):
    coarse = drawn.astype(np.float16).astype(np.float64)
    assert rounded(drawn, coarse, drawn=True) == ("B", "float16")
    assert rounded(coarse, drawn, drawn=True) == ("A", "float16")


def test_one_late_element_that_is_not_rounded_is_seen(drawn):
    coarse = drawn.astype(np.float16).astype(np.float64)
    coarse[-1, -1] = drawn[-1, -1]
    assert rounded(drawn, coarse, drawn=True) is None
