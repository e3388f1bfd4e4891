"""Sums of long rows of float32, beside the same formulas in float64."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tracediff.drift import single, updates
from tracediff.drift.cells import QUANTILES, measured_cells, moved_cells
from tracediff.drift.sums import SHORT, row_sums
from tracediff.drift.updates import update_rows

FLOAT32 = np.dtype(np.float32)
SIZES = st.integers(SHORT + 1, single.BLOCK + 7)
"""What the docstring of the module promises of norms."""
WITHIN = 1e-6

pytestmark = pytest.mark.usefixtures("either_way")


def values(seed, size, *, scale, apart):
    """Two long values; ``apart`` is how far, relatively."""
    random = np.random.default_rng(seed)
    a = (random.normal(size=size) * scale).astype(np.float32)
    with np.errstate(over="ignore"):  # Whoever wants finite ones asks for that.
        b = (a * (1 + apart * random.normal(size=size))).astype(np.float32)
    b[random.random(size) < 0.2] = 0.0
    a[random.random(size) < 0.1] *= -1
    same = random.random(size) < 0.3
    b[same] = a[same]
    return a, b


def ulps(a, b):
    """The distance of each element, by counting representable numbers from zero."""
    keys = []
    for one in (a, b):
        bits = one.view(np.uint32).astype(np.int64)
        magnitude = bits & 0x7FFFFFFF
        keys.append(np.where(bits >> 31, -magnitude, magnitude))
    return np.abs(keys[0] - keys[1])


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    size=SIZES,
    exponent=st.integers(-44, 37),
    apart=st.sampled_from([1e-7, 1e-4, 1.0, 1e6]),
)
@example(seed=0, size=SHORT + 1, exponent=-44, apart=1.0)
@example(seed=0, size=SHORT + 1, exponent=37, apart=1.0)
@example(seed=0, size=SHORT + 1, exponent=-22, apart=1.0)
@example(seed=0, size=SHORT + 1, exponent=-22, apart=1e-4)
def test_sums_are_those_of_float64(seed, size, exponent, apart):
    # GIVEN values of any size that float32 has, denormal and overflowing when squared included
    a, b = values(seed, size, scale=10.0**exponent, apart=apart)
    assume(np.isfinite(a).all() and np.isfinite(b).all())
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    # WHEN
    found = row_sums(a[None], b[None], unit=FLOAT32, quick=True)[0]
    # THEN norms are good to what is promised, and what is counted is exact
    for name, one in (("a", wide_a), ("b", wide_b), ("difference", wide_a - wide_b)):
        expected = np.sqrt(np.sum(one**2))
        assert np.sqrt(found[f"square_{name}"]) == pytest.approx(expected, rel=WITHIN)
    assert found["dot"] == pytest.approx(
        wide_a @ wide_b, abs=4 * WITHIN * np.linalg.norm(wide_a) * np.linalg.norm(wide_b)
    )
    assert found["max_abs"] == pytest.approx(np.abs(wide_a - wide_b).max(), rel=1e-7)
    assert found["peak"] == max(np.abs(wide_a).max(), np.abs(wide_b).max())
    assert found["different"] == np.count_nonzero(a != b)
    assert found["max_ulp"] == ulps(a, b).max()
    assert found["mismatched"] == found["non_finite_a"] == found["non_finite_b"] == 0


def test_what_is_not_finite_is_counted_apart():
    a, b = values(0, 3 * single.BLOCK, scale=1.0, apart=1e-3)
    a[5] = b[5] = np.nan
    a[7] = np.inf
    b[-1] = -np.inf
    found = row_sums(a[None], b[None], unit=FLOAT32, quick=True)[0]
    finite = np.isfinite(a) & np.isfinite(b)
    wide = a[finite].astype(np.float64) - b[finite]
    assert (found["non_finite_a"], found["non_finite_b"], found["mismatched"]) == (2, 2, 2)
    assert found["square_difference"] == pytest.approx(np.sum(wide**2), rel=2 * WITHIN)
    assert found["different"] == 2 + np.count_nonzero(wide)


def test_the_zeros_of_two_signs_are_one_point():
    zeros = np.zeros((1, SHORT + 1), np.float32)
    found = row_sums(zeros, -zeros, unit=FLOAT32, quick=True)[0]
    assert (found["different"], found["max_ulp"], found["square_difference"]) == (0, 0, 0.0)


def test_one_element_of_many_is_seen():
    a, _ = values(0, 100_000, scale=1.0, apart=0.0)
    b = a.copy()
    b[77_777] = np.nextafter(b[77_777], np.float32(9.0))
    cell = measured_cells(a[None], b[None], other_bits=False)[0]
    assert cell["differs"]
    assert (cell["different"], cell["max_ulp"]) == (1, 1)
    assert cell["max_abs"] == abs(float(b[77_777]) - float(a[77_777]))


def test_signs_and_quantiles_are_near_those_of_all_elements():
    a, b = values(3, 200_000, scale=1.0, apart=0.5)
    cell = measured_cells(a[None], b[None], other_bits=False)[0]
    # Shares of 4096 drawn elements: a standard error of 0.8 % at most, and four of them.
    assert cell["sign_agreement"] == pytest.approx(np.mean(np.sign(a) == np.sign(b)), abs=0.032)
    apart = np.abs(a.astype(np.float64) - b)
    for share, found in zip(QUANTILES, cell["abs_quantiles"], strict=True):
        assert np.mean(apart <= found) == pytest.approx(share, abs=0.032)
    cosine = a.astype(np.float64) @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cell["cosine"] == pytest.approx(cosine, abs=1e-5)


def a_training(seed, size, *, apart, noisy=False):
    """A weight before and after in both runs, gradients and a slot."""
    random = np.random.default_rng(seed)
    before = random.normal(size=size)
    gradient = random.normal(size=size) * 10.0 ** random.uniform(-9, 0, size=size)
    if noisy:
        gradient[random.random(size) < 0.2] = 1e-12
    other = gradient * (1 + apart * random.normal(size=size)) + 1e-12 * random.normal(size=size)
    slot, slot_b = np.abs(gradient), np.abs(other)
    arrays = []
    for moved, kept, rate in ((gradient, slot, 1e-2), (other, slot_b, 1.0001e-2)):
        arrays += [before, before - rate * moved / (np.sqrt(kept) + 1e-7)]
    state = [one.astype(np.float32)[None] for one in arrays]
    fed = tuple(one.astype(np.float32)[None] for one in (gradient, other))
    slots = [tuple(one.astype(np.float32)[None] for one in (slot, slot_b))]
    return state, fed, slots


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-2])
@pytest.mark.parametrize("fed", [True, False])
def test_updates_are_judged_by_the_same_sums(seed, apart, fed, monkeypatch):
    # GIVEN an update whose inputs differ, some of them by noise
    state, gradient, slots = a_training(seed, 40_001, apart=apart, noisy=seed % 2 == 0)
    options = {"gradient": gradient, "slots": slots} if fed else {}
    # WHEN it is summed up in both ways
    quick, moves = update_rows(state, unit=FLOAT32, **options)
    monkeypatch.setattr(updates, "suits", lambda *_: False)
    slow, moves_slow = update_rows(state, unit=FLOAT32, **options)
    # THEN what judges it is the same, far below the shares of the update that judge (2e-5)
    size = float(slow["norm"][0])
    for name in ("norm", "norm_difference", "unexplained", "noise", "weight_norm"):
        assert quick[name][0] == pytest.approx(slow[name][0], rel=WITHIN, abs=2e-7 * size)
    for name in ("square_a", "square_b"):
        assert moves[name][0] == pytest.approx(moves_slow[name][0], rel=2 * WITHIN)
    assert moves["max_abs"][0] == pytest.approx(moves_slow["max_abs"][0], rel=1e-5, abs=1e-7)


def test_an_update_that_is_not_finite_is_left_to_float64(monkeypatch):
    state, gradient, slots = a_training(0, 5_000, apart=1e-3)
    state[1][0, 17] = np.nan
    quick, _ = update_rows(state, gradient=gradient, slots=slots, unit=FLOAT32)
    monkeypatch.setattr(updates, "suits", lambda *_: False)
    slow, _ = update_rows(state, gradient=gradient, slots=slots, unit=FLOAT32)
    np.testing.assert_array_equal(quick["unexplained"], slow["unexplained"])
    np.testing.assert_allclose(quick["norm"], slow["norm"], rtol=WITHIN)


def test_the_cells_of_an_update_tell_signs_and_distances():
    state, gradient, slots = a_training(1, 3_000, apart=1e-2)
    _, moves = update_rows(state, gradient=gradient, slots=slots, unit=FLOAT32)
    cell = moved_cells(state, moves, size=3_000)[0]
    one, other = state[1][0] - state[0][0], state[3][0] - state[2][0]
    assert cell["max_ulp"] == ulps(one, other).max()
    assert cell["sign_agreement"] == np.mean(np.sign(one) == np.sign(other))


def two_sided(seed, size, *, crossing):
    """Two values that are apart by little, but for a share of elements of the other sign."""
    random = np.random.default_rng(seed)
    a = random.normal(size=size).astype(np.float32)
    b = (a * (1 + 1e-3 * random.normal(size=size))).astype(np.float32)
    b[random.random(size) < crossing] *= -1
    return a, b


@pytest.mark.parametrize("crossing", [0.0, 1e-4, 0.5, 1.0])
@pytest.mark.parametrize("small", [False, True])
def test_distances_across_zero_are_those_of_counting(crossing, small):
    # GIVEN elements that cross zero: none, some, half, all; and so near to it that those that do
    # not cross are further apart
    a, b = two_sided(4, 70_000, crossing=crossing)
    if small:
        across = np.sign(a) != np.sign(b)
        a[across], b[across] = 1e-45, -1e-45
    # WHEN, THEN
    found = row_sums(a[None], b[None], unit=FLOAT32, quick=True)[0]
    assert found["max_ulp"] == ulps(a, b).max()


@pytest.mark.parametrize("scale", [1e5, 1.0, 1.9, -1.0])
def test_inner_products_are_good_however_far_two_values_are_apart(scale):
    # GIVEN values of which one is many times the other, or they are alike in the first block only
    a, b = two_sided(5, 3 * single.BLOCK + 5, crossing=0.0)
    for begin in (0, single.BLOCK):
        other = b.copy()
        other[begin:] *= np.float32(scale)
        found = row_sums(a[None], other[None], unit=FLOAT32, quick=True)[0]
        # THEN
        wide_a, wide_b = a.astype(np.float64), other.astype(np.float64)
        size = np.linalg.norm(wide_a) * np.linalg.norm(wide_b)
        assert found["dot"] == pytest.approx(wide_a @ wide_b, abs=4 * WITHIN * size)


@pytest.mark.parametrize("scale", [1.0, 1e5, -1.0])
def test_inner_products_of_updates_are_those_of_float64(scale):
    state, _, _ = a_training(2, 70_001, apart=1e-3)
    half = slice(40_000, None)
    state[3][0, half] = state[2][0, half] + np.float32(scale) * (
        state[1][0, half] - state[0][0, half]
    )
    _, moves = update_rows(state, unit=FLOAT32)
    one, other = ((state[k + 1] - state[k])[0].astype(np.float64) for k in (0, 2))
    size = np.linalg.norm(one) * np.linalg.norm(other)
    assert moves["dot"][0] == pytest.approx(one @ other, abs=4 * WITHIN * size)
