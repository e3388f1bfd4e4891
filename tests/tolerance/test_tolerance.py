"""The table of tolerances, how it scales, and that the documentation shows the same one."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tracediff.onset import Kernel, Roundings
from tracediff.tolerance import (
    TOLERANCES,
    effective_length,
    elementwise,
    gradient_condition,
    kind_of,
    rounding,
    tolerance,
)

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


@pytest.mark.parametrize("terms", [16, 256, 4096, 65536])
def test_sums_in_two_orders_stay_within_the_model(terms):
    # GIVEN sums of random terms, one by one and in blocks, in float32
    random = np.random.default_rng(terms)
    values = random.normal(size=(200, terms)).astype(np.float32)
    block = min(terms, 256)
    plain = np.cumsum(values, axis=1, dtype=np.float32)[:, -1] if terms <= block else None
    parts = np.cumsum(values.reshape(200, -1, block), axis=2, dtype=np.float32)[:, :, -1]
    blocked = np.cumsum(parts, axis=1, dtype=np.float32)[:, -1]
    # WHEN they are held against the sums in float64
    true = values.sum(axis=1, dtype=np.float64)
    for found in (plain, blocked):
        if found is not None:
            apart = np.linalg.norm(found - true) / np.linalg.norm(true)
            # THEN they are off by no more than the model says, and not by much less
            allowed = rounding(effective_length(terms), eps=EPS["float32"])
            assert allowed / 20 < apart < allowed


def model(widths, batch=(16, 12), about=None):
    kernels = [Kernel(order, f"d{order}", shape) for order, shape in enumerate(pairwise(widths))]
    return Roundings(kernels, batch, about or {})


def test_longer_sums_more_layers_and_larger_batches_round_more():
    small = model([12, 10, 3])
    for larger in (model([300, 10, 3]), model([12, 10, 10, 3]), model([12, 10, 3], (64, 12))):
        assert larger.to("gradient", 0) > small.to("gradient", 0)
    assert small.to("activation", 0) == 12
    assert small.to("activation", 1) == 12 + 10
    assert small.to("loss", 0) == 12 + 10 + 16
    # There and back: forward 12 + 10, backward over 3 and 10 outputs, and the batch.
    assert small.to("gradient", 0) == 12 + 10 + 3 + 10 + 16
    assert small.to("data", 0) == small.to("weight", 0) == 0


def test_a_recurrent_kernel_counts_once_a_time():
    about = {"model": {"layers": [{"name": "d0", "class": "keras.layers.LSTM"}]}}
    assert model([5, 20], (16, 6, 5), about).to("activation", 0) == 6 * 5


def test_small_networks_have_the_level_of_the_table():
    way = model([12, 10, 3]).to("gradient", 0)
    assert tolerance("gradient", STEPS, roundings=way).tolist() == pytest.approx(
        tolerance("gradient", STEPS).tolist()
    )
    deep = model([4096] * 60, (256, 4096)).to("gradient", 0)
    assert 5e-6 < tolerance("gradient", STEPS[:1], roundings=deep)[0] < 1e-4


def test_what_is_computed_in_integers_has_no_rounding():
    assert tolerance("gradient", STEPS, eps=0.0, roundings=1e6).tolist() == [0.0] * 4


def test_a_gradient_over_more_rows_and_layers_may_follow_the_weights_further():
    assert gradient_condition(1, 1) == 5.0
    assert gradient_condition(256, 4) == 2 * gradient_condition(64, 4)


def test_the_documentation_shows_the_table():
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
    for kind, row in TOLERANCES.items():
        shown = f"{row.relative_l2:.0e}".replace("e-0", "e-")
        assert any(
            line.startswith(f"| {kind} |") and f"| {shown} |" in line for line in page.splitlines()
        ), kind
