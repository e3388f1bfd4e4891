"""Which tensors of two runs are taken to be the same."""

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.align import pair_tensors
from tracediff.trace import open_trace


def recorded(
    folder, name, shapes, *, slots=None, layers=None, observed=None, moving=(), optimizer=None
):
    initial = {("weight", key): np.zeros(shape, np.float32) for key, shape in shapes.items()}
    initial |= {("slot", key): np.zeros(shape, np.float32) for key, shape in (slots or {}).items()}
    after = {("slot", key): np.ones(slots[key], np.float32) for key in moving}
    about = {"model": {"layers": [{"name": n, "class": c} for n, c in (layers or {}).items()]}}
    if optimizer:
        about["optimizer"] = optimizer
    plan = RunPlan([Step(observed=observed or {}, after=after)], initial, about)
    return open_trace(make_trace(folder / name, plan)).runs[0]


def paired(pairing, role="weight"):
    return {pair.a: pair.b for pair in pairing.pairs if pair.role == role}


def test_equal_names_and_shapes_are_pairs(tmp_path):
    shapes = {"hidden/kernel": (3, 4), "hidden/bias": (4,)}
    a = recorded(tmp_path, "a.zarr", shapes)
    b = recorded(tmp_path, "b.zarr", dict(reversed(shapes.items())))
    pairing = pair_tensors(a, b)
    assert paired(pairing) == {name: name for name in shapes}
    assert all(pair.confidence == 1.0 for pair in pairing.pairs)
    assert pairing.unpaired == ()


def test_renamed_layers_are_matched_by_class_and_shapes(tmp_path):
    a = recorded(
        tmp_path,
        "a.zarr",
        {"first/kernel": (3, 4), "first/bias": (4,), "last/kernel": (4, 2)},
        slots={"first/kernel/m": (3, 4)},
        layers={"first": "Dense", "last": "Dense"},
    )
    b = recorded(
        tmp_path,
        "b.zarr",
        {"one/kernel": (3, 4), "one/bias": (4,), "last/kernel": (4, 2)},
        slots={"one/kernel/m": (3, 4)},
        layers={"one": "Dense", "last": "Dense"},
    )
    pairing = pair_tensors(a, b)
    assert paired(pairing)["first/kernel"] == "one/kernel"
    assert paired(pairing, "slot") == {"first/kernel/m": "one/kernel/m"}
    found = pairing.find("weight", "first/kernel")
    assert found.confidence == pytest.approx(0.95)
    assert "class" in found.reason
    assert pairing.unpaired == ()


def test_layers_that_look_alike_are_taken_in_order_with_less_confidence(tmp_path):
    names_a = {f"dense_{i}/kernel": (4, 4) for i in (1, 2)}
    names_b = {f"block_{i}/kernel": (4, 4) for i in (1, 2)}
    pairing = pair_tensors(
        recorded(tmp_path, "a.zarr", names_a), recorded(tmp_path, "b.zarr", names_b)
    )
    assert paired(pairing) == dict(zip(names_a, names_b, strict=True))
    assert all(pair.confidence < 0.95 for pair in pairing.pairs)
    assert all("execution order" in pair.reason for pair in pairing.pairs)


def test_automatic_names_that_count_otherwise_do_not_cross(tmp_path):
    # GIVEN names of which one means another layer in the other run
    a = recorded(tmp_path, "a.zarr", {"dense_1/kernel": (3, 4), "dense_2/kernel": (4, 2)})
    b = recorded(tmp_path, "b.zarr", {"dense/kernel": (3, 4), "dense_1/kernel": (4, 2)})
    # THEN shapes decide
    assert paired(pair_tensors(a, b)) == {
        "dense_1/kernel": "dense/kernel",
        "dense_2/kernel": "dense_1/kernel",
    }


def test_another_shape_is_unpaired_with_the_reason(tmp_path):
    # GIVEN nothing that says these are layers with gates
    a = recorded(tmp_path, "a.zarr", {"gru/kernel": (3, 9), "gru/bias": (9,)})
    b = recorded(tmp_path, "b.zarr", {"gru/kernel": (3, 9), "gru/bias": (2, 9)})
    pairing = pair_tensors(a, b)
    assert paired(pairing) == {"gru/kernel": "gru/kernel"}
    assert {one.side for one in pairing.unpaired} == {"a", "b"}
    assert all("(9,) in A, (2, 9) in B" in one.reason for one in pairing.unpaired)
    assert all(one.matters for one in pairing.unpaired)


def test_trailing_unit_axes_are_the_same_shape(tmp_path):
    a = recorded(tmp_path, "a.zarr", {"out/kernel": (3, 1)})
    b = recorded(tmp_path, "b.zarr", {"out/kernel": (3,)})
    (pair,) = pair_tensors(a, b).pairs
    assert "(3, 1) in A, (3,) in B" in pair.note


def test_a_weight_of_one_run_matters_and_a_metric_does_not(tmp_path):
    extra = {("metric", "metric/mae"): np.float32(1)}
    a = recorded(tmp_path, "a.zarr", {"x/kernel": (2, 2), "y/gamma": (2,)}, observed=extra)
    b = recorded(tmp_path, "b.zarr", {"x/kernel": (2, 2)})
    matters = {one.tensor: one.matters for one in pair_tensors(a, b).unpaired}
    assert matters == {"y/gamma": True, "metric/mae": False}


@pytest.mark.parametrize(("moving", "matters"), [((), False), (("x/kernel/momentum",), True)])
def test_a_lone_slot_matters_only_if_it_is_used(tmp_path, moving, matters):
    slots = {"x/kernel/momentum": (2, 2)}
    a = recorded(tmp_path, "a.zarr", {"x/kernel": (2, 2)}, slots=slots, moving=moving)
    b = recorded(tmp_path, "b.zarr", {"x/kernel": (2, 2)})
    (one,) = pair_tensors(a, b).unpaired
    assert one.matters is matters


def test_a_momentum_slot_of_keras_2_3_at_momentum_0_does_not_matter(tmp_path):
    # GIVEN a slot that is written at every step, and read with the factor 0
    name = "x/kernel/momentum"
    for momentum in (0.0, 0.9):
        folder = tmp_path / str(momentum)
        a = recorded(
            folder,
            "a.zarr",
            {"x/kernel": (2, 2)},
            slots={name: (2, 2)},
            moving=(name,),
            optimizer={"class": "SGD", "config": {"momentum": momentum}},
        )
        b = recorded(folder, "b.zarr", {"x/kernel": (2, 2)})
        assert [one.matters for one in pair_tensors(a, b).unpaired] == [momentum > 0]


def test_the_placeholder_slot_of_keras_2_3_does_not_matter(tmp_path):
    slots = {"x/kernel/vhat": (1,)}
    a = recorded(tmp_path, "a.zarr", {"x/kernel": (2, 2)}, slots=slots, moving=("x/kernel/vhat",))
    b = recorded(tmp_path, "b.zarr", {"x/kernel": (2, 2)})
    assert [one.matters for one in pair_tensors(a, b).unpaired] == [False]


def test_a_missing_sample_weight_is_paired_with_ones(tmp_path):
    key = ("sample_weight", "sample_weight/0")
    a = recorded(tmp_path, "a.zarr", {"x/kernel": (2, 2)})
    b = recorded(tmp_path, "b.zarr", {"x/kernel": (2, 2)}, observed={key: np.ones(3, np.float32)})
    pair = pair_tensors(a, b).find(*key)
    assert (pair.a, pair.b) == (None, "sample_weight/0")
