"""Initialisers are recognised by the values they draw, and by what configurations say."""

import numpy as np
import pytest

from tracediff.diagnose.initialisers import (
    configured,
    describe,
    fans,
    fitting,
    likeness,
    orthogonal,
    rejected,
    same,
)

SHAPE = (60, 40)


def drawn(name, shape=SHAPE, seed=0):
    """Draws as Keras defines its named initialisers, by an independent formula."""
    generator = np.random.default_rng(seed)
    into, out = fans(shape)
    variance = {
        "glorot": 2 / (into + out),
        "he": 2 / into,
        "lecun": 1 / into,
    }[name.split("_")[0]]
    if name.endswith("uniform"):
        return generator.uniform(-((3 * variance) ** 0.5), (3 * variance) ** 0.5, shape)
    values = generator.normal(size=4 * int(np.prod(shape)))
    values = values[np.abs(values) < 2][: int(np.prod(shape))]
    return (values / 0.8796256610342398 * variance**0.5).reshape(shape)


NAMES = [f"{who}_{law}" for who in ("glorot", "he", "lecun") for law in ("uniform", "normal")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(60, 40), (3, 3, 8, 16), (5, 80)])
def test_the_initialiser_of_a_draw_is_the_first_that_fits(name, shape):
    # given
    values = drawn(name, shape, seed=len(name) + shape[0])
    # then
    assert name in [one for one, _ in fitting(values.reshape(-1), shape)]


@pytest.mark.parametrize(
    ("one", "other"), [("glorot_uniform", "he_normal"), ("he_uniform", "lecun_uniform")]
)
def test_draws_of_two_initialisers_are_told_apart(one, other):
    # when
    probability, _ = likeness(drawn(one).reshape(-1), drawn(other, seed=1).reshape(-1))
    # then
    assert probability < 1e-6


def test_two_draws_of_one_initialiser_are_rarely_told_apart():
    # when
    found = [
        likeness(
            drawn("glorot_uniform", (12, 10), 2 * seed).reshape(-1),
            drawn("glorot_uniform", (12, 10), 2 * seed + 1).reshape(-1),
        )[0]
        for seed in range(200)
    ]
    # then fewer than one in fifty below a hundredth
    assert sum(one < 0.01 for one in found) <= 6


def test_another_spread_is_seen_in_few_elements():
    # given 120 elements, where Kolmogorov-Smirnov sees little
    generator = np.random.default_rng(3)
    a, b = generator.uniform(-0.05, 0.05, 120), generator.normal(0.0, 0.05, 120)
    # then
    assert likeness(a, b)[0] < 1e-3


def test_orthogonal_weights_are_recognised():
    # given
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))
    # then
    assert orthogonal(q[:5])
    assert orthogonal(2.0 * q)
    assert not orthogonal(drawn("glorot_uniform", (5, 20)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Keras 2.3's own spelling against the later ones
        (
            {
                "class_name": "VarianceScaling",
                "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform"},
            },
            {"class_name": "GlorotUniform", "config": {"seed": 3}},
        ),
        (
            {
                "class_name": "VarianceScaling",
                "config": {"scale": 2.0, "mode": "fan_in", "distribution": "normal"},
            },
            "he_normal",
        ),
        ({"class_name": "Zeros", "config": {}}, "zeros"),
    ],
)
def test_one_distribution_under_two_spellings_is_the_same(one, other):
    # then
    assert same(configured(one, SHAPE), configured(other, SHAPE))


def test_another_stddev_is_another_distribution():
    # given
    one, other = (
        configured({"class_name": "RandomNormal", "config": {"stddev": spread}}, SHAPE)
        for spread in (0.05, 0.1)
    )
    # then
    assert not same(one, other)
    assert not rejected(0.05 * np.random.default_rng(0).normal(size=400), SHAPE, one)
    assert rejected(0.05 * np.random.default_rng(0).normal(size=400), SHAPE, other)


def test_blocks_of_constants_are_described_as_such():
    # given the bias of an LSTM with its forget gate at one
    bias = np.zeros(20)
    bias[5:10] = 1.0
    # then
    assert describe(bias, (20,)) == "15 are 0, 5 are 1"
