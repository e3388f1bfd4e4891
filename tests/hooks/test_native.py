"""The compiled passes compute what numpy and xxhash do in many: hashes and sketches bit for bit."""

import importlib.util
import math

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stacks import REPOSITORY, Stack

from tracediff_hooks import native, sketch
from tracediff_hooks.digest import digest_of, row_digests
from tracediff_hooks.measuring import Measurand, measured
from tracediff_hooks.moments import statistics_of

SIZES = (0, 1, 31, 32, 33, 508, 509, 510, 16287, 16288, 16289, 521215, 521216, 521217, 700001)


def built(folder, monkeypatch=None, **environment) -> native.Passes:
    """The library, built as an installation builds it."""
    place = REPOSITORY / "hooks" / "hatch_build.py"
    spec = importlib.util.spec_from_file_location("hatch_build", place)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    target = folder / "_passes.so"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    reason = build.compiled(REPOSITORY / "hooks" / build.SOURCE, target)
    if reason is not None:
        pytest.skip(reason)
    return native.Passes(str(target))


@pytest.fixture(scope="module")
def passes(tmp_path_factory) -> native.Passes:
    return built(tmp_path_factory.mktemp("native"))


def values_of(size, seed=0, spread=20):
    stream = np.random.default_rng(seed)
    tens = stream.uniform(-spread, spread, size)
    return (stream.standard_normal(size) * 10.0**tens).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_a_sketch_has_the_same_bits(passes, monkeypatch, size):
    # Given values of many magnitudes, some too small for full precision
    values = np.concatenate([values_of(size), np.full(size % 7, 1e-41, np.float32)])
    monkeypatch.setattr(native, "PASSES", None)
    expected = sketch.sketch_of(values)
    # When the compiled pass sketches them
    monkeypatch.setattr(native, "PASSES", passes)
    found = sketch.sketch_of(values)
    # Then its bits are those of the definition in numpy
    assert found.tobytes() == expected.tobytes()


@settings(deadline=None, database=None, max_examples=60)
@given(st.integers(0, 5000), st.integers(0, 1000), st.sets(st.integers(0, 4999), max_size=40))
def test_moments_are_those_of_exact_sums(passes, size, seed, spoiled):
    # Given values, some of which are no numbers
    values = values_of(size, seed, spread=15)
    for place in spoiled:
        if place < size:
            values[place] = [np.nan, np.inf, -np.inf][place % 3]
    # When they are passed over
    low, high, total, squares, nans, infinities = passes.moments(values)
    # Then everything holds of the finite ones, against sums that are not rounded
    finite = values[np.isfinite(values)].astype(np.float64)
    assert (nans, infinities) == (np.isnan(values).sum(), np.isinf(values).sum())
    assert (low, high) == (finite.min(initial=np.inf), finite.max(initial=-np.inf))
    exact, magnitude = math.fsum(finite), math.fsum(np.abs(finite))
    assert total == pytest.approx(exact, rel=0, abs=1e-12 * magnitude)
    assert squares == pytest.approx(math.fsum(finite * finite), rel=1e-12, abs=0)


def hashes_of(passes, arrays):
    found, _ = passes.describe(arrays, [False] * len(arrays))
    return [low | high << 64 for low, high in found]


@pytest.mark.parametrize("compiler", ["cc", "cc -DBY_AVX2=0"])
def test_hashes_are_those_of_the_library(tmp_path, monkeypatch, compiler):
    # Given the passes for this processor, and those for any
    passes = built(tmp_path, monkeypatch, CC=compiler)
    # and arrays of every length about one, two and three blocks of the hash, and some long ones
    data = np.random.default_rng(3).integers(0, 256, 200_000, np.uint8)
    sizes = [*range(native.SHORT + 1, 3200), 16383, 16384, 16385, 16448, 99_999, 200_000]
    arrays = [data[start % 7 :][:size] for start, size in enumerate(sizes)]
    # When they are hashed, then as xxhash does
    assert hashes_of(passes, arrays) == [xxhash.xxh3_128_intdigest(a.tobytes()) for a in arrays]
    # and so are rows of every width
    for width in (native.SHORT + 1, 1024, 1025, 4096, 7777):
        rows = data[: 20 * width].reshape(20, width)
        expected = [xxhash.xxh3_64_intdigest(row.tobytes()) for row in rows]
        assert passes.row_digests(rows).tolist() == expected


