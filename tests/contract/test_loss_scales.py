"""Runs whose losses are scaled otherwise are one training; faults of the gradient still show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.stacks import stack_or_skip

from tracediff.compare import compare, examine
from tracediff.trace import open_trace

PROGRAM = Path(__file__).parent / "programs" / "loss_scales.py"
WAYS = [
    *("half", "half, 2^10", "half, growing", "half, overflowing", "half, faulty"),
    *("plain", "2^10", "1000", "faulty", "fixed"),
    *("sketch", "faulty sketch", "digest", "faulty digest"),
]
EVERY_RUN = ("tf2.3", "keras3")
STACKS = [
    pytest.param(name, marks=[] if name in EVERY_RUN else [pytest.mark.exhaustive])
    for name in (*EVERY_RUN, "tf2.15", "tf-keras", "keras3-torch")
]
ACROSS = [
    pytest.param(*two, marks=[] if set(two) <= set(EVERY_RUN) else [pytest.mark.exhaustive])
    for two in (
        ("tf2.3", "keras3"),
        ("tf2.3", "tf2.15"),
        ("tf2.3", "tf-keras"),
        ("tf2.15", "tf-keras"),
        ("tf-keras", "keras3"),
        ("keras3", "keras3-torch"),
    )
]
ONE = [
    *(("half", "half, 2^10"), ("half", "half, growing"), ("plain", "2^10"), ("2^10", "1000")),
    *(("plain", "1000"), ("2^10", "fixed"), ("fixed", "1000"), ("sketch", "2^10")),
    *(("digest", "2^10"), ("sketch", "plain"), ("digest", "plain")),
]
FAULTY = [
    *(("half", "half, faulty"), ("half, growing", "half, faulty"), ("plain", "faulty")),
    *(("2^10", "faulty"), ("sketch", "faulty sketch"), ("digest", "faulty digest")),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Of each stack, where its traces are; recorded when they are first asked for."""
    folders: dict[str, Path] = {}

    def path(stack: str, way: str) -> Path:
        if stack not in folders:
            folders[stack] = tmp_path_factory.mktemp(stack)
            stack_or_skip(stack).run(PROGRAM, folders[stack], *WAYS)
        return folders[stack] / f"{way}.zarr"

    return path


def assert_one(comparison):
    assert comparison.first_divergence is None
    assert comparison.verdict in ("identical", "rounding")
    assert not [left for left in comparison.unpaired if left.matters]


@pytest.mark.parametrize(("one", "other"), ONE, ids=map(" and ".join, ONE))
@pytest.mark.parametrize("stack", STACKS)
def test_other_scales_of_the_loss_are_no_divergence(recorded, stack, one, other):
    assert_one(compare(recorded(stack, one), recorded(stack, other)))


@pytest.mark.parametrize("way", ["half", "half, growing", "half, overflowing", "2^10", "1000"])
@pytest.mark.parametrize(("one", "other"), ACROSS)
def test_a_scaled_loss_on_two_stacks_is_one_training(recorded, one, other, way):
    assert_one(compare(recorded(one, way), recorded(other, way)))


@pytest.mark.parametrize("ways", FAULTY, ids=map(" and ".join, FAULTY))
@pytest.mark.parametrize(("one", "other"), ACROSS)
def test_a_gradient_that_is_halved_on_its_way_is_named_beside_another_scale(
    recorded, one, other, ways
):
    # GIVEN a layer that hands on half of the gradient, a power of two as every scale is
    comparison = compare(recorded(one, ways[0]), recorded(other, ways[1]))
    # THEN the first gradient behind it is where the runs part, and not the one before it
    first = comparison.first_divergence
    assert (first.step, first.stage) == (0, "gradient")
    assert first.tensor.startswith("middle/")
    assert comparison.causes[0].code == "gradient.raw"


def test_gradients_of_two_scales_are_compared_without_them_bit_for_bit(recorded):
    # GIVEN float32, and scales that are powers of two
    path = recorded("tf2.3", "2^10")
    found = examine(recorded("tf2.3", "plain"), path)
    # THEN all gradients are the same to the bit,
    rows = [one for one in found.comparison.drift if one.role == "gradient"]
    assert rows
    assert all(one.first_step is None for one in rows)
    # and in both traces stands what was seen,
    run = open_trace(path).runs[0]
    gradient = run.tensor("gradient", "out/kernel")
    seen, divided = run.read(gradient, 4), found.case.b.read(gradient, 4)
    np.testing.assert_array_equal(seen, divided * np.float32(2048))
    # and a note says what was done
    (note,) = (one for one in found.comparison.notes if "scale of the loss" in one)
    assert "1 in A and 1024 in B" in note


def test_another_scale_shows_where_it_is_kept(recorded):
    comparison = compare(recorded("tf2.3", "half"), recorded("keras3", "half, growing"))
    (row,) = (one for one in comparison.drift if one.tensor == "optimizer/dynamic_scale")
    assert row.first_step == 0
    assert [one for one in comparison.notes if "32768 in A and 1024 in B" in one]


@pytest.mark.parametrize("stack", STACKS)
def test_an_overflow_in_one_run_alone_is_that_of_its_scale(recorded, stack):
    comparison = compare(recorded(stack, "half"), recorded(stack, "half, overflowing"))
    first = comparison.first_divergence
    assert (first.step, first.stage) == (0, "gradient")
    cause = comparison.causes[0]
    assert (cause.code, cause.subject) == ("gradient.processing", "loss scale")
    assert "initial_scale" in [one.subject for one in comparison.causes]
