"""Every value comes back as it was: of each layout and dtype, with the digest of its bytes.

Everything is read back with plain zarr, by the rules of docs/trace-format.md and with none of the
recorder's code.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.plain_traces import ABSENT, STORY, Plain, f4, hash_of, observed, record, weight

from tracediff_hooks.digest import digest_of
from tracediff_hooks.recorder import Recorder, SparseRows

# --- layouts


def test_batches_of_any_shape_are_stored_one_after_the_other(tmp_path):
    # Given batches of 3, 2, 0 and again 3 rows
    key = ("input", "input/0")
    batches = [np.arange(n * 2, dtype=np.float32).reshape(n, 2) for n in (3, 2, 0, 3)]
    run = record(
        tmp_path / "a.zarr",
        [observed("input/0", "input", shape=None, ragged=True)],
        [({}, {key: batch}, {}) for batch in batches],
    )
    # Then each comes back in its shape, the fourth as the first
    assert run.lines[key]["layout"] == "ragged"
    assert run.lines[key]["shape"] is None
    for found, batch in zip(run.rows(*key), batches):
        assert np.array_equal(found, batch)
        assert found.shape == batch.shape
    assert run.versions(*key) == [0, 1, 2, 0]


@pytest.mark.parametrize("sparse", [False, True])
def test_a_first_value_without_elements_makes_no_file_of_each_later_element(tmp_path, sparse):
    # Given an empty batch, or a gradient of no rows, and then one of 1000 rows
    key = ("gradient", "w") if sparse else ("input", "input/0")
    values = [np.ones((count, 3), np.float32) for count in (0, 1000)]
    spec = observed(key[1], key[0], shape=(5, 3) if sparse else None, ragged=True, sparse=sparse)
    given = [SparseRows(v, np.zeros(len(v), np.int64)) if sparse else v for v in values]
    run = record(tmp_path / "a.zarr", [spec], [({}, {key: value}, {}) for value in given])
    # Then both come back, out of a handful of files
    for found, value in zip(run.rows(*key), values, strict=True):
        assert np.array_equal(found[0] if sparse else found, value)
    folder = tmp_path / "a.zarr" / "run-0" / "values"
    assert sum(path.is_file() for path in folder.rglob("*")) < 12


def test_sparse_gradients_keep_their_rows(tmp_path):
    # Given indexed slices: of as many rows, of fewer, of the same values in another order
    key = ("gradient", "w")
    slices = [
        (np.ones((2, 3), np.float32), np.array([4, 1])),
        (np.ones((2, 3), np.float32), np.array([1, 4])),
        (np.full((1, 3), 5, np.float32), np.array([0])),
        (np.ones((2, 3), np.float32), np.array([4, 1])),
    ]
    run = record(
        tmp_path / "a.zarr",
        [observed("w", "gradient", shape=(5, 3), sparse=True)],
        [({}, {key: SparseRows(*pair)}, {}) for pair in slices],
    )
    # Then values and rows come back, equal pairs stored once
    assert run.lines[key]["layout"] == "sparse"
    assert run.lines[key]["shape"] == [5, 3]
    assert run.versions(*key) == [0, 1, 2, 0]
    for (values, rows), (expected, numbers) in zip(run.rows(*key), slices):
        assert np.array_equal(values, expected)
        assert rows.tolist() == numbers.tolist()
    # and the digest is that of the values' bytes and then the rows' as int64
    assert run.digests(*key) == [hash_of(v, r.astype(np.int64)) for v, r in slices]


def test_a_tensor_that_appears_later_is_not_observed_before(tmp_path):
    # Given a metric that is first reported by the third of four steps, and not by the fourth
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.begin_run({}, [observed("loss", "loss")])
    loss, metric = ("loss", "loss"), ("metric", "metric/late")
    for step in range(4):
        seen = {loss: np.float32(step)}
        if step == 2:
            recorder.declare(observed("metric/late", "metric"))
            seen[metric] = np.float32(7)
        recorder.record_step(before={}, observed=seen, after={})
        recorder.flush()
    recorder.close()
    # Then its column has one value; elsewhere version -1 and a digest of zeros
    run = Plain(tmp_path / "a.zarr")
    assert run.rows(*metric) == [None, None, 7, None]
    assert run.digests(*metric) == [ABSENT, ABSENT, hash_of(f4(7)), ABSENT]
    assert run.rows(*loss) == [0, 1, 2, 3]


def test_a_gradient_that_is_both_raw_and_applied_is_recorded_once(tmp_path):
    # Given an applied gradient declared to be the raw one
    key = ("gradient", "w")
    run = record(
        tmp_path / "a.zarr",
        [
            observed("w", "gradient", shape=(2,)),
            observed("w", "applied_gradient", shape=(2,), same_as="gradient"),
        ],
        [({}, {key: f4(1, 2)}, {})],
    )
    # Then its line points to the other, and it has no column of its own
    line = run.lines["applied_gradient", "w"]
    assert (line["same_as"], line["column"]) == ("gradient", None)
    assert line["path"] == run.lines[key]["path"]
    assert run.group["observed/version"].shape == (1, 1)


@pytest.mark.parametrize("dtype", STORY.DTYPES)
def test_every_dtype_comes_back_as_it_was(tmp_path, dtype):
    # Given values of a dtype, its extremes among them
    kind = np.dtype(dtype).kind
    extremes = [0, 1]
    if kind in "iu":
        extremes = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    if kind in "fc":
        extremes = [np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal]
    value = np.array([0, 1, *extremes], dtype)
    key = ("weight", "w")
    run = record(tmp_path / "a.zarr", [weight(dtype=dtype, shape=(4,))], [({key: value},) * 2])
    # Then the stored value has the dtype and the bytes
    found = run.stored(*key)[0]
    assert (found.dtype, found.tobytes()) == (np.dtype(dtype), value.tobytes())
    assert run.lines[key]["dtype"] == dtype


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">f2", ">u2"])
def test_an_array_in_the_other_order_of_bytes_is_stored_as_its_numbers(tmp_path, dtype):
    # Given a batch as some file formats hold it, the most significant byte first
    key, batch = ("input", "input/0"), np.arange(6, dtype=dtype).reshape(2, 3)
    name = np.dtype(dtype).name
    run = record(
        tmp_path / "a.zarr",
        [observed("input/0", "input", dtype=name, shape=None, ragged=True)],
        [({}, {key: batch}, {})],
    )
    # Then its numbers come back, under the digest that the same numbers have on every stack
    (found,) = run.rows(*key)
    assert np.array_equal(found, batch)
    assert run.digests(*key) == [hash_of(batch.astype(np.dtype(dtype).newbyteorder("<")))]
    assert run.about["events"] == []


def test_bfloat16_is_stored_as_integers_of_its_width(tmp_path):
    # Given 1.0 and -2.0 as bfloat16, whose bits are the upper half of float32's
    bits = (f4(1, -2).view(np.uint32) >> 16).astype(np.uint16)
    value = bits.view("V2")  # what numpy makes of a type it does not know
    key = ("weight", "w")
    run = record(tmp_path / "a.zarr", [weight(dtype="bfloat16")], [({key: value},) * 2])
    # Then the bits are there as uint16, the digest is that of the bytes, the table knows the type
    found = run.stored(*key)[0]
    assert (found.dtype, found.tolist()) == (np.uint16, bits.tolist())
    assert run.digests(*key)[0] == hash_of(bits)
    assert run.lines[key]["dtype"] == "bfloat16"


# --- digests


def test_the_digest_is_xxh3_of_128_bits():
    # Given the hash of nothing, as the specification of XXH3 has it
    high, low = 0x99AA06D3014798D8, 0x6001C324468D497F
    # Then the digest is its low and its high word
    assert digest_of(np.zeros((0, 3), np.float32)) == (low, high)


@settings(deadline=None, database=None, max_examples=60)
@given(st.data())
def test_the_digest_is_that_of_the_bytes_whatever_the_layout_in_memory(data):
    # Given any array, in any order in memory, strided or not
    array = data.draw(
        hnp.arrays(hnp.scalar_dtypes().filter(little_endian), hnp.array_shapes(min_side=0))
    )
    for view in (array, array.T, np.asfortranarray(array), array[::2]):
        # Then its digest is the hash of its bytes in C order
        assert digest_of(view) == hash_of(view)
    # and several arrays are hashed as their bytes one after the other
    assert digest_of(array, array) == hash_of(array, array)


def little_endian(dtype):
    return dtype.kind in "biufc" and dtype.byteorder != ">" and dtype.itemsize <= 16


DTYPES = st.sampled_from([np.dtype(name) for name in STORY.DTYPES])


@settings(deadline=None, database=None, max_examples=25)
@given(st.data())
def test_any_array_makes_the_round_trip(data):
    # Given a few values of any dtype: of one shape, 0-d and empty ones too, and batches of any
    dtype = data.draw(DTYPES)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    values = data.draw(st.lists(hnp.arrays(dtype, shape), min_size=2, max_size=5))
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    batches = [data.draw(hnp.arrays(dtype, shapes)) for _ in values[1:]]
    state, batch = ("weight", "w"), ("input", "input/0")
    # When they are recorded
    with tempfile.TemporaryDirectory() as folder:
        run = record(
            Path(folder) / "a.zarr",
            [
                weight(dtype=dtype.name, shape=shape),
                observed("input/0", "input", dtype.name, None, ragged=True),
            ],
            [
                ({state: before}, {batch: fed}, {state: after})
                for before, fed, after in zip(values, batches, values[1:])
            ],
        )
        # Then every one comes back with its dtype, shape and bytes, and its digest is its hash
        for key, given_values in ((state, values), (batch, batches)):
            found = run.rows(*key)
            assert len(found) == len(given_values)
            for value, expected in zip(map(np.asarray, found), given_values):
                assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
                assert value.tobytes() == expected.tobytes()
            assert run.digests(*key) == [hash_of(value) for value in given_values]
            # and values of equal bytes and shape are stored once
            distinct = {(v.tobytes(), v.shape) for v in given_values}
            assert len(run.stored(*key)) == len(distinct)
