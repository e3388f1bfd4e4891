"""Layout adapters: what they do, that they lead back, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from tracediff.align import LayoutError
from tracediff.align.candidates import carried, layouts_between, layouts_within
from tracediff.align.layouts import (
    Add,
    Each,
    Insert,
    Reorder,
    Reshape,
    Sum,
    Take,
    Transpose,
    adapt,
    adapted_shape,
    back,
    inverse,
)
from tracediff.align.notation import describe, parse


def numbered(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@st.composite
def adapters(draw, shape):
    """An adapter that fits a shape, and has an inverse."""
    axis = draw(st.integers(0, len(shape) - 1))
    kind = draw(st.sampled_from(["transpose", "reorder", "reshape", "insert", "add", "each"]))
    if kind == "transpose":
        return Transpose(tuple(draw(st.permutations(range(len(shape))))))
    if kind == "reorder":
        count = draw(st.sampled_from([n for n in range(1, shape[axis] + 1) if not shape[axis] % n]))
        return Reorder(axis, tuple(draw(st.permutations(range(count)))))
    if kind == "reshape":
        return Reshape(tuple(draw(st.permutations(shape))))
    if kind == "insert":
        return Insert(axis, 3, draw(st.integers(0, 2)))
    if kind == "add":
        return Add(draw(st.integers(-9, 9)))
    count = draw(st.sampled_from([n for n in range(1, shape[axis] + 1) if not shape[axis] % n]))
    block = tuple(
        extent // count if place == axis else extent for place, extent in enumerate(shape)
    )
    turned = tuple(reversed(range(len(shape))))
    return Each(axis, count, (Transpose(turned), Reshape(block)))


@st.composite
def layouts(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6))
    first, found = shape, []
    for _ in range(draw(st.integers(1, 3))):
        found.append(draw(adapters(shape)))
        shape = found[-1].shape(shape)
    return first, tuple(found)


@given(layouts())
def test_what_an_adapter_did_its_inverse_undoes(drawn):
    shape, layout = drawn
    values = numbered(shape)
    undone = inverse(layout, shape)
    assert undone is not None
    np.testing.assert_array_equal(adapt(undone, adapt(layout, values)), values)


@given(layouts())
def test_the_shape_is_known_beforehand(drawn):
    shape, layout = drawn
    assert adapt(layout, numbered(shape)).shape == adapted_shape(layout, shape)


@given(layouts())
def test_json_holds_all_of_an_adapter(drawn):
    _, layout = drawn
    assert parse(list(describe(layout))) == layout


def test_the_two_biases_of_a_gru_are_added():
    both = np.array([[1, 2, 3], [10, 20, 30]], np.float32)
    assert adapt((Sum(0),), both).tolist() == [11, 22, 33]
    assert inverse((Sum(0),), both.shape) is None


def test_a_sum_is_undone_by_giving_all_to_the_first_summand():
    alone = np.array([1, 2, 3], np.float32)
    made = adapt(back((Sum(0),), (2, 3)), alone)
    assert made.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert adapt((Sum(0),), made).tolist() == alone.tolist()


def test_a_part_has_no_way_back_to_the_whole():
    assert adapt((Take(1, 2, 4),), numbered((2, 6))).tolist() == [[2, 3], [8, 9]]
    assert inverse((Take(1, 2, 4),), (2, 6)) is None
    assert back((Take(1, 2, 4),), (2, 6)) is None


def test_gates_in_another_order():
    gates = np.repeat(np.arange(4), 2)[None, :]  # i i f f c c o o
    assert adapt((Reorder(1, (0, 1, 3, 2)),), gates).tolist() == [[0, 0, 1, 1, 3, 3, 2, 2]]


def test_what_is_kept_for_a_sum_is_kept_for_its_first_summand():
    assert adapt(carried((Sum(0),), (2, 3)), numbered((2, 3))).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("there", "here", "kind", "expected"),
    [
        ((2, 9), (9,), "GRU", [(Sum(0),)]),
        ((18,), (9,), "CuDNNGRU", [(Reshape((2, 9)), Sum(0))]),
        ((2, 9), (9,), "Dense", []),
        ((18,), (2, 9), "GRU", [(Reshape((2, 9)),)]),
        ((4, 3), (3, 4), "Dense", [(Transpose((1, 0)),)]),
        ((3, 4), (3, 4), "Dense", []),
        ((3, 5), (3, 4), "Dense", []),
    ],
)
def test_candidates_between_two_shapes(there, here, kind, expected):
    assert layouts_between(there, here, kind) == expected


def test_candidates_within_a_shape_keep_it():
    for layout in layouts_within((4, 16), "LSTM"):
        assert adapted_shape(layout, (4, 16)) == (4, 16)
    assert not list(layouts_within((4, 16), "Dense"))


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ([{"op": "transpose", "axes": [0, 1]}], (3,)),
        ([{"op": "reorder", "axis": 0, "blocks": [1, 0]}], (3,)),
        ([{"op": "reorder", "axis": 0, "blocks": [1, 1]}], (4,)),
        ([{"op": "reorder", "axis": 0, "blocks": []}], (4,)),
        ([{"op": "reshape", "shape": [2, 2]}], (3,)),
        ([{"op": "reshape", "shape": [-2, -3]}], (6,)),
        ([{"op": "take", "axis": 0, "start": 0, "stop": 4}], (3,)),
        ([{"op": "sum", "axis": 2}], (3, 3)),
        ([{"op": "each", "axis": 0, "count": 2, "do": []}], (3,)),
        ([{"op": "insert", "axis": 0, "count": 2, "at": 2}], (3,)),
    ],
)
def test_an_adapter_that_does_not_fit_says_so(layout, shape):
    with pytest.raises(LayoutError, match="fit"):
        adapted_shape(parse(layout), shape)


@pytest.mark.parametrize(
    "described",
    [
        "sum",
        [{"op": "turn"}],
        [{"op": "sum"}],
        [3],
        {"op": "sum"},
        [{"op": ["sum"]}],
        [{"op": "sum", "axis": float("inf")}],
    ],
)
def test_what_is_no_layout_is_refused(described):
    with pytest.raises(LayoutError):
        parse(described)


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "int64", "float32"])
def test_a_counter_of_any_dtype_is_brought_back(dtype):
    # Given a counter that began 3 behind, when it is brought to the other's and back
    values = np.array([5, 9], dtype)
    found = adapt((Add(-3),), values)
    # Then it is 3 less, in its own dtype, and then what it was
    assert (found.tolist(), found.dtype) == ([2, 6], values.dtype)
    assert adapt(inverse((Add(-3),), values.shape), found).tolist() == [5, 9]
