"""Runs that were made to differ in one known place, really trained, are found to part there.

One program trains the same small models on every stack; each variant changes one thing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stacks import build
from support.stacks import every_stack, stack_or_skip

from tracediff.compare import compare
from tracediff.report.comparison import to_json

PROGRAM = Path(__file__).parent / "programs" / "known_difference.py"

# variant -> (step, stage, role, tensor) of the first divergence, and the code of its first cause
MLP_SGD = {
    "initial": ((0, "state", "weight", "hidden/kernel"), "init."),
    "pixel": ((3, "data", "input", "input/0"), "data.content"),
    "order": ((4, "data", "input", "input/0"), "data.order"),
    "label": ((2, "data", "label", "label/0"), "data.labels"),
    "scale": ((0, "data", "input", "input/0"), "data.transform"),
    "half": ((0, "data", "input", "input/0"), "data.dtype"),
    "activation": ((0, "loss", "loss", "loss"), "layer.forward"),
    "regulariser": ((0, "loss", "loss", "loss"), "loss.value"),
    "rate": ((0, "update", "learning_rate", "optimizer/learning_rate"), "optimizer.hyperparameter"),
    # The slot starts at zero: momentum first tells in the second update.
    "momentum": ((1, "update", "slot", "hidden/kernel/momentum"), "optimizer.hyperparameter"),
    "plain": ((1, "update", None, None), "optimizer.hyperparameter"),
    # The gradient nearest to the loss is computed, and clipped, first.
    "clip": ((0, "gradient", "applied_gradient", "out/bias"), "gradient.processing"),
    "frozen": ((0, "update", "weight", "middle/kernel"), "state.trainable"),
    "external": ((7, "state", "weight", "out/bias"), "state.external"),
    "weighted": ((0, "data", "sample_weight", "sample_weight/0"), "data.sample_weight"),
    "batching": ((0, "data", "input", "input/0"), "data.batching"),
}
MLP_ADAM = {
    "epsilon": ((0, "update", "weight", "hidden/kernel"), "optimizer.hyperparameter"),
    "clip": ((0, "gradient", "applied_gradient", "out/bias"), "gradient.processing"),
}
CNN_SGD = {
    "moving": ((0, "update", "weight", "bn/moving_mean"), "layer.state"),
    "initial": ((0, "state", "weight", "conv/kernel"), "init."),
}
TRAININGS = {
    ("mlp", "sgd"): MLP_SGD,
    ("mlp", "adam"): MLP_ADAM,
    ("cnn", "sgd"): CNN_SGD,
    ("cnn", "adam"): {},
    ("lstm", "sgd"): {},
    ("mlp", "rmsprop"): {},
}
CASES = [
    pytest.param(kind, optimizer, variant, *expected, id=f"{kind}-{optimizer}-{variant}")
    for (kind, optimizer), variants in TRAININGS.items()
    for variant, expected in variants.items()
]


class Recordings:
    """The traces of one stack, recorded when the first of a kind is asked for."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._done: set[tuple[str, str]] = set()

    def path(self, kind: str, optimizer: str, variant: str = "base") -> Path:
        if (kind, optimizer) not in self._done:
            variants = TRAININGS[kind, optimizer]
            stack_or_skip(self._name).run(PROGRAM, self._folder, kind, optimizer, "base", *variants)
            self._done.add((kind, optimizer))
        return self._folder / f"{kind}-{optimizer}-{variant}.zarr"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recordings]:
    """By stack: what the program records there."""
    return {name: Recordings(name, tmp_path_factory.mktemp("known")) for name in build.names()}


def assert_parts_at(report: dict, expected: tuple, code: str) -> None:
    step, stage, role, tensor = expected
    found = report["first_divergence"]
    assert report["verdict"] == "diverged"
    assert (found["step"], found["stage"]) == (step, stage)
    assert role in (None, found["role"])
    assert tensor in (None, found["tensor"])
    assert report["causes"][0]["code"].startswith(code)


