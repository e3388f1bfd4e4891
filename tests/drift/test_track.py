"""Tracks: what is read, and what counts as a difference."""

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.drift import track_pair
from tracediff.model import Pair
from tracediff.trace import Run, open_trace
from tracediff_hooks.recorder import SparseRows

KERNEL = ("weight", "hidden/kernel")
GRADIENT = ("gradient", "hidden/kernel")
INPUT = ("input", "input/0")


def runs(folder, *plans, **options):
    return [
        open_trace(make_trace(folder / f"{name}.zarr", plan, **options)).runs[0]
        for name, plan in zip("ab", plans, strict=True)
    ]


def observing(key, *values, specs=None):
    steps = [Step(observed={key: value}) for value in values]
    return RunPlan(steps, initial={KERNEL: np.zeros(2, np.float32)}, specs=specs or {})


def pair(key):
    return Pair(role=key[0], name=key[1], a=key[1], b=key[1])


def test_values_are_read_only_where_digests_differ(tmp_path, monkeypatch):
    values = [np.full(4, number, np.float32) for number in range(4)]
    other = [*values[:2], values[2] + 1, values[3]]
    a, b = runs(tmp_path, observing(INPUT, *values), observing(INPUT, *other))
    read = []
    original = Run.read_many

    def noted(self, tensor, versions, digests, **options):
        read.extend(versions.tolist())
        return original(self, tensor, versions, digests, **options)

    monkeypatch.setattr(Run, "read_many", noted)
    track = track_pair(a, b, pair(INPUT), steps=4)
    assert read == [2, 2]
    assert track.after["differs"].tolist() == [False, False, True, False]
    assert track.after["relative_l2"][2] == pytest.approx(1 / 3)


def test_the_sign_of_a_zero_is_a_bit_difference_of_size_zero(tmp_path):
    plus, minus = np.zeros(3, np.float32), -np.zeros(3, np.float32)
    a, b = runs(tmp_path, observing(INPUT, plus), observing(INPUT, minus))
    cell = track_pair(a, b, pair(INPUT), steps=1).after[0]
    assert cell["differs"]
    assert (cell["relative_l2"], cell["max_ulp"]) == (0.0, 0)


def test_equal_values_in_another_dtype_are_no_difference(tmp_path):
    a, b = runs(
        tmp_path,
        observing(INPUT, np.array([0, 1, 2], np.int64)),
        observing(INPUT, np.array([[0], [1], [2]], np.float32)),
    )
    cell = track_pair(a, b, pair(INPUT), steps=1).after[0]
    assert cell["present"]
    assert not cell["differs"]


def test_equal_bytes_of_another_dtype_are_a_difference(tmp_path):
    integers = np.array([1, 2], np.int32)
    a, b = runs(tmp_path, observing(INPUT, integers), observing(INPUT, integers.view(np.float32)))
    assert track_pair(a, b, pair(INPUT), steps=1).after["differs"].tolist() == [True]


def test_a_sparse_gradient_is_compared_densely(tmp_path):
    dense = np.zeros((5, 2), np.float32)
    dense[3] = [3.0, 4.0]
    rows = SparseRows(np.array([[1, 1], [2, 3]], np.float32), np.array([3, 3]))
    a, b = runs(
        tmp_path,
        observing(GRADIENT, dense),
        observing(GRADIENT, rows, specs={GRADIENT: {"shape": (5, 2)}}),
    )
    assert not track_pair(a, b, pair(GRADIENT), steps=1).after["differs"].any()


def test_without_values_a_difference_is_of_unknown_size(tmp_path):
    a, b = runs(
        tmp_path,
        observing(INPUT, np.zeros(3, np.float32)),
        observing(INPUT, np.ones(3, np.float32)),
        level="digest",
    )
    cell = track_pair(a, b, pair(INPUT), steps=1).after[0]
    assert cell["differs"]
    assert not cell["known"]
    assert np.isnan(cell["relative_l2"])


def test_batches_of_another_size_differ_by_shape(tmp_path):
    a, b = runs(
        tmp_path,
        observing(INPUT, np.zeros((4, 2), np.float32)),
        observing(INPUT, np.zeros((3, 2), np.float32)),
    )
    cell = track_pair(a, b, pair(INPUT), steps=1).after[0]
    assert cell["reshaped"]
    assert cell["differs"]


def test_state_is_followed_before_and_after_each_step(tmp_path):
    start, moved = np.ones(2, np.float32), np.full(2, 2.0, np.float32)
    a, b = runs(
        tmp_path,
        RunPlan([Step(after={KERNEL: moved}), Step(after={KERNEL: moved})], {KERNEL: start}),
        RunPlan(
            [Step(after={KERNEL: moved}), Step(before={KERNEL: start}, after={KERNEL: moved})],
            {KERNEL: start},
        ),
    )
    track = track_pair(a, b, pair(KERNEL), steps=2)
    assert track.before["differs"].tolist() == [False, True]
    assert track.after["differs"].tolist() == [False, False]
    assert track.update["present"].tolist() == [False, True]
    assert track.update["norm_difference"][1] == pytest.approx(np.sqrt(2.0))


def test_a_missing_sample_weight_stands_for_ones(tmp_path):
    key = ("sample_weight", "sample_weight/0")
    ones, twos = np.ones(3, np.float32), np.array([1, 1, 2], np.float32)
    a, b = runs(tmp_path, observing(INPUT, ones, ones), observing(key, ones, twos))
    implied = Pair(role=key[0], name=key[1], a=None, b=key[1])
    assert track_pair(a, b, implied, steps=2).after["differs"].tolist() == [False, True]
