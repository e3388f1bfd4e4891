"""Every pair of stacks, every model, every optimizer: what a controlled run leaves over."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from support.stacks import stack_or_skip

import tracediff
from tracediff.compare import compare

PROGRAM = Path(__file__).parent / "programs" / "replayed.py"
STACKS = ("keras2.3", "tf2.3", "keras3")
MODELS = ("mlp", "cnn", "lstm", "gru")
RULES = ("Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "momentum", "nesterov")
CHANGED = {
    # docs/forensics.md: the epsilon of RMSprop and Adagrad under the root, the schedule of Nadam
    frozenset(("keras2.3", "keras3")): {"RMSprop", "Adagrad", "Nadam"},
    frozenset(("tf2.3", "keras3")): {"RMSprop", "Adagrad", "Nadam"},
    frozenset(("keras2.3", "tf2.3")): set(),
}
OTHERS = ("tf1.15", "tf2.15", "tf-keras", "keras3-torch", "keras3-jax")
CELLS = [f"mlp:{rule}" for rule in RULES]
CELLS += [f"{model}:{rule}" for model in MODELS[1:] for rule in ("RMSprop", "Adagrad", "Nadam")]
RACES = {"Adam", "Adamax", "Nadam"}
"""Whose step counter Keras 2.3 reads in a race: its steps are one rule or the other."""

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Every cell on every stack, controlled by nothing: stack -> folder."""
    folders = {}
    for name in STACKS:
        folders[name] = tmp_path_factory.mktemp(name)
        cells = [f"{model}:sgd" for model in MODELS] + CELLS
        stack_or_skip(name).run(PROGRAM, folders[name], 1, "-", *cells, timeout=1800)
    return folders


@pytest.fixture(scope="module", params=list(itertools.permutations(STACKS, 2)), ids="<-".join)
def pair(request, recorded, tmp_path_factory):
    """The stack that replays, the one it replays, and the folders of both."""
    here, there = request.param
    folder = tmp_path_factory.mktemp(f"{here}-replays-{there}")
    cells = [f"{model}:sgd:both" for model in MODELS]
    cells += [f"{cell}:lockstep" for cell in CELLS]
    stack_or_skip(here).run(PROGRAM, folder, 2, recorded[there], *cells, timeout=1800)
    return here, there, recorded[there], folder


@pytest.mark.parametrize("model", MODELS)
def test_with_sgd_controlled_runs_agree_to_rounding(pair, model):
    _, _, a, b = pair
    found = compare(a / f"{model}-sgd.zarr", b / f"{model}-sgd-both.zarr")
    if model == "cnn" and not found.agree:
        assert {row.tensor for row in found.drift if row.origin} == {"bn/moving_variance"}
    else:
        assert found.agree, found.first_divergence


@pytest.mark.parametrize("cell", CELLS)
def test_in_lockstep_the_update_is_the_only_origin_at_every_step(pair, cell):
    here, there, a, b = pair
    model, _, rule = cell.partition(":")
    found = compare(a / f"{model}-{rule}.zarr", b / f"{model}-{rule}-lockstep.zarr")
    stages = {one.stage: (one.steps, one.origin_steps) for one in found.lockstep.stages}
    update = stages.pop("update")
    assert set(stages.values()) == {(0, 0)}
    changed = rule in CHANGED[frozenset((here, there))]
    # Each stack corrects the variance of a batch by another factor.
    known = {"bn/moving_variance"} if model == "cnn" else set()
    if changed:
        assert update == (6, 6)
        assert "optimizer.rule" in [cause.code for cause in found.causes]
        assert {one.tensor for one in found.lockstep.errors if one.role == "weight"} - known
    elif not (rule in RACES and "keras2.3" in (here, there)):
        assert {one.tensor for one in found.lockstep.errors} == known, found.first_divergence
        assert update == ((6, 6) if known else (0, 0))
    run = tracediff.open_trace(b / f"{model}-{rule}-lockstep.zarr").runs[0]
    assert run.steps == 6


# --- the other stacks


@pytest.fixture(scope="module", params=OTHERS)
def other(request, recorded, tmp_path_factory):
    """Runs of another stack that replay those of Keras 2.3."""
    folder = tmp_path_factory.mktemp(request.param)
    cells = [f"{model}:sgd:both" for model in MODELS] + ["mlp:RMSprop:lockstep"]
    source = recorded["keras2.3"]
    stack_or_skip(request.param).run(PROGRAM, folder, 2, source, *cells, timeout=1800)
    return request.param, source, folder


@pytest.mark.parametrize("model", MODELS)
def test_other_stacks_replay_to_rounding_too(other, model):
    _, a, b = other
    found = compare(a / f"{model}-sgd.zarr", b / f"{model}-sgd-both.zarr")
    if model == "cnn" and not found.agree:
        assert {row.tensor for row in found.drift if row.origin} == {"bn/moving_variance"}
    else:
        assert found.agree, found.first_divergence


def test_other_stacks_are_kept_in_lockstep_too(other):
    name, a, b = other
    found = compare(a / "mlp-RMSprop.zarr", b / "mlp-RMSprop-lockstep.zarr")
    stages = {one.stage: (one.steps, one.origin_steps) for one in found.lockstep.stages}
    # tf.keras of TensorFlow 1.15 has the epsilon where Keras 2.3 has it.
    assert stages.pop("update") == ((0, 0) if name == "tf1.15" else (6, 6))
    assert set(stages.values()) == {(0, 0)}
