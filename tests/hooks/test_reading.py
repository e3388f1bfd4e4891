"""The state is read by one operation for each device: it gives what the framework itself gives.

What was read stays what it was, whatever is done to the variables afterwards.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.stacks import stack_or_skip
from support.ways import PROGRAMS

from tracediff_hooks.generations.optimizers import Optimizers

ROUNDS = 6
VARIABLES = 5
HEAVY = [pytest.param(name, marks=pytest.mark.exhaustive) for name in ("tf2.15", "tf-keras")]


@pytest.fixture(scope="module", params=["tf2.3", "keras3", *HEAVY])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    stack_or_skip(request.param).run(PROGRAMS / "reading.py", folder)
    return folder


@pytest.mark.parametrize("listed", ["plain", "odd"])
def test_what_is_read_is_what_the_framework_gives(folder, listed):
    # Given variables on two devices that a compiled step changes, densely and by rows
    with np.load(folder / f"{listed}.npz") as seen:
        for step in range(ROUNDS):
            for place in range(VARIABLES):
                # Then each reading is the value of that moment
                expected = seen[f"{step}/{place}/is"]
                assert np.array_equal(seen[f"{step}/{place}/read"], expected), (step, place)
                # and still is when all steps have run
                assert np.array_equal(seen[f"{step}/{place}/held"], expected), (step, place)
                # and each step has changed each of them
                if step:
                    assert not np.array_equal(seen[f"{step - 1}/{place}/is"], expected)


def test_variables_are_read_together_from_the_second_time_on(folder):
    singly = np.load(folder / "plain_singly.npy")
    assert singly.tolist() == [VARIABLES] + [0] * (ROUNDS - 1)


def test_a_variable_with_a_way_of_its_own_is_read_in_that(folder):
    singly = np.load(folder / "odd_singly.npy")
    assert singly.tolist() == [VARIABLES] * ROUNDS


def test_other_variables_are_not_taken_for_those_read_before(folder):
    assert np.load(folder / "turned.npy").tolist() == [True] * VARIABLES


class _Optimizer:
    def apply_gradients(self):
        """What an optimizer goes by."""


class _Model:
    def __init__(self):
        self.optimizer = _Optimizer()


def test_an_optimizer_put_in_place_of_another_is_found():
    # Given a model whose optimizers were asked for
    model = _Model()
    found = Optimizers(model)
    assert found((), set()) == [("optimizer", model.optimizer)]
    # When it gets another one, and one more
    model.optimizer = _Optimizer()
    model.second = _Optimizer()
    # Then these are found
    both = [("optimizer", model.optimizer), ("second", model.second)]
    assert found((), set()) == both
    # and of them the one that was seen to update the model
    assert found((), {id(model.second)}) == both[1:]
    # and one that the model does not hold
    other = ("optimizer_2", _Optimizer())
    assert found((other,), set()) == [*both, other]
    assert found((), set()) == both
