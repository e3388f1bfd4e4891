"""What recorded layer outputs are held against: the layers of two models, in numpy.

The models are those of tests/hooks/programs: the small one of support/ways.py, and one with a model
inside, which is called twice as one of its layers is.
"""

from __future__ import annotations

import numpy as np

from support.ways import close

LAYERS = ("inner/first", "inner/second", "shared", "drop", "out")


def forward(read):
    """The outputs of the nested model in execution order, by numpy from recorded weights."""

    def dense(layer, x):
        return x @ read(f"{layer}/kernel") + read(f"{layer}/bias")

    def inner(x, number):
        suffix = f"/call_{number}" if number else ""
        first = np.tanh(dense("inner/first", x))
        second = dense("inner/second", first)
        found.append(("inner/first" + suffix, first))
        found.append(("inner/second" + suffix, second))
        return second

    found = []
    h = inner(read("input"), 0)
    for name in ("shared", "shared/call_1"):
        h = dense("shared", h)
        found.append((name, h))
    inner(h, 1)
    return found


def assert_outputs(run, names, *, steps=6):
    recorded = sorted((t for t in run.tensors if t.role == "activation"), key=lambda t: t.order)
    assert [t.name for t in recorded] == names
    for step in range(steps):

        def read(name, step=step):
            role = "input" if name == "input" else "weight"
            return run.read(run.tensor(role, "input/0" if role == "input" else name), step)

        expected = dict(forward(read))
        for tensor in recorded:
            if tensor.name in expected:
                close(run.read(tensor, step), expected[tensor.name])


CALLS = [
    "inner/first", "inner/second", "shared", "shared/call_1", "inner/first/call_1",
    "inner/second/call_1", "drop", "out",
]  # fmt: skip


def assert_hidden(run):
    assert run.steps == 6
    for step in range(6):
        kernel, bias = (run.tensor("weight", f"hidden/{name}") for name in ("kernel", "bias"))
        x = run.read(run.tensor("input", "input/0"), step)
        hidden = np.tanh(x @ run.read(kernel, step) + run.read(bias, step))
        close(run.read(run.tensor("activation", "hidden"), step), hidden)
