"""Runs of one training that is written down in many ways are found to be one; others part rightly.

One program puts the same numbers into differently named, ordered and laid out models, and feeds
them the same samples whole, late, reordered or cut otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.stacks import ORDINARY, stack_or_skip

from tracediff.align.layouts import adapt
from tracediff.align.notation import parse
from tracediff.cli import main
from tracediff.compare import AlignOptions, compare
from tracediff.trace import open_trace

PROGRAM = Path(__file__).parent / "programs" / "aligned.py"
VARIANTS = [
    *("base", "renamed", "automatic", "functional", "nested", "subclassed", "wider", "inserted"),
    *("turned", "towers", "mirrored", "inputs", "swapped", "heads", "fused", "gru", "gru-after"),
    *("dropped", "corrupted", "rebatched", "shuffled", "rows", "longer", "late", "restarted"),
    *("base-plain", "restarted-plain", "joined", "joined-otherwise", "joined-moved"),
    *("asked", "asked-late", "one-ulp", "speck", "prepared", "elsewhere-late", "adam", "adam-late"),
    *("normalised", "normalised-flat", "half", "half-large", "half-large-adam"),
    "half-scaled",
]
ONE = [
    *(("base", other) for other in ("renamed", "automatic", "functional", "nested", "subclassed")),
    *(("base", "turned"), ("turned", "base"), ("towers", "mirrored"), ("inputs", "swapped")),
    *(("heads", "fused"), ("fused", "heads"), ("base", "longer"), ("base", "late")),
    *(("late", "base"), ("base-plain", "restarted-plain")),
    *(("joined", "joined-otherwise"), ("joined-otherwise", "joined"), ("base", "prepared")),
]
STRUCTURE = (0, "loss", "loss")
EVERY_RUN = ("keras2.3", "keras3")
STACKS = [
    pytest.param(name, marks=[] if name in EVERY_RUN else [pytest.mark.exhaustive])
    for name in ORDINARY
]
# pair -> (step, stage, tensor) of the first divergence, and the code of the first cause
PARTING = {
    ("base", "wider"): (STRUCTURE, "model.structure"),
    ("base", "inserted"): (STRUCTURE, "model.structure"),
    ("inserted", "renamed"): (STRUCTURE, "model.structure"),
    ("gru", "gru-after"): (STRUCTURE, "layer.forward"),
    ("gru-after", "gru"): (STRUCTURE, "layer.forward"),
    ("base", "corrupted"): ((3, "data", "input/0"), "data.content"),
    ("renamed", "corrupted"): ((3, "data", "input/0"), "data.content"),
    ("base", "speck"): ((3, "data", "input/0"), "data.content"),
    ("base", "one-ulp"): ((3, "data", "input/0"), "data.content"),
    ("base", "dropped"): ((3, "data", "input/0"), "data.order"),
    ("base", "rebatched"): ((0, "data", "input/0"), "data.batching"),
    ("base", "shuffled"): ((6, "data", "input/0"), "data.order"),
    ("base", "rows"): ((6, "data", "input/0"), "data.order"),
    ("functional", "shuffled"): ((6, "data", "input/0"), "data.order"),
    ("longer", "rows"): ((6, "data", "input/0"), "data.order"),
    # The same rows in the wrong order, behind inputs in the right one.
    ("joined", "joined-moved"): ((0, "state", "out/kernel"), "init.draw"),
    # Compiled anew, the optimizer has forgotten its momentum.
    ("base", "restarted"): ((6, "state", "hidden/kernel/momentum"), "optimizer.slots"),
    # What was trained from other weights, in steps without a record, is no other draw.
    ("base", "elsewhere-late"): ((6, "state", "hidden/kernel"), "unexplained"),
}


ACROSS = [
    (("keras2.3", "renamed"), ("tf2.3", "subclassed")),
    (("keras2.3", "gru"), ("tf2.3", "gru")),
    (("tf2.3", "turned"), ("keras3", "functional")),
    (("tf2.3", "towers"), ("keras3", "mirrored")),
    (("keras3", "heads"), ("keras2.3", "fused")),
    (("keras2.3", "base"), ("keras3", "late")),
    (("tf2.3", "joined"), ("keras3", "joined-otherwise")),
    (("tf2.3", "base"), ("keras3", "prepared")),
    # Six updates lie behind the second run, whose roundings only the first has a record of.
    (("tf2.3", "adam"), ("keras3", "adam-late")),
    # Of what is not 4-D, both take the variance of the batch as it is.
    (("tf2.3", "normalised-flat"), ("keras3", "normalised-flat")),
    # The momentum of what has no gradient is noise already when the second run begins.
    (("tf2.3", "asked"), ("keras3", "asked-late")),
]
# What else tests of single pairs ask for.
BESIDE = {
    "keras2.3": ["gru"],
    "tf2.3": ["base", "gru-after", "normalised", "half", "half-large", "half-large-adam"],
    "keras3": [
        *("speck", "one-ulp", "normalised", "half", "half-large", "half-large-adam"),
        "half-scaled",
    ],
}


def trained_with(stack, variant):
    """The variants that are trained in one process where one of them is asked for.

    Most of what these tests take is training: of a stack whose own pairs are not of every run, the
    variants that only these pairs ask for wait until they do.
    """
    within = {one for pair in (*ONE, *PARTING) for one in pair}
    between = {one for pair in ACROSS for of, one in pair if of == stack}
    between.update(BESIDE.get(stack, ()))
    assert variant in within | between, f"BESIDE does not say that {stack} trains {variant}"
    if stack in EVERY_RUN:
        wanted = within | between
    else:
        wanted = between if variant in between else within - between
    return [one for one in VARIANTS if one in wanted]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Of each stack, where its traces are; recorded when they are first asked for."""
    paths: dict[tuple[str, str], Path] = {}

    def path(stack: str, variant: str) -> Path:
        if (stack, variant) not in paths:
            folder, variants = tmp_path_factory.mktemp(stack), trained_with(stack, variant)
            stack_or_skip(stack).run(PROGRAM, folder, *variants)
            paths.update({(stack, one): folder / f"{one}.zarr" for one in variants})
        return paths[stack, variant]

    return path


