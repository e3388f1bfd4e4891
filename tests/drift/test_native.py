"""The compiled passes find what numpy finds: counts and largest differences bit for bit."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.stacks import REPOSITORY

from tracediff.drift import native
from tracediff.drift.cells import measured_cells, moved_cells
from tracediff.drift.long_rows import long_sums
from tracediff.drift.single_updates import BLOCK, Between
from tracediff.drift.sums import SHORT
from tracediff.drift.updates import inputs_of, update_rows

SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 1.2e-38, 3e38, -3e38, 1e19, np.nan, np.inf, -np.inf])
SUMS = ("relative_l2", "cosine", "norm_a", "norm_b", "norm_difference")
WITHIN = 1e-6
"""What is promised of the sums in single precision."""
FLOAT32 = np.dtype(np.float32)


@contextmanager
def using(passes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "PASSES", passes)
        yield


def values(seed, size, *, scale=1.0, apart=1e-3, specials=0, finite=True, dtype=np.float32):
    """Two values of A and B; some elements of either are special ones."""
    random = np.random.default_rng(seed)
    a = random.normal(size=size) * scale
    b = a * (1 + apart * random.normal(size=size))
    b[random.random(size) < 0.1] *= -1
    there = SPECIAL[: -3 if finite else None]
    for one in (a, b):
        places = random.integers(0, max(1, size), min(size, specials))
        one[places] = random.choice(there, len(places))
    with np.errstate(over="ignore"):
        return a.astype(dtype), b.astype(dtype)


def same(found, expected, *, sums=SUMS):
    """Hold cells to be the same bit for bit, but for sums."""
    for name in found.dtype.names:
        if name in sums:
            np.testing.assert_allclose(found[name], expected[name], rtol=WITHIN, err_msg=name)
        else:
            assert found[name].tobytes() == expected[name].tobytes(), name


@settings(deadline=None, database=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(SHORT + 1, 9_000) | st.integers(BLOCK - 2, 2 * BLOCK + 600),
    exponent=st.integers(-44, 37),
    apart=st.sampled_from([0.0, 1e-7, 1e-3, 1.0]),
    specials=st.sampled_from([0, 1, 50]),
    finite=st.booleans(),
)
@example(seed=0, size=SHORT + 1, exponent=0, apart=0.0, specials=0, finite=True)
@example(seed=1, size=BLOCK, exponent=0, apart=1e-3, specials=1, finite=False)
@example(seed=2, size=70_001, exponent=-22, apart=1e-3, specials=0, finite=True)
def test_values_are_measured_alike(passes, seed, size, exponent, apart, specials, finite):
    # Given values of any size that float32 has, some of which are special
    options = {"scale": 10.0**exponent, "apart": apart, "specials": specials, "finite": finite}
    a, b = values(seed, size, **options)
    found = []
    # When they are measured with the library and without
    for way in (passes, None):
        with using(way):
            found.append(measured_cells(a[None], b[None], other_bits=True))
    # Then what is not a sum has the same bits, and sums agree to what is promised of them
    same(*found)


@settings(deadline=None, database=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(SHORT + 1, 9_000) | st.integers(BLOCK - 2, 2 * BLOCK + 600),
    apart=st.sampled_from([0.0, 1e-7, 1e-3, 1.0]),
    fed=st.integers(0, 3),
    spoiled=st.sampled_from(["none", "state", "inputs"]),
    still=st.booleans(),
)
@example(seed=0, size=SHORT + 1, apart=0.0, fed=2, spoiled="inputs", still=False)
@example(seed=0, size=2 * BLOCK, apart=1e-3, fed=3, spoiled="inputs", still=False)
@example(seed=0, size=2 * BLOCK, apart=1e-3, fed=1, spoiled="inputs", still=True)
def test_updates_are_measured_alike(passes, seed, size, apart, fed, spoiled, still):
    # Given updates that any inputs went into, of which some differ at rounding level only
    state = []
    for number in range(2):
        special = 3 if spoiled == "state" else 0
        state.append(values(seed + number, size, apart=apart, specials=special, finite=False))
    if still:
        # Both do the same in the first block, whatever went in.
        for pair in state:
            pair[1][:BLOCK] = pair[0][:BLOCK]
    rows = [state[end][side][None] for side in (0, 1) for end in (0, 1)]
    special = 3 if spoiled == "inputs" else 0
    pairs = [
        tuple(one[None] for one in values(k, size, specials=special, finite=False))
        for k in range(seed + 2, seed + 2 + fed)
    ]
    if pairs:
        for one in pairs[0]:
            one[:, ::3] *= np.float32(1e-8)
    gradient, slots = (pairs[0], pairs[1:]) if pairs else (None, [])
    found = []
    # When they are measured with the library and without
    for way in (passes, None):
        with using(way):
            records, moves = update_rows(rows, gradient=gradient, slots=slots, unit=FLOAT32)
            found.append((records, moves, moved_cells(rows, moves, size=size)))
    # Then what is not a sum has the same bits, and sums agree to what is promised of them
    (records, moves, cells), (expected, moves_expected, cells_expected) = found
    same(cells, cells_expected)
    names = ("square_a", "square_b", "square_difference", "dot")
    dots = WITHIN * math.sqrt(float(moves["square_a"][0]) * float(moves["square_b"][0]))
    assert moves["dot"] == pytest.approx(moves_expected["dot"], rel=2 * WITHIN, abs=4 * dots)
    for name in moves.dtype.names:
        if name in names:
            continue
        assert moves[name] == moves_expected[name], name
    scale = 2e-7 * float(expected["norm"][0])
    for name in records.dtype.names:
        np.testing.assert_allclose(
            records[name], expected[name], rtol=WITHIN, atol=scale, err_msg=name
        )


@settings(deadline=None, database=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000), size=st.integers(0, 3_000), exponent=st.sampled_from([-8, 0, 8])
)
@example(seed=0, size=0, exponent=0)
@example(seed=0, size=1, exponent=0)
@example(seed=0, size=512, exponent=0)
@example(seed=0, size=100_003, exponent=0)
def test_sums_are_those_of_exact_ones(passes, seed, size, exponent):
    # Given values, and an update from one to the other
    a, b = values(seed, size, scale=10.0**exponent)
    c, d = values(seed + 1, size, scale=10.0**exponent)
    # When they are passed over
    found, moved = passes.drift(
        [(a, b), (c, d)], [True, False], [Between(0, 1, inputs_of([], None))]
    )
    # Then sums are those that are not rounded, to the last digits of float64
    updates = c - a, d - b
    for record, narrow in ((found[0], (a, b)), (moved[0], updates)):
        apart = (narrow[0] - narrow[1]).astype(np.float64)
        one, other = (x.astype(np.float64) for x in narrow)
        for name, x in (("a", one), ("b", other), ("difference", apart)):
            assert record[f"square_{name}"] == pytest.approx(math.fsum(x * x), rel=4e-15, abs=0)
        terms = one * other
        off = 4e-15 * math.fsum(np.abs(terms))
        assert record["dot"] == pytest.approx(math.fsum(terms), rel=0, abs=off)
    rest = np.abs(updates[0] - updates[1]) - np.abs(a - b) * np.float32(1e-2)
    rest = np.maximum(rest, np.float32(0.0)).astype(np.float64)
    assert moved[0]["unexplained"] == pytest.approx(math.fsum(rest * rest), rel=4e-15, abs=0)
    after = c.astype(np.float64)
    assert moved[0]["after_a"] == pytest.approx(math.fsum(after * after), rel=4e-15, abs=0)


def test_many_small_squares_beside_a_large_one_are_not_lost(passes):
    # Given squares that added up one by one to the first would be lost by half
    a = np.full(200 * 512, 4.2e5, np.float32)
    a[0] = 1e15
    # When they are added up
    found, _ = passes.drift([(a, np.zeros_like(a))], [True], [])
    # Then the sum is that of all of them
    exact = math.fsum(a.astype(np.float64) ** 2)
    assert found[0]["square_a"] == pytest.approx(exact, rel=4e-15, abs=0)


def test_any_number_of_threads_finds_the_same(passes):
    # Given a weight over some steps
    moments = [values(seed, 50_001) for seed in range(5)]
    updates = [Between(k, k + 1, inputs_of([moments[0]], 1e-3)) for k in range(4)]

    def once(_):
        return [one.tobytes() for one in long_sums(moments, [True] * 5, updates)]

    # When several threads pass over it at once
    with using(passes), ThreadPoolExecutor(4) as threads:
        found = list(threads.map(once, range(12)))
        expected = once(0)
    # Then all find the same bits
    assert all(one == expected for one in found)


def test_updates_may_come_in_any_order_and_lead_back(passes):
    # Given updates of which one leads back to an earlier value, in no order
    moments = [values(seed, 3_000) for seed in range(4)]
    ends = [(2, 3), (3, 0), (0, 1), (1, 1)]
    updates = [Between(*some, inputs_of([moments[2]], 1e-3)) for some in ends]
    wanted = [True, False, True, False]
    # When they are summed up together, and each alone
    with using(passes):
        sums, moved, squares = long_sums(moments, wanted, updates)
        alone = [long_sums(moments, wanted, [one]) for one in updates]
    # Then they are the same
    for number, (sums_alone, one, square) in enumerate(alone):
        assert sums.tobytes() == sums_alone.tobytes()
        assert moved[number].tobytes() == one[0].tobytes()
        assert squares[number].tobytes() == square[0].tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_are_measured_without_it(passes, dtype):
    # Given values that are no float32, when they are measured with the library and without
    a, b = values(0, 5_000, dtype=dtype)
    found = []
    for way in (passes, None):
        with using(way):
            found.append(measured_cells(a[None], b[None], other_bits=False).tobytes())
    # Then nothing differs
    assert found[0] == found[1]


def test_what_is_not_contiguous_is_measured_as_it_is(passes):
    # Given values of which only every other element counts
    a, b = values(0, 6_000)
    # When both these and copies of them are passed over
    found = [
        passes.drift([pair], [True], [])[0].tobytes()
        for pair in ((a[::2], b[::2]), (a[::2].copy(), b[::2].copy()))
    ]
    # Then nothing differs
    assert found[0] == found[1] != passes.drift([(a, b)], [True], [])[0].tobytes()


def test_a_library_of_another_version_is_left_alone(passes, monkeypatch, tmp_path):
    # Given a file that is no library, and a library whose version is not the expected one
    nothing = tmp_path / "_passes.so"
    nothing.write_bytes(b"not a library")
    with pytest.raises(OSError, match="_passes"):
        native.Passes(str(nothing))
    monkeypatch.setattr(native, "VERSION", native.VERSION + 1)
    # When it is loaded, then it is refused, and numpy does the work
    with pytest.raises(ValueError, match="expected"):
        native.Passes(passes.path)


def test_the_environment_can_do_without():
    # Given a Python that is told so, when it looks for the library, then it takes numpy
    script = "from tracediff.drift import native; print(native.PASSES)"
    env = {**os.environ, "TRACEDIFF_NATIVE": "0", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
