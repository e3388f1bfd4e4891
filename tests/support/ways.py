"""What the tests of ways of training hold traces against: data, a witness, and numpy.

The programs train a model of 3 inputs, 4 tanh units and 2 outputs by SGD on the mean squared error,
whose step is written down once more here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tracediff
from support.stacks import flavours, stack_or_skip

PROGRAMS = Path(__file__).resolve().parents[1] / "hooks" / "programs"
ALL = ("keras2.3", "tf1.15", "tf2.3", "tf2.15", "tf-keras", "keras3", "keras3-jax", "keras3-torch")
GRAPH = ("keras2.3", "tf1.15")
TF_KERAS = ("tf2.3", "tf2.15", "tf-keras")
TF2 = ("tf2.3", "tf2.15", "tf-keras", "keras3")
KERAS3 = ("keras3", "keras3-jax", "keras3-torch")
AFTER_GRAPHS = ("tf2.3", "tf2.15", "tf-keras", "keras3", "keras3-jax", "keras3-torch")
WEIGHTS = ("hidden/kernel", "hidden/bias", "out/kernel", "out/bias")
RATE = 0.25


def only(*names: str) -> Any:
    """For a way that the other flavours do not have."""
    return pytest.mark.parametrize("ways", flavours(*names), indirect=True, scope="module")


class Way(NamedTuple):
    """What one way of training left behind."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    trace: Path

    @property
    def runs(self):
        return tracediff.open_trace(self.trace).runs

    @property
    def run(self):
        assert len(self.runs) == 1
        return self.runs[0]

    def seen(self, moment, step):
        """The weights the witness saw before or after a step; none where there were none yet."""
        prefix = f"{moment}/{step}/"
        return [self.arrays[prefix + str(i)] for i in range(4) if prefix + str(i) in self.arrays]


class Ways:
    """Every way of a program in one flavour, trained in one process."""

    def __init__(self, program, flavour, folder, *names):
        self.flavour = flavour
        self.folder = folder
        stack = stack_or_skip(flavour)
        done = stack.run(PROGRAMS / program, flavour, folder, *names, timeout=1800)
        self.answers = json.loads(done.stdout)

    def __getitem__(self, name):
        facts = self.answers.get(name, {})
        assert "error" not in facts, facts["error"]
        with np.load(self.folder / f"{name}.npz") as arrays:
            return Way(facts, dict(arrays), self.folder / f"{name}.zarr")


def values(run, role, name):
    return [run.read(run.tensor(role, name), step) for step in range(run.steps)]


def batches_of(*arrays):
    """Two epochs of the arrays' rows, in order, in batches of eight and a partial one."""
    return [tuple(a[start : start + 8] for a in arrays) for start in (0, 8, 16)] * 2


def problem(rows=22, seed=5):
    """The data of the programs, see training_kit.py: rows that all differ, and their labels."""
    stream = np.random.RandomState(seed)
    x = stream.uniform(-1, 1, (rows, 3)).astype("float32")
    y = np.stack([x.sum(axis=1), x[:, 0] - x[:, 2]], axis=1).astype("float32")
    return x, y


class Expected(NamedTuple):
    loss: float
    gradients: list[np.ndarray]
    after: list[np.ndarray]


def one_step(weights, x, y, sample_weight=None, rate=RATE):
    """A step of SGD on the mean squared error of an MLP with tanh, in float64."""
    k1, b1, k2, b2 = (w.astype(np.float64) for w in weights)
    hidden = np.tanh(x @ k1 + b1)
    error = hidden @ k2 + b2 - y
    share = np.ones(len(x)) if sample_weight is None else sample_weight.astype(np.float64)
    loss = np.mean(share * np.mean(error**2, axis=1))
    d_out = 2 * error * share[:, None] / error.size
    d_hidden = d_out @ k2.T * (1 - hidden**2)
    gradients = [x.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_out, d_out.sum(axis=0)]
    after = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    return Expected(float(loss), gradients, after)


def close(actual, expected):
    return np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def assert_true(
    way,
    run=None,
    *,
    steps=6,
    offset=0,
    rates=None,
    frozen=(),
    gradients=True,
    loss=True,
    witnessed=True,
):
    """Every step of a run holds what the witness saw, and follows from what it was given."""
    run = run or way.run
    assert run.status == "complete"
    assert run.steps == steps
    for step in range(steps):
        before = [run.read(run.tensor("weight", name), step) for name in WEIGHTS]
        after = [run.read(run.tensor("weight", name), step, "after") for name in WEIGHTS]
        seen = way.seen("before", offset + step)
        witnessed_after = way.seen("after", offset + step)
        assert seen or step == 0 or not witnessed
        for name, recorded, known in zip(WEIGHTS, before, seen, strict=False):
            assert np.array_equal(recorded, known), f"{name} before step {step}"
        for name, recorded, known in zip(WEIGHTS, after, witnessed_after, strict=False):
            assert np.array_equal(recorded, known), f"{name} after step {step}"
        x = run.read(run.tensor("input", "input/0"), step)
        y = run.read(run.tensor("label", "label/0"), step)
        weight = run.find("sample_weight", "sample_weight/0")
        weight = run.read(weight, step) if weight else None
        rate = rates[step] if rates else RATE
        expected = one_step(before, x, y, weight, rate)
        if loss:
            close(run.read(run.tensor("loss", "loss"), step), expected.loss)
        close(run.read(run.tensor("learning_rate", "optimizer/learning_rate"), step), rate)
        for place, name in enumerate(WEIGHTS):
            if name in frozen:
                assert np.array_equal(after[place], before[place])
                continue
            close(after[place], expected.after[place])
            if gradients:
                for role in ("gradient", "applied_gradient"):
                    close(run.read(run.tensor(role, name), step), expected.gradients[place])


def assert_batches(run, expected):
    assert run.steps == len(expected)
    for step, (x, y) in enumerate(expected):
        assert np.array_equal(run.read(run.tensor("input", "input/0"), step), x), step
        assert np.array_equal(run.read(run.tensor("label", "label/0"), step), y), step