def first_place(comparison):
    first = comparison.first_divergence
    return None if first is None else (first.step, first.stage, first.tensor)


def assert_pairs_hold_the_same_numbers(a, b, comparison):
    """Whatever the pairing rests on: paired weights began with the same numbers."""
    runs = [open_trace(path).runs[0] for path in (a, b)]
    step = comparison.steps.offset
    for pair in comparison.pairs:
        if pair.role != "weight":
            continue
        values = []
        for run, name, layout in zip(
            runs, (pair.a, pair.b), (pair.layout_a, pair.layout), strict=True
        ):
            tensor = run.tensor("weight", name.partition("[")[0])
            begin = max(0, -step) if run is runs[0] else max(0, step)
            values.append(adapt(parse(layout), run.read(tensor, begin)))
        np.testing.assert_allclose(values[0], values[1], rtol=1e-6, atol=1e-6, err_msg=pair.name)


@pytest.mark.parametrize(("one", "other"), ONE, ids=map("-".join, ONE))
@pytest.mark.parametrize("stack", STACKS)
def test_one_training_written_in_two_ways_is_one(recorded, stack, one, other):
    a, b = recorded(stack, one), recorded(stack, other)
    comparison = compare(a, b)
    assert first_place(comparison) is None
    assert comparison.verdict in ("identical", "rounding")
    assert not [left for left in comparison.unpaired if left.matters]
    assert_pairs_hold_the_same_numbers(a, b, comparison)


