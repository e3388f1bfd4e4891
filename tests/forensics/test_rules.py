"""Laws that the numpy rules obey, whatever numbers they are given."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tracediff.forensics import SHELF, Outcome, Rule, Update

SIZE = 6
VALUES = arrays(np.float64, SIZE, elements=st.floats(-2.0, 2.0, width=32))
SIZES = arrays(np.float64, SIZE, elements=st.floats(0.015625, 2.0, width=32))
RULES = {rule.key: rule for rule in SHELF}
SLOTS = sorted({slot for rule in SHELF for slot in rule.slots})
SQUARES = ("rms", "accumulator", "accum_grad", "accum_var", "v", "vhat", "u")
FEW = settings(max_examples=15, deadline=None)  # The laws hold for each element apart
ALL = pytest.mark.parametrize("rule", SHELF, ids=[rule.key for rule in SHELF])


@st.composite
def updates(draw, *, zero: bool = False) -> Update:
    gradient = draw(VALUES) * (0.0 if zero else 1.0)
    slots = {}
    for slot in SLOTS:
        # A mean square is not below the square of the mean, which is below 4.
        slots[slot] = draw(SIZES) + 4.0 if slot in SQUARES else draw(VALUES)
        if zero and slot not in SQUARES:
            slots[slot] = np.zeros(SIZE)
    return Update(
        weight=draw(VALUES),
        gradient=gradient,
        square=gradient * gradient,
        magnitude=np.abs(gradient),
        slots=slots,
        shared={},
        rate=draw(st.floats(1e-3, 0.5)),
        count=float(draw(st.integers(1, 40))),
        dtype="float64",
    )


def computed(rule: Rule, update: Update, **settings: float) -> Outcome:
    return rule.formula(update, {**rule.defaults, **settings})


def arranged(update: Update, order: list[int]) -> Update:
    return dataclasses.replace(
        update,
        weight=update.weight[order],
        gradient=update.gradient[order],
        square=update.square[order],
        magnitude=update.magnitude[order],
        slots={name: values[order] for name, values in update.slots.items()},
    )


@ALL
@FEW
@given(update=updates(), order=st.permutations(range(SIZE)))
def test_elements_do_not_see_each_other(rule, update, order):
    straight, arranged_too = computed(rule, update), computed(rule, arranged(update, order))
    assert np.array_equal(straight.change[order], arranged_too.change)
    for name, values in straight.slots.items():
        assert np.array_equal(values[order], arranged_too.slots[name])


@ALL
@FEW
@given(update=updates())
def test_a_rule_moves_the_slots_that_it_names(rule, update):
    assert computed(rule, update).slots.keys() == set(rule.slots)


@ALL
@FEW
@given(update=updates(zero=True))
def test_without_gradient_and_momentum_nothing_moves(rule, update):
    if rule.family == "ftrl":
        return  # Solves for the weight anew at every step
    assert np.all(computed(rule, update).change == 0.0)


@ALL
@FEW
@given(update=updates())
def test_precision_changes_rounding_only(rule, update):
    if rule.family in ("ftrl", "lion"):
        return  # One divides by small differences, the other takes signs
    exact = computed(rule, update)
    narrow = {
        field: getattr(update, field).astype(np.float32)
        for field in ("weight", "gradient", "square", "magnitude")
    }
    slots = {name: values.astype(np.float32) for name, values in update.slots.items()}
    rough = computed(rule, dataclasses.replace(update, **narrow, slots=slots))
    assert rough.change.dtype == np.float32
    assert np.allclose(rough.change, exact.change, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sgd, momentum", "sgd"),
        ("sgd, nesterov", "sgd"),
        ("sgd, momentum of gradients", "sgd"),
        ("sgd, nesterov of gradients", "sgd"),
        ("rmsprop, momentum", "rmsprop, epsilon inside"),
        ("rmsprop, centered, momentum", "rmsprop, centered, epsilon inside"),
    ],
)
@FEW
@given(update=updates())
def test_momentum_zero_is_no_momentum(one, other, update):
    with_momentum = computed(RULES[one], update, momentum=0.0).change
    assert np.allclose(with_momentum, computed(RULES[other], update).change, rtol=1e-12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rmsprop, epsilon inside", "rmsprop, epsilon outside"),
        ("rmsprop, centered, epsilon inside", "rmsprop, centered, epsilon outside"),
        ("adagrad, epsilon inside", "adagrad, epsilon outside"),
        ("adagrad, epsilon inside", "adagrad, no epsilon"),
        ("adam", "adam, epsilon after correction"),
    ],
)
@FEW
@given(update=updates())
def test_without_epsilon_its_place_does_not_matter(one, other, update):
    changes = [computed(RULES[key], update, epsilon=0.0).change for key in (one, other)]
    assert np.allclose(*changes, rtol=1e-9)


@FEW
@given(update=updates())
def test_the_place_of_epsilon_matters_where_gradients_are_small(update):
    slots = {**update.slots, "rms": np.zeros(SIZE)}
    tiny = np.full(SIZE, 1e-4)
    small = dataclasses.replace(update, slots=slots, gradient=tiny, square=tiny * tiny)
    inside, outside = (
        computed(RULES[f"rmsprop, epsilon {place}"], small).change
        for place in ("inside", "outside")
    )
    # sqrt(1e-9 + 1e-7) against sqrt(1e-9) + 1e-7
    assert np.allclose(inside / outside, (3.1622776e-5 + 1e-7) / 3.1780497e-4, rtol=1e-5)


@FEW
@given(update=updates())
def test_amsgrad_is_never_longer_than_adam(update):
    adam, amsgrad = computed(RULES["adam"], update), computed(RULES["adam, amsgrad"], update)
    assert np.all(np.abs(amsgrad.change) <= np.abs(adam.change))
    assert np.all(amsgrad.slots["vhat"] >= update.slots["vhat"])


@FEW
@given(update=updates())
def test_the_first_step_of_adam_has_the_length_of_the_rate(update):
    slots = {name: np.zeros(SIZE) for name in SLOTS}
    gradient = np.where(update.gradient == 0.0, 1.0, update.gradient)
    first = dataclasses.replace(
        update, slots=slots, gradient=gradient, square=gradient * gradient, count=1.0
    )
    change = computed(RULES["adam"], first, epsilon=0.0).change
    assert np.allclose(change, -update.rate * np.sign(gradient), rtol=1e-6)


@FEW
@given(update=updates())
def test_the_scaled_slot_of_ftrl_changes_no_weight(update):
    scaled = {**update.slots, "linear": update.slots["linear"] * update.rate}
    one = computed(RULES["ftrl"], update)
    other = computed(RULES["ftrl, linear times lr"], dataclasses.replace(update, slots=scaled))
    assert np.allclose(one.change, other.change, rtol=1e-6, atol=1e-9)


def test_keys_are_unique_and_every_rule_cites_its_source():
    assert len(RULES) == len(SHELF)
    for rule in SHELF:
        assert any(mark in rule.source for mark in (".py", ".cc", "as `")), rule.key
        assert rule.stacks, rule.key