@settings(deadline=None, database=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 9000), st.booleans(), st.booleans()), max_size=6))
def test_values_read_together_are_read_as_each_alone(passes, given):
    # Given values of many sizes, some with a NaN, some of another type, of some sums are wanted
    wanted = []
    for seed, (size, spoiled, summed) in enumerate(given):
        value = values_of(size, seed, spread=15)
        value[: int(spoiled)] = np.nan
        wanted.append(Measurand(value if seed % 3 else value.astype(np.float64), None, summed))
    with pytest.MonkeyPatch.context() as patch:
        # When they are read in one call
        patch.setattr(native, "PASSES", passes)
        found = measured(wanted)
        # Then each has its digest, and the sums of a pass of its own to the bit
        assert [own.digest for own in found] == [digest_of(value) for value, _, _ in wanted]
        for own, (value, _, summed) in zip(found, wanted, strict=True):
            long = value.dtype == np.float32 and value.nbytes > native.SHORT
            assert (own.sums is not None) == (summed and long)
            assert own.sums is None or own.sums == passes.moments(value)
        # and without the library the same digests
        patch.setattr(native, "PASSES", None)
        assert [own.digest for own in measured(wanted)] == [own.digest for own in found]


def test_rows_are_hashed_alike_both_ways(passes, monkeypatch):
    # Given rows that are wider than what the library hashes, and rows that are not, or none
    stream = np.random.default_rng(5)
    for shape in ((30, 61), (30, 60), (30, 7, 40), (0, 500), (30, 0), (1, 61)):
        rows = stream.standard_normal(shape).astype(np.float32)
        monkeypatch.setattr(native, "PASSES", None)
        expected = row_digests(rows)
        monkeypatch.setattr(native, "PASSES", passes)
        # Then both ways come to the same, also of rows that do not lie one after the other
        assert row_digests(rows).tolist() == expected.tolist()
        assert row_digests(rows[::-1]).tolist() == expected[::-1].tolist()


def test_both_ways_describe_alike(passes, monkeypatch):
    # Given an array that is passed over in blocks, and one with a NaN
    for values in (values_of(400_000, spread=4), np.array([1, np.nan, 3], np.float32)):
        monkeypatch.setattr(native, "PASSES", None)
        expected = statistics_of(values)
        monkeypatch.setattr(native, "PASSES", passes)
        # When both ways make its statistics, then these agree to the six digits of the slower
        np.testing.assert_allclose(statistics_of(values), expected, rtol=1e-5, atol=1e-2)


def test_only_what_c_may_read_is_handed_over(passes, monkeypatch):
    # Given values that do not begin where float32 does, that leave gaps, or of another order
    plain = values_of(1000, spread=4)
    shifted = np.frombuffer(b"-" + plain.tobytes(), np.uint8)[1:].view(np.float32)
    others = [shifted, np.repeat(plain, 2)[::2], plain.astype(">f4")]
    monkeypatch.setattr(native, "PASSES", passes)
    expected = statistics_of(plain), sketch.sketch_of(plain)
    # Then they are not read by the compiled passes, and come to the same
    assert native.takes(plain)
    for values in others:
        assert not native.takes(values)
        np.testing.assert_allclose(statistics_of(values), expected[0], rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(sketch.sketch_of(values), expected[1], rtol=1e-12, atol=1e-9)


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


def test_the_environment_can_do_without(keras3: Stack):
    # Given a Python that is told so, when it looks for the library, then it takes numpy
    script = "from tracediff_hooks import native; print(native.PASSES)"
    done = keras3.run("-c", script, env={"TRACEDIFF_NATIVE": "0"})
    assert done.stdout.strip() == "None"
