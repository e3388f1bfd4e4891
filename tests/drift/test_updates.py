"""Updates of a weight: what differs beyond what went in differently."""

import numpy as np
import pytest

from tracediff.drift import measure_update


@pytest.fixture
def weight():
    return np.random.default_rng(0).normal(size=(20, 30))


@pytest.fixture
def gradient():
    return np.random.default_rng(1).normal(size=(20, 30))


def test_equal_updates_of_different_weights_do_not_differ(weight, gradient):
    other = weight + 1.0
    drift = measure_update((weight, weight - gradient), (other, other - gradient))
    assert drift.norm_difference < 1e-12
    assert drift.norm == pytest.approx(np.linalg.norm(gradient))


def test_a_difference_of_equal_inputs_is_unexplained(weight, gradient):
    drift = measure_update(
        (weight, weight - 0.1 * gradient),
        (weight, weight - 0.1001 * gradient),
        gradient=(gradient, gradient),
    )
    assert drift.unexplained == pytest.approx(1e-4 * np.linalg.norm(gradient), rel=1e-6)
    assert drift.noise == 0.0


def test_a_difference_in_proportion_to_the_gradient_is_explained(weight, gradient):
    other = gradient * 1.01
    drift = measure_update(
        (weight, weight - gradient), (weight, weight - other), gradient=(gradient, other)
    )
    assert drift.norm_difference > 0.0
    assert drift.unexplained < 1e-9


def test_a_difference_in_proportion_to_a_slot_is_explained(weight, gradient):
    slot, other = gradient, gradient * 1.001
    drift = measure_update((weight, weight - slot), (weight, weight - other), slots=[(slot, other)])
    assert drift.unexplained < 1e-9


def test_elements_whose_gradient_is_noise_are_counted_apart(weight, gradient):
    tiny = gradient.copy()
    tiny[0, 0] = 1e-8
    other = tiny.copy()
    other[0, 0] = -1e-8
    drift = measure_update(
        (weight, weight - 0.01 * np.sign(tiny)),
        (weight, weight - 0.01 * np.sign(other)),
        gradient=(tiny, other),
    )
    assert drift.noise == pytest.approx(0.02)
    assert drift.unexplained < 1e-9