@pytest.mark.parametrize(("one", "other"), PARTING, ids=map("-".join, PARTING))
@pytest.mark.parametrize("stack", STACKS)
def test_runs_part_where_they_were_made_to_whatever_they_call_it(recorded, stack, one, other):
    place, code = PARTING[one, other]
    comparison = compare(recorded(stack, one), recorded(stack, other))
    assert comparison.verdict == "diverged"
    assert first_place(comparison) == place
    assert comparison.causes[0].code == code


@pytest.mark.parametrize(("one", "other"), ACROSS, ids=str)
def test_one_training_on_two_stacks_is_one(recorded, one, other):
    a, b = recorded(*one), recorded(*other)
    comparison = compare(a, b)
    assert first_place(comparison) is None
    assert not [left for left in comparison.unpaired if left.matters]
    assert_pairs_hold_the_same_numbers(a, b, comparison)


def test_a_speck_is_found_across_stacks_where_a_last_place_may_be_another_library(recorded):
    a = recorded("tf2.3", "base")
    # GIVEN one element that is off by two millionths of the largest, and one by its last place
    speck, last = (compare(a, recorded("keras3", other)) for other in ("speck", "one-ulp"))
    # THEN no library prepares one sample otherwise by so much, but one by its last place may
    assert first_place(speck) == (3, "data", "input/0")
    assert speck.causes[0].code == "data.content"
    assert last.verdict == "rounding"
    (row,) = (one for one in last.drift if one.tensor == "input/0")
    assert (row.first_step, row.max_ulp) == (3, 1)


def test_a_factor_on_variances_is_found_where_the_moving_variance_hides_it(recorded):
    # GIVEN N / (N - 1) on the fused path of TensorFlow 2.3 alone, N = 80 and 40 values a channel,
    # and batches of which the variance is a hundredth of the moving one
    comparison = compare(recorded("tf2.3", "normalised"), recorded("keras3", "normalised"))
    assert first_place(comparison) == (0, "update", "bn/moving_variance")
    (cause,) = comparison.causes
    assert (cause.code, cause.change) == ("layer.state", "moving-variance")
    (line,) = (one for one in cause.evidence if "variances of the batches" in one)
    assert 1 - 1 / 40 < float(line.split(" are ")[1].split()[0]) < 1 - 1 / 81
    # AND the level of the table would have hidden it
    (row,) = (one for one in comparison.drift if one.tensor == "bn/moving_variance")
    assert row.relative_l2.first < 1e-5


def counted(path):
    run = open_trace(path).runs[0]
    counter = run.tensor("slot", "optimizer/iteration")
    return [int(run.read(counter, step, "after").item()) for step in range(run.steps)]


def test_a_scaled_loss_is_counted_by_the_optimizer_inside(recorded):
    # GIVEN mixed_float16, where Keras 3 has a counter around the optimizer's that nothing moves
    a, b = recorded("tf2.3", "half"), recorded("keras3", "half")
    assert counted(a) == counted(b) == list(range(1, 13))
    comparison = compare(a, b)
    assert comparison.verdict == "rounding"
    assert not [left for left in comparison.unpaired if left.matters]


def test_a_skipped_step_that_one_stack_counts_matters_where_the_counter_does(recorded):
    # GIVEN a first batch for which both stacks find gradients that are not finite
    a, b = recorded("tf2.3", "half-large"), recorded("keras3", "half-large")
    assert (counted(a)[0], counted(b)[0]) == (1, 0)
    # THEN SGD does not ask for the counter
    assert compare(a, b).verdict == "rounding"
    # AND Adam corrects by it
    a, b = recorded("tf2.3", "half-large-adam"), recorded("keras3", "half-large-adam")
    comparison = compare(a, b)
    assert first_place(comparison) == (0, "update", "optimizer/iteration")
    (cause, *_) = comparison.causes
    assert (cause.code, cause.subject, cause.a, cause.b) == (
        "optimizer.slots",
        "optimizer/iteration",
        1,
        0,
    )
    assert "skip" in cause.summary


