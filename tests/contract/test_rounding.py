"""Runs that agree but for rounding are told from such with a small change, on real stacks.

The same script trains with equal initial weights and batches by plain SGD on two stacks, whose
kernels add up in other orders: what differs is rounding, and what it grows into.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.stacks import stack_or_skip

from tracediff.compare import compare
from tracediff.report.comparison import to_json
from tracediff.tolerance import GROWTH_FACTOR, GROWTH_STEPS

PROGRAM = Path(__file__).parent / "programs" / "rounding.py"
DENSE = ("deep", "batch", "softplus", "fast", "value")
_NEW = ("norm", "kinks", "deep:rate", "chaos:rate")
_DOUBLE = ("double", "double:rate", "double:bit")
_LOOP = ("loop", "loop:rate", "loop:pixel", "loop:weight")
ORDINARY = {
    "keras2.3": (*DENSE, "chaos", "wild", "double", "loop"),
    "tf2.3": (*DENSE, "chaos", *_NEW, "wild", "wild:rate", "wild:moved", *_DOUBLE, "loop"),
    "keras3": (*DENSE, "chaos", *_NEW, "chaos:pixel", *_DOUBLE, "half", "half:rate", *_LOOP),
}
FURTHER = ("shallow", "deeper", "wide", "single", "selu", "linear", "cnn", "wild")
FURTHER_CHANGED = tuple(f"{name}:rate" for name in (*FURTHER, "fast", "value"))


class Recordings:
    """The traces of the runs, recorded when the first of a stack is asked for."""

    def __init__(self, folder: Path, runs: dict[str, tuple[str, ...]]) -> None:
        self._folder, self._runs = folder, runs
        self._done: set[str] = set()

    def path(self, stack: str, run: str) -> Path:
        folder = self._folder / stack
        if stack not in self._done:
            folder.mkdir()
            stack_or_skip(stack).run(PROGRAM, folder, *self._runs[stack])
            self._done.add(stack)
        return folder / f"{run.replace(':', '-')}.zarr"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """The runs of every test."""
    return Recordings(tmp_path_factory.mktemp("rounding"), ORDINARY)


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """The runs of the exhaustive tests."""
    runs = (*FURTHER, "fast", "value", *FURTHER_CHANGED)
    return Recordings(tmp_path_factory.mktemp("further"), dict.fromkeys(ORDINARY, runs))


def weights_apart(comparison) -> float:
    """The largest relative L2 of any weight at any step, noise aside."""
    rows = [one for one in comparison.drift if one.role == "weight" and not one.noise_driven]
    return max(one.relative_l2.max for one in rows)


def assert_rounding(comparison):
    assert comparison.verdict in ("identical", "rounding"), comparison.first_divergence
    assert comparison.first_divergence is None
    assert {one.code for one in comparison.causes} <= {"rounding"}


def assert_the_rate_is_found(a, b):
    report = json.loads(to_json(compare(a, b)))
    assert report["verdict"] == "diverged"
    assert report["first_divergence"]["tensor"] == "optimizer/learning_rate"
    assert report["causes"][0]["code"] == "optimizer.hyperparameter"


@pytest.mark.parametrize(("old", "new"), [("keras2.3", "tf2.3"), ("tf2.3", "keras3")])
@pytest.mark.parametrize("run", DENSE)
def test_dense_layers_agree_within_rounding_on_two_stacks(recorded, old, new, run):
    # given hundreds of steps of plain SGD with equal initial weights and batches
    a, b = recorded.path(old, run), recorded.path(new, run)
    # when, then
    assert_rounding(compare(a, b))


@pytest.mark.parametrize(
    ("old", "new", "most"), [("keras2.3", "tf2.3", 1e-6), ("keras2.3", "keras3", 1e-13)]
)
def test_runs_in_float64_agree_within_what_their_loss_is_rounded_to(recorded, old, new, most):
    # given a stack that takes every loss through float32 (tf2.3), or none that does
    comparison = compare(recorded.path(old, "double"), recorded.path(new, "double"))
    # when, then
    assert_rounding(comparison)
    tensors = [one for one in comparison.drift if one.role in ("loss", "gradient")]
    assert most / 1e3 < max(one.relative_l2.max for one in tensors) < most


@pytest.mark.parametrize("new", ["tf2.3", "keras3"])
def test_a_part_in_a_milliard_of_a_sample_is_found_in_float64(recorded, new):
    found = compare(recorded.path("keras2.3", "double"), recorded.path(new, "double:bit"))
    first = found.first_divergence
    assert (first.step, first.stage, first.role) == (LAST_BATCH, "data", "input")
    assert_the_rate_is_found(recorded.path("keras2.3", "double"), recorded.path(new, "double:rate"))


def test_a_rate_is_no_coarser_for_a_model_that_computes_in_float16(recorded):
    assert_the_rate_is_found(recorded.path("keras3", "half"), recorded.path("keras3", "half:rate"))


def test_the_two_old_stacks_do_differ_in_bits(recorded):
    # given what would be no test if both computed with the same kernels
    pairs = [(recorded.path("keras2.3", run), recorded.path("tf2.3", run)) for run in DENSE]
    # when
    verdicts = {compare(a, b).verdict for a, b in pairs}
    # then
    assert "rounding" in verdicts


@pytest.mark.parametrize(("old", "new"), [("keras2.3", "tf2.3"), ("tf2.3", "keras3")])
@pytest.mark.parametrize("run", ["deep", "chaos"])
def test_a_rate_one_part_in_ten_thousand_off_is_no_rounding(recorded, old, new, run):
    assert_the_rate_is_found(recorded.path(old, run), recorded.path(new, f"{run}:rate"))


def test_rounding_that_grows_into_all_weights_of_a_convolution_net_is_rounding(recorded):
    # given a net that training drives apart from rounding level
    a, b = recorded.path("tf2.3", "chaos"), recorded.path("keras3", "chaos")
    # when
    comparison = compare(a, b)
    # then the weights have nothing in common in the end, and there is no cause to look for
    assert_rounding(comparison)
    assert weights_apart(comparison) > 1e-2
    kernel = next(one for one in comparison.drift if one.tensor == "out/kernel")
    assert kernel.relative_l2.first < 1e-6
    assert kernel.growth == "exponential"


def test_a_pixel_is_found_before_rounding_has_grown_over_it(recorded):
    # given the same, and one number of step 11 that is a thousandth larger
    a, b = recorded.path("tf2.3", "chaos"), recorded.path("keras3", "chaos:pixel")
    # when
    found = compare(a, b).first_divergence
    # then
    assert found is not None
    assert (found.stage, found.role) == ("data", "input")
    assert found.step == LAST_BATCH


LAST_BATCH = 19
"""Of an epoch of 20 batches."""


def test_a_unit_at_the_edge_of_its_activation_is_rounding(recorded):
    # given a gradient that jumps within a step, in one unit, while loss and all above agree
    a, b = recorded.path("tf2.3", "kinks"), recorded.path("keras3", "kinks")
    # when
    comparison = compare(a, b)
    # then
    assert_rounding(comparison)
    gradients = [one for one in comparison.drift if one.role == "gradient"]
    jumps = [
        (one.series[1:] / np.maximum(np.maximum.accumulate(one.series), 1e-6)[:-1]).max()
        for one in gradients
    ]
    assert max(jumps) > 1e3


def test_the_gradient_of_a_bias_before_batch_normalisation_is_no_divergence(recorded):
    # given a gradient that is nothing but rounding, as far apart as two random vectors
    a, b = recorded.path("tf2.3", "norm"), recorded.path("keras3", "norm")
    # when
    comparison = compare(a, b)
    # then
    bias = next(
        one for one in comparison.drift if (one.role, one.tensor) == ("gradient", "before/bias")
    )
    assert bias.relative_l2.max > 0.5
    assert_rounding(comparison)


def test_a_weight_may_follow_a_gradient_that_drifting_weights_moved(recorded):
    # given logits so far apart that hardly a row has a gradient, and now and then one that has
    a, b = recorded.path("keras2.3", "wild"), recorded.path("tf2.3", "wild")
    # when
    comparison = compare(a, b)
    # then a weight jumps by more than tenfold in a step, from rounding level, without a cause
    assert_rounding(comparison)
    kernel = next(
        one for one in comparison.drift if (one.role, one.tensor) == ("weight", "out/kernel")
    )
    assert kernel.relative_l2.first < 1e-6
    assert kernel.relative_l2.max > 0.5
    apart = np.maximum.accumulate(kernel.series[kernel.first_step :])
    assert (apart[1:] / apart[:-1])[GROWTH_STEPS:].max() > GROWTH_FACTOR


def test_a_rate_and_a_weight_moved_from_outside_are_found_in_the_same_chaos(recorded):
    a = recorded.path("keras2.3", "wild")
    assert_the_rate_is_found(a, recorded.path("tf2.3", "wild:rate"))
    # given a kernel that something other than the optimizer made a hundredth larger
    moved = compare(a, recorded.path("tf2.3", "wild:moved")).first_divergence
    assert (moved.step, moved.stage, moved.tensor) == (MOVED, "state", "out/kernel")


def test_what_a_forward_pass_magnifies_is_no_divergence(recorded):
    # given a recurrent network whose first gradients differ, or grow, by more than any sum explains
    comparison = compare(recorded.path("tf2.3", "loop"), recorded.path("keras3", "loop"))
    # when, then weights are per cents apart in the end, and there is no cause to look for
    assert_rounding(comparison)
    kernel = next(
        one for one in comparison.drift if (one.role, one.tensor) == ("weight", "out/kernel")
    )
    assert kernel.relative_l2.max > 1e-2
    assert kernel.relative_l2.first < 1e-5


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("rate", (0, "update", "optimizer/learning_rate")),
        ("weight", (0, "state", "rnn/kernel")),
        ("pixel", (24, "data", "input/0")),
    ],
)
def test_a_cause_is_found_in_what_a_forward_pass_magnifies(recorded, change, place):
    comparison = compare(recorded.path("tf2.3", "loop"), recorded.path("keras3", f"loop:{change}"))
    first = comparison.first_divergence
    assert (first.step, first.stage, first.tensor) == place


MOVED = 70
"""Before a step at which rounding makes a jump of it by itself."""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("old", "new"), [("keras2.3", "tf2.3"), ("tf2.3", "keras3"), ("keras2.3", "keras3")]
)
@pytest.mark.parametrize("run", FURTHER)
def test_further_runs_agree_within_rounding_on_two_stacks(further, old, new, run):
    assert_rounding(compare(further.path(old, run), further.path(new, run)))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("old", "new"), [("keras2.3", "tf2.3"), ("tf2.3", "keras3")])
@pytest.mark.parametrize("run", [*FURTHER, "fast", "value"])
def test_the_rate_is_found_in_further_runs(further, old, new, run):
    assert_the_rate_is_found(further.path(old, run), further.path(new, f"{run}:rate"))
