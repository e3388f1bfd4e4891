"""Gates in another order, unknown slot names, exchanged inputs: what only values or counts tell."""

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.align import pair_tensors
from tracediff.align.layouts import adapt
from tracediff.align.notation import parse
from tracediff.trace import open_trace

GENERATOR = np.random.default_rng(6)
KERNEL = GENERATOR.normal(size=(5, 12)).astype(np.float32)
RECURRENT = GENERATOR.normal(size=(3, 12)).astype(np.float32)


def recorded(path, state, *, kind="LSTM", observed=({},)):
    layers = [{"name": "rnn", "class": kind, "config": {}, "inputs": []}]
    about = {
        "model": {"class": "Sequential", "layers": layers},
        "optimizer": {"class": "Mine", "config": {}},
    }
    specs = {
        key: {"layer": "rnn", "order": place}
        for place, key in enumerate(state)
        if key[0] == "weight"
    }
    plan = RunPlan([Step(observed=one) for one in observed], state, about, specs)
    return open_trace(make_trace(path, plan)).runs[0]


def gates(values, order):
    return np.concatenate([np.split(values, 4, axis=-1)[gate] for gate in order], axis=-1)


def lstm(order):
    return {
        ("weight", "rnn/kernel"): gates(KERNEL, order),
        ("weight", "rnn/recurrent_kernel"): gates(RECURRENT, order),
        ("weight", "rnn/bias"): np.zeros(12, np.float32),
    }


def test_gates_in_another_order_are_put_back_and_the_bias_follows(tmp_path):
    a = recorded(tmp_path / "a.zarr", lstm((0, 1, 2, 3)))
    b = recorded(tmp_path / "b.zarr", lstm((0, 1, 3, 2)))
    pairing = pair_tensors(a, b)
    for name, values in (("kernel", KERNEL), ("recurrent_kernel", RECURRENT)):
        pair = pairing.find("weight", f"rnn/{name}")
        found = b.read(b.tensor("weight", pair.b), 0)
        np.testing.assert_array_equal(adapt(parse(pair.layout), found), values)
    bias = pairing.find("weight", "rnn/bias")
    assert bias.layout == ({"op": "reorder", "axis": 0, "blocks": [0, 1, 3, 2]},)
    assert "as its kernel" in bias.reason


def test_weights_that_merely_differ_keep_their_layout(tmp_path):
    a = recorded(tmp_path / "a.zarr", lstm((0, 1, 2, 3)))
    other = {key: value + np.float32(0.1) for key, value in lstm((0, 1, 3, 2)).items()}
    b = recorded(tmp_path / "b.zarr", other)
    assert not any(pair.layout for pair in pair_tensors(a, b).pairs)


@pytest.mark.parametrize(("names", "paired"), [(("x", "y"), True), (("x",), False)])
def test_slots_of_other_names_are_paired_in_order_if_there_are_as_many(tmp_path, names, paired):
    weight = {("weight", "rnn/kernel"): KERNEL}
    a = {**weight, ("slot", "rnn/kernel/p"): KERNEL * 2, ("slot", "rnn/kernel/q"): KERNEL * 3}
    b = {**weight, **{("slot", f"rnn/kernel/{name}"): KERNEL * 2 for name in names}}
    pairing = pair_tensors(recorded(tmp_path / "a.zarr", a), recorded(tmp_path / "b.zarr", b))
    found = {pair.a: pair for pair in pairing.pairs if pair.role == "slot"}
    if paired:
        assert {name: pair.b for name, pair in found.items()} == {
            "rnn/kernel/p": "rnn/kernel/x",
            "rnn/kernel/q": "rnn/kernel/y",
        }
        assert all(pair.confidence < 0.7 for pair in found.values())
    else:
        assert found == {}
        nearest = {one.tensor: one.nearest for one in pairing.unpaired if one.side == "a"}
        assert nearest["rnn/kernel/p"] == "rnn/kernel/x"


def test_inputs_that_were_fed_in_another_order_are_found_by_their_digests(tmp_path):
    weight = {("weight", "rnn/kernel"): KERNEL}
    batches = [
        [GENERATOR.normal(size=(4, 3)).astype(np.float32) for _ in range(2)] for _ in range(3)
    ]
    runs = []
    for name, order in (("a", (0, 1)), ("b", (1, 0))):
        observed = [
            {("input", f"input/{place}"): batch[one] for place, one in enumerate(order)}
            for batch in batches
        ]
        runs.append(recorded(tmp_path / f"{name}.zarr", weight, observed=observed))
    pairing = pair_tensors(*runs)
    assert pairing.find("input", "input/0").b == "input/1"
    assert pairing.find("input", "input/1").b == "input/0"
    # AND each stays with its number where nothing says otherwise
    assert pair_tensors(runs[0], runs[0]).find("input", "input/0").b == "input/0"