@pytest.mark.parametrize(("kind", "optimizer", "variant", "expected", "code"), CASES)
@pytest.mark.parametrize("name", every_stack())
def test_runs_of_one_stack_part_where_they_were_made_to(
    recorded, name, kind, optimizer, variant, expected, code
):
    # given two runs of one script on one stack, equal but for the variant
    base = recorded[name].path(kind, optimizer)
    other = recorded[name].path(kind, optimizer, variant)
    # when
    report = json.loads(to_json(compare(base, other)))
    # then the first divergence, and the first difference of any size, stand in that place
    assert_parts_at(report, expected, code)
    difference = report["first_bit_difference"]
    assert (difference["step"], difference["stage"]) == expected[:2]


@pytest.mark.parametrize(("old", "new"), [("keras2.3", "tf2.3"), ("tf2.3", "keras3")])
@pytest.mark.parametrize("variant", ["initial", "pixel", "rate", "momentum", "external"])
def test_runs_of_two_stacks_part_where_they_were_made_to(recorded, old, new, variant):
    # given the plain run on the old stack, the variant on the new one
    base = recorded[old].path("mlp", "sgd")
    other = recorded[new].path("mlp", "sgd", variant)
    expected, code = MLP_SGD[variant]
    # when
    report = json.loads(to_json(compare(base, other)))
    # then rounding between the stacks does not hide the place
    assert_parts_at(report, expected, code)


@pytest.mark.parametrize(
    ("old", "new", "kind", "optimizer"),
    [
        ("keras2.3", "tf2.3", "mlp", "sgd"),
        ("keras2.3", "tf2.3", "lstm", "sgd"),
        ("keras2.3", "tf2.3", "mlp", "rmsprop"),
        ("tf2.3", "keras3", "mlp", "sgd"),
        ("tf2.3", "keras3", "mlp", "adam"),
        ("tf2.3", "keras3", "lstm", "sgd"),
        ("tf2.3", "keras3", "cnn", "sgd"),
        # The bias before a batch normalisation has a gradient of pure rounding, which Adam blows
        # up.
        ("tf2.3", "keras3", "cnn", "adam"),
        *(
            pytest.param(old, new, kind, optimizer, marks=pytest.mark.exhaustive)
            for old, new in (
                ("tf2.3", "tf2.15"),
                ("tf2.15", "tf-keras"),
                ("tf-keras", "keras3"),
                ("keras3", "keras3-jax"),
                ("keras3", "keras3-torch"),
                ("keras3-jax", "keras3-torch"),
            )
            for kind, optimizer in (("mlp", "sgd"), ("mlp", "adam"), ("lstm", "sgd"))
        ),
    ],
)
def test_stacks_that_compute_the_same_agree(recorded, old, new, kind, optimizer):
    # given the same training on two stacks whose rules are the same
    a, b = recorded[old].path(kind, optimizer), recorded[new].path(kind, optimizer)
    # when
    comparison = compare(a, b)
    # then
    assert comparison.verdict in ("identical", "rounding")
    assert comparison.first_divergence is None


@pytest.mark.parametrize(
    ("old", "new", "kind", "optimizer"),
    [
        # Keras 2.3 corrects Adam's bias with a counter one too high.
        ("keras2.3", "tf2.3", "mlp", "adam"),
        ("keras2.3", "keras3", "cnn", "adam"),
        # Keras 3 adds RMSprop's epsilon inside the root.
        ("tf2.3", "keras3", "mlp", "rmsprop"),
    ],
)
def test_a_rule_that_changed_between_stacks_is_found_in_the_first_update(
    recorded, old, new, kind, optimizer
):
    # given the same training on two stacks whose optimizers compute another formula
    a, b = recorded[old].path(kind, optimizer), recorded[new].path(kind, optimizer)
    # when
    report = json.loads(to_json(compare(a, b)))
    # then
    assert_parts_at(report, (0, "update", "weight", None), "optimizer.rule")


@pytest.mark.parametrize("name", every_stack())
def test_a_run_compared_with_itself_is_identical(recorded, name):
    # given
    path = recorded[name].path("mlp", "sgd")
    # when
    comparison = compare(path, path)
    # then
    assert comparison.verdict == "identical"
    assert comparison.first_bit_difference is None
    assert comparison.causes == ()
