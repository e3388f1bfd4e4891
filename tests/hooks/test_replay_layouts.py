"""The recorder's layouts are those of the core, and a mapping file of the core serves a replay."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.align.layouts import adapt
from tracediff.align.notation import parse as parse_in_core
from tracediff.compare import mapping_of, open_run
from tracediff_hooks.replay import ReplayRefused
from tracediff_hooks.replay.layouts import layout_between, parse
from tracediff_hooks.replay.mapping import read_mapping
from tracediff_hooks.replay.pairing import pair_state
from tracediff_hooks.replay.reader import RecordedTrace
from tracediff_hooks.state import StateTensor
from tracediff_hooks.tensors import TensorSpec

OPERATIONS = [
    {"op": "transpose", "axes": [1, 0]},
    {"op": "reorder", "axis": 1, "blocks": [2, 0, 1]},
    {"op": "reshape", "shape": [3, 8]},
    {"op": "take", "axis": 1, "start": 1, "stop": 4},
    {"op": "sum", "axis": 0},
    {"op": "insert", "axis": 0, "count": 2, "at": 1},
    {"op": "each", "axis": 1, "count": 3, "do": [{"op": "reorder", "axis": 1, "blocks": [1, 0]}]},
]


def values(*shape):
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one["op"])
def test_every_operation_of_a_mapping_file_does_what_it_does_in_the_core(operation):
    given = values(4, 6)
    expected = adapt(parse_in_core([operation]), given)
    np.testing.assert_array_equal(parse([operation]).apply(given).value, expected)


@pytest.mark.parametrize("operation", [{"op": "rotate"}, {"op": "take", "axis": 0}])
def test_what_is_no_operation_is_refused(operation):
    with pytest.raises(ValueError, match=r"layout operation|lacks"):
        parse([operation])


def test_two_rows_of_a_gru_bias_lose_nothing_where_the_gated_part_is_zero():
    layout = layout_between((2, 6), (6,))
    bias = values(2, 6)
    assert "reset gate" in layout.apply(bias).lost
    bias[1, 4:] = 0
    carried = layout.apply(bias)
    assert carried.lost is None
    np.testing.assert_array_equal(carried.value, bias[0] + bias[1])


@pytest.mark.parametrize("shapes", [((3, 4), (4, 3)), ((6,), (3, 6)), ((6,), (5,))])
def test_shapes_that_say_nothing_have_no_layout(shapes):
    assert layout_between(*shapes) is None


KERNEL, SLOT = ("weight", "hidden/kernel"), ("slot", "hidden/kernel/m")


def recorded(path, name, kernel, slot):
    weight, moment = ("weight", f"{name}/kernel"), ("slot", f"{name}/kernel/m")
    state = {weight: kernel, moment: slot}
    step = Step({("loss", "loss"): np.float32(1)}, after=state)
    layer = {"name": name, "class": "Dense", "weights": [f"{name}/kernel"], "inputs": []}
    about = {"model": {"name": "m", "class": "Sequential", "layers": [layer]}}
    return make_trace(path, RunPlan([step], initial=state, about=about))


def test_what_the_core_writes_is_what_a_replay_carries_over(tmp_path):
    # Given a model whose layer got another name, and the mapping of the core
    kernel, slot = values(4, 3), values(4, 3) ** 2
    a = recorded(tmp_path / "a.zarr", "hidden", kernel, slot)
    b = recorded(tmp_path / "b.zarr", "fc1", kernel, slot)
    mapping, _ = mapping_of(open_run(a), open_run(b))
    path = tmp_path / "map.json"
    path.write_text(json.dumps(mapping))
    run = RecordedTrace(str(a)).run(0)
    state = [
        StateTensor(TensorSpec("fc1/kernel", "weight", "float32", (4, 3)), None),
        StateTensor(TensorSpec("fc1/kernel/m", "slot", "float32", (4, 3)), None),
        StateTensor(TensorSpec("fc2/kernel", "weight", "float32", (3, 2)), None),
    ]
    # then A's weight and its slot go into B's
    found = pair_state(run, state, read_mapping(str(path)))
    carried = {carry.target.spec.name: carry.value(run, 0)[0] for carry in found.carried}
    np.testing.assert_array_equal(carried["fc1/kernel"], kernel)
    np.testing.assert_array_equal(carried["fc1/kernel/m"], slot)
    assert list(found.left_in_b) == ["fc2/kernel"]
    # and by names alone nothing does
    assert not pair_state(run, state, None).carried


def test_a_transposed_and_a_fused_tensor_are_carried_as_the_file_says(tmp_path):
    kernel = values(4, 3)
    a = recorded(tmp_path / "a.zarr", "hidden", kernel, kernel)
    lines = [
        {"a": "hidden/kernel", "b": "fused", "layout": [take]}
        for take in ({"op": "take", "axis": 1, "start": 3, "stop": 6},)
    ]
    back = [{"op": "transpose", "axes": [1, 0]}]
    lines.append({"a": "hidden/kernel", "b": "turned", "layout": back, "back": back})
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"tracediff_map": 1, "tensors": lines}))
    run = RecordedTrace(str(a)).run(0)
    state = [
        StateTensor(TensorSpec("fused", "weight", "float32", (4, 6)), None),
        StateTensor(TensorSpec("turned", "weight", "float32", (3, 4)), None),
    ]
    fused, turned = pair_state(run, state, read_mapping(str(path))).carried
    np.testing.assert_array_equal(turned.value(run, 0)[0], kernel.T)
    value, lost = fused.value(run, 0)
    np.testing.assert_array_equal(value[:, 3:], kernel)
    assert "does not name are zero" in lost
    assert turned.value(run, 0)[1] is None


@pytest.mark.parametrize("text", ["", "{}", '{"tracediff_map": 2}'])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(ReplayRefused, match="mapping"):
        read_mapping(str(path))
