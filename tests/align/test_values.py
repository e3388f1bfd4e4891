"""Which first values are the same: told by samples where that is enough, in bounded memory."""

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.align.values import FirstValues
from tracediff.compare import compare
from tracediff.drift import sample_places
from tracediff.trace import Run, open_trace

SHAPE = (96, 64)


def a_run(kernels):
    """One step of a run whose layers, all of one input, begin with ``kernels``, by name."""
    initial = {("weight", f"{name}/kernel"): value for name, value in kernels.items()}
    layers = [{"name": "source", "class": "InputLayer", "config": {}, "inputs": []}]
    layers += [
        {"name": name, "class": "Dense", "inputs": ["source"], "weights": [f"{name}/kernel"]}
        for name in kernels
    ]
    model = {"name": "many", "class": "Functional", "layers": layers}
    return RunPlan([Step()], initial, about={"model": model})


def first_values(tmp_path, a, b):
    runs = []
    for side, kernel in (("a", a), ("b", b)):
        path = make_trace(tmp_path / f"{side}.zarr", a_run({"layer": kernel}))
        runs.append(open_trace(path).runs[0])
    tensors = [run.tensor("weight", "layer/kernel") for run in runs]
    return FirstValues(*runs).alike(*tensors)


def draw(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (draw(0), True),
        (draw(0) * np.float32(1 + 1e-5), True),
        (draw(0) * np.float32(1 + 1e-2), False),
        (draw(1), False),
        (np.zeros(SHAPE, np.float32), False),
    ],
)
def test_values_are_alike_up_to_rounding(tmp_path, other, expected):
    assert first_values(tmp_path, draw(0), other) is expected


def test_a_sample_that_misses_what_matters_decides_nothing(tmp_path):
    # GIVEN a value whose norm is that of one element, which the sample does not hold
    size = SHAPE[0] * SHAPE[1]
    outside = np.setdiff1d(np.arange(size), sample_places(size))[0]
    one = draw(0) * np.float32(1e-6)
    one.flat[outside] = 1e3
    other = one + draw(1) * np.float32(1e-6)
    other.flat[outside] = 1e3
    # THEN the whole decides, as the definition of alike has it
    assert first_values(tmp_path, one, other) is True


def test_constant_values_say_nothing(tmp_path):
    assert first_values(tmp_path, np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)) is None


def test_many_alike_layers_are_told_apart_without_reading_them_again_and_again(
    tmp_path, monkeypatch
):
    # GIVEN layers of one shape, in B under other names and in another order
    count = 24
    kernels = {f"block{number}": draw(number) for number in range(count)}
    order = np.random.default_rng(0).permutation(count).tolist()
    renamed = {f"other{place}": kernels[f"block{number}"] for place, number in enumerate(order)}
    a = make_trace(tmp_path / "a.zarr", a_run(kernels))
    b = make_trace(tmp_path / "b.zarr", a_run(renamed))
    read = []
    original = Run.read

    def noted(self, tensor, step, moment="before"):
        read.append(tensor.name)
        return original(self, tensor, step, moment)

    monkeypatch.setattr(Run, "read", noted)
    # WHEN
    found = compare(a, b)
    # THEN each is found, and values were read a few times a layer, not once for each pair of layers
    assert found.verdict == "identical"
    pairs = {pair.a: pair.b for pair in found.pairs if pair.role == "weight"}
    assert pairs == {
        f"block{number}/kernel": f"other{place}/kernel" for place, number in enumerate(order)
    }
    assert len(read) <= 6 * count


def test_what_stays_in_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("tracediff.align.values.KEPT_BYTES", 4 * 8 * SHAPE[0] * SHAPE[1])
    kernels = {f"block{number}": draw(number) for number in range(10)}
    runs = [
        open_trace(make_trace(tmp_path / f"{side}.zarr", a_run(kernels))).runs[0] for side in "ab"
    ]
    values = FirstValues(*runs)
    for one in runs[0].tensors:
        for other in runs[1].tensors:
            assert values.alike(one, other) is (one.name == other.name)
    kept = sum(value.nbytes for value in values._read.values())
    assert kept <= 4 * 8 * SHAPE[0] * SHAPE[1]
