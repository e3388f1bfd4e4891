"""The recorder reads later what a step left; what is written there meanwhile is not recorded.

Without a framework: which arrays are taken for the same value. With one: batches that a script
feeds in memory which it fills again, and weights that another thread changes in place.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stacks import stack_or_skip
from support.ways import PROGRAMS

import tracediff
from tracediff_hooks.digest import digest_of
from tracediff_hooks.tensors import same_value

STEPS = 9
BIAS = ("weight", "hidden/bias")


@pytest.fixture(scope="module", params=["keras2.3", "tf2.3", "keras3"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held")
    stack_or_skip(request.param).run(PROGRAMS / "held_memory.py", request.param, folder)
    return folder


def test_batches_fed_in_one_array_are_recorded_each_as_it_was(trained):
    # Given batches that all came in the same memory, which was overwritten after each step
    (run,) = tracediff.open_trace(trained / "reused.zarr").runs
    fed = np.load(trained / "reused.npz")
    # Then the trace holds every one of them
    assert run.steps == STEPS
    for step in range(STEPS):
        for role, values in (("input", fed["x"]), ("label", fed["y"])):
            found = run.read(run.tensor(role, f"{role}/0"), step)
            assert np.array_equal(found, values[8 * step : 8 * step + 8]), (role, step)


def test_a_weight_changed_in_place_by_another_thread_is_an_external_change(trained):
    # Given a weight to which another thread added after the third and the sixth step
    (run,) = tracediff.open_trace(trained / "meddled.zarr").runs
    seen = np.load(trained / "meddled.npz")
    # Then the trace says before which steps, and names no other weight and no other step
    changes = [(c.step, c.tensor.name) for c in run.external_changes()]
    assert changes == [(3, BIAS[1]), (6, BIAS[1])]
    # and its digests are those of what the framework held before and after each step
    tensor = run.tensor(*BIAS)
    for moment in ("before", "after"):
        found = run.digests(tensor, moment)
        for step in range(STEPS):
            expected = digest_of(seen[f"{moment}/{step}/1"])
            assert tuple(map(int, found[step])) == expected, (step, moment)


@settings(deadline=None, database=None)
@given(st.integers(0, 40), st.integers(0, 39), st.booleans())
def test_values_are_the_same_if_and_only_if_their_bytes_are(size, place, strided):
    # Given an array, a copy of it, and one that differs in a single bit
    array = np.arange(2 * size, dtype=np.uint8)[:: 2 if strided else 1][:size]
    copy = array.copy()
    assert same_value(array, array)
    assert same_value(array, copy)
    if place < size:
        copy[place] ^= 1
        assert not same_value(array, copy)
    # Then shapes and dtypes count, too
    assert not same_value(array, array[np.newaxis])
    assert not same_value(array, array.view(np.int8))


def test_a_nan_is_the_same_as_itself_and_zeros_of_two_signs_are_not():
    nan, zero = np.array([np.nan], "f4"), np.array([0.0], "f4")
    assert same_value(nan, nan.copy())
    assert not same_value(zero, -zero)