def test_an_update_that_one_run_skips_is_a_divergence(recorded):
    # GIVEN a loss scaled by so much that float16 cannot hold it, in one run alone
    comparison = compare(recorded("tf2.3", "half"), recorded("keras3", "half-scaled"))
    assert comparison.verdict == "diverged"
    assert first_place(comparison)[:2] == (0, "gradient")
    assert (comparison.causes[0].code, comparison.causes[0].subject) == (
        "gradient.processing",
        "loss scale",
    )
    (scale,) = (one for one in comparison.causes if one.subject == "initial_scale")
    assert (scale.a, scale.b) == (2.0**15, 2.0**24)


def test_the_two_gru_of_the_migration_part_in_their_forward_pass(recorded):
    # GIVEN the default of Keras 2.3, and that of TensorFlow 2, from the same first weights
    comparison = compare(recorded("keras2.3", "gru"), recorded("tf2.3", "gru-after"))
    # THEN their biases are compared in one layout, and the cause is the setting
    assert first_place(comparison) == STRUCTURE
    assert comparison.causes[0].code == "layer.forward"
    assert "reset_after" in comparison.causes[0].summary
    (bias,) = (pair for pair in comparison.pairs if (pair.role, pair.a) == ("weight", "rnn/bias"))
    assert "A's (12,) bias against the sum of B's (2, 12) rows" in bias.reason
    assert bias.layout == ({"op": "sum", "axis": 0},)
    assert 0.8 < bias.confidence < 1.0


@pytest.mark.parametrize(
    ("one", "other", "by", "offset", "compared"),
    [
        ("base", "longer", "number", 0, 12),
        ("base", "late", "iteration", -6, 6),
        ("late", "base", "iteration", 6, 6),
        ("base-plain", "restarted-plain", "state", -6, 6),
        ("base", "shuffled", "number", 0, 12),
    ],
)
def test_what_steps_are_told_by_is_said(recorded, one, other, by, offset, compared):
    steps = compare(recorded("keras3", one), recorded("keras3", other)).steps
    assert (steps.alignment, steps.offset, steps.compared) == (by, offset, compared)
    assert (steps.reason is None) is (by == "number")


def test_steps_can_be_paired_by_their_batches(recorded):
    # GIVEN a run that lacks one batch an epoch
    a, b = recorded("keras3", "base"), recorded("keras3", "dropped")
    comparison = compare(a, b, align=AlignOptions(steps="batches"))
    # THEN it is the step after the missing batch at which the weights part
    assert comparison.steps.alignment == "batches"
    assert comparison.steps.compared == 10
    first = comparison.first_divergence
    assert (first.step, first.stage) == (4, "state")


def test_one_layer_more_leaves_the_others_with_their_partners(recorded):
    comparison = compare(recorded("keras3", "renamed"), recorded("keras3", "inserted"))
    found = {pair.a: pair.b for pair in comparison.pairs if pair.role == "weight"}
    assert found["fc1/kernel"] == "hidden/kernel"
    assert found["fc2/kernel"] == "middle/kernel"
    assert found["logits/kernel"] == "out/kernel"
    left = {(one.side, one.tensor) for one in comparison.unpaired if one.role == "weight"}
    assert left == {("b", "extra/kernel"), ("b", "extra/bias")}


def test_a_mapping_that_was_written_is_one_that_is_read(recorded, tmp_path, capsys):
    a, b = str(recorded("keras3", "heads")), str(recorded("keras3", "fused"))
    path = str(tmp_path / "map.json")
    assert main(["map", a, b, "-o", path]) == 0
    capsys.readouterr()
    # WHEN what was found by itself is given
    assert main(["compare", a, b, "--map", path, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    given = [pair for pair in found["pairs"] if "given by the mapping" in pair["reason"]]
    assert {"q/kernel", "k/bias", "v/kernel", "out/kernel"} <= {pair["a"] for pair in given}
    assert found["verdict"] == "identical"
