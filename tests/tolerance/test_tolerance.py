"""The table of tolerances, how it scales, and that the documentation shows the same one."""

from pathlib import Path

import numpy as np
import pytest

from tracediff.tolerance import TOLERANCES, elementwise, kind_of, tolerance

EPS = {name: float(np.finfo(name).eps) for name in ("float16", "float32", "float64")}
STEPS = np.array([0, 19, 39, 399])


def test_computed_values_accumulate_and_given_ones_do_not():
    assert tolerance("weight", STEPS, eps=EPS["float32"]).tolist() == pytest.approx(
        [1e-6, 1e-6, 2e-6, 2e-5]
    )
    assert set(tolerance("data", STEPS).tolist()) == {1e-6}


def test_coarser_types_are_forgiven_more_and_finer_ones_less():
    gradient = [tolerance("gradient", STEPS[:1], eps=EPS[name])[0] for name in EPS]
    assert gradient[0] > gradient[1] > gradient[2]


def test_what_hangs_on_constants_in_float32_is_not_stricter_in_float64():
    assert tolerance("slot", STEPS[:1], eps=EPS["float64"])[0] == 2e-5


def test_given_values_are_not_forgiven_more_in_float16():
    assert tolerance("data", STEPS[:1], eps=EPS["float16"])[0] == 1e-6
    assert elementwise("initial state", eps=EPS["float16"]) == 1e-6


@pytest.mark.parametrize("kind", TOLERANCES)
def test_integers_are_exact(kind):
    assert tolerance(kind, STEPS, eps=0.0).tolist() == [0.0] * 4


def test_no_tolerance_reaches_the_size_of_the_value():
    assert tolerance("gradient", np.array([10**9]), eps=EPS["float16"])[0] == 0.5


def test_kinds_of_roles():
    assert kind_of("weight", trainable=False) == "moving statistic"
    assert kind_of("applied_gradient") == "gradient"


def test_the_documentation_shows_the_table():
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
    for kind, row in TOLERANCES.items():
        shown = f"{row.relative_l2:.0e}".replace("e-0", "e-")
        assert any(
            line.startswith(f"| {kind} |") and f"| {shown} |" in line for line in page.splitlines()
        ), kind
