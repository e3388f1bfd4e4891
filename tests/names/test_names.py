"""Spellings of settings and classes."""

import pytest

from tracediff.names import optimizer_class, optimizer_settings, same_setting


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (0.1, 0.10000000149011612),
        ("keras.activations.relu", "relu"),
        (
            {"class_name": "L2", "config": {"l2": 0.01}},
            {"class_name": "L2", "config": {"l2": 0.01}},
        ),
        ("glorot_uniform", {"class_name": "GlorotUniform", "config": {"seed": None}}),
        ([2, 2], (2, 2)),
        (True, True),
        (float("nan"), float("nan")),
        ({"l2": 0.1, "name": "a"}, {"l2": 0.1, "name": "b", "module": "keras"}),
    ],
)
def test_settings_that_mean_the_same(a, b):
    assert same_setting(a, b)
    assert same_setting(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1e-7, 1e-8),
        ("relu", "tanh"),
        ("sigmoid", "hard_sigmoid"),
        ([2, 2], [2, 3]),
        (True, False),
        (None, 0.5),
        ({"l2": 0.1}, {"l2": 0.2}),
    ],
)
def test_settings_that_differ(a, b):
    assert not same_setting(a, b)
    assert not same_setting(b, a)


def test_optimizers_are_spelled_one_way():
    assert optimizer_class("keras.src.optimizers.rmsprop.RMSprop") == optimizer_class("RMSProp")
    assert optimizer_class("Adam") != optimizer_class("AdamW")


def test_inert_settings_are_as_if_not_there():
    old = {"name": "SGD", "lr": 0.1, "momentum": 0.0, "decay": 0.0, "nesterov": False}
    new = {"name": "sgd", "learning_rate": 0.1, "clipnorm": None, "weight_decay": None}
    assert optimizer_settings(old) == optimizer_settings(new) == {"learning_rate": 0.1}
    assert optimizer_settings({"momentum": 0.9}) == {"momentum": 0.9}
