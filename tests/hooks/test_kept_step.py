"""A model that draws random numbers draws the same in all its fits, whichever are recorded."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.stacks import stack_or_skip

import tracediff

PROGRAM = Path(__file__).parent / "programs" / "fits_with_dropout.py"
SAME = {
    # case: steps of each run of each trace
    "callback callback": [[12]],
    "callback plain": [[6]],
    "block plain": [[6]],
    "block block": [[6], [6]],
    "callback short": [[10]],
    "callback compile callback": [[6, 6]],
    "block-compile plain": [[6, 6]],
    "callback fails plain": [[8]],
    "block other block": [[6], [6]],
    "replicas callback callback": [[12]],
    "replicas callback plain": [[6]],
    "replicas block other block": [[6], [6]],
    "groups callback callback": [[12]],
    "groups callback plain": [[6]],
}
STREAMS = ("tf2.3", "tf2.15", "tf-keras")
"""Stacks whose random operations have streams of their own; Keras 3 has seeds in variables."""


@pytest.fixture(
    scope="module",
    params=[
        "tf2.3",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in ("tf2.15", "tf-keras", "keras3")
        ),
    ],
)
def fits(request, tmp_path_factory):
    """The stack's name, what its program found, what it said, and where its weights are."""
    folder = tmp_path_factory.mktemp("fits")
    done = stack_or_skip(request.param).run(PROGRAM, folder)
    return request.param, json.loads(done.stdout.splitlines()[-1]), done.stderr, folder


@pytest.mark.parametrize("case", SAME)
def test_later_fits_draw_what_they_would_without_the_recorder(fits, case):
    # Given several fits of a model with dropout, some of which are recorded
    name, found, _, folder = fits
    if name == "tf2.3" and case.startswith("groups"):
        pytest.skip("the function of TensorFlow 2.3 for several steps has streams of its own")
    # When they are trained without the recorder, too, which gives the same weights every time,
    assert found[case]["again"] == 0.0
    # then so do they with the recorder, bit for bit,
    assert found[case]["recorded"] == 0.0
    # and what was recorded is all there,
    runs = [tracediff.open_trace(path).runs for path in found[case]["traces"]]
    assert [[run.steps for run in some] for some in runs] == SAME[case]
    for run in (run for some in runs for run in some):
        assert not [event for event in run.about["events"] if event["kind"] == "disturbs"]
        assert {t.role for t in run.tensors} >= {"weight", "slot", "gradient", "input", "loss"}
        kernel = run.find("weight", "dense/kernel")
        for step in range(1, run.steps):
            before = run.read(kernel, step - 1, "after")
            assert np.array_equal(before, run.read(kernel, step)) or case == "block-compile plain"
    # up to the weights in the end, where they end with a recorded fit
    if not case.endswith("plain"):
        with np.load(folder / (case.replace(" ", "_") + ".npz")) as ends:
            last = runs[-1][-1]
            for name, end in zip(("dense/kernel", "dense/bias"), ends.values(), strict=False):
                recorded = last.read(last.find("weight", name), last.steps - 1, "after")
                assert np.array_equal(recorded, end)


def test_where_other_numbers_are_drawn_that_is_said(fits):
    # Given a model with dropout that was trained before it is recorded, or is recorded with more
    # outputs than before, so that the step has to be compiled anew
    name, found, _, _ = fits
    for case in ("plain callback", "callback outputs"):
        assert found[case]["again"] == 0.0
        run = tracediff.open_trace(found[case]["traces"][-1]).runs[-1]
        said = [event for event in run.about["events"] if event["kind"] == "disturbs"]
        # Then that draws other numbers where operations have streams of their own, and is said
        assert (found[case]["recorded"] > 0.0) == bool(said) == (name in STREAMS)


@pytest.mark.parametrize("case", ["groups callback callback", "groups callback plain"])
def test_where_groups_of_steps_draw_other_numbers_that_is_said(fits, case):
    # Given fits of several steps an execution
    name, found, _, _ = fits
    assert found[case]["again"] == 0.0
    (run,) = tracediff.open_trace(found[case]["traces"][0]).runs
    said = [event for event in run.about["events"] if event["kind"] == "disturbs"]
    # Then those of TensorFlow 2.3 draw other numbers while they are recorded and afterwards, and
    # the trace says both; on other stacks nothing is said and none are drawn
    assert (found[case]["recorded"] > 0.0) == bool(said) == (name == "tf2.3")
    assert all("in fits after that" in event["message"] for event in said)
