"""Every case of the bench: known changes between versions, injected faults, and nothing at all."""

from __future__ import annotations

from typing import Any

from causes.case import Case, Place, Recorded

K23, TF1, TF23, K3 = "keras2.3", "tf.keras1.15", "tf2.3", "keras3"
"""The stacks; tf.keras of 1.15 lives in the environment of Keras 2.3."""

SGD = ["SGD", {"learning_rate": 0.05}]
MOMENTUM = ["SGD", {"learning_rate": 0.05, "momentum": 0.9}]
ADAM = ["Adam", {"learning_rate": 0.01}]
RMSPROP = ["RMSprop", {"learning_rate": 0.005}]

DATA: Place = (0, "data", "input", "input/0")
LOSS: Place = (0, "loss", "loss", "loss")
RATE: Place = (0, "update", "learning_rate", "optimizer/learning_rate")
RULE = "optimizer.rule"
SETTING = "optimizer.hyperparameter"


def _recorded(stack: str, run: dict[str, Any]) -> Recorded:
    if stack == TF1:
        return Recorded(K23, {**run, "keras": "tensorflow"})
    return Recorded(stack, run)


def injected(
    name: str,
    stack: str,
    code: str,
    first: Place | None,
    *,
    b: dict[str, Any],
    a: dict[str, Any] | None = None,
    subject: str | None = None,
    also: tuple[str, ...] = (),
    **base: Any,
) -> Case:
    """Returns a case within one stack: B is A but for the keys in `b`."""
    left, right = {**base, **(a or {})}, {**base, **b}
    return Case(
        f"{stack}: {name}",
        _recorded(stack, left),
        _recorded(stack, right),
        first,
        code,
        subject,
        also,
    )


def across(
    name: str,
    old: str,
    new: str,
    code: str,
    first: Place | None,
    *,
    b: dict[str, Any] | None = None,
    subject: str | None = None,
    also: tuple[str, ...] = (),
    **base: Any,
) -> Case:
    """Returns a case between two stacks: the same run on both, but for the keys in `b`."""
    return Case(
        f"{old} to {new}: {name}",
        _recorded(old, dict(base)),
        _recorded(new, {**base, **(b or {})}),
        first,
        code,
        subject,
        also,
    )


def repeated(name: str, stack: str, **base: Any) -> Case:
    """Returns a case of two recordings of one run."""
    run = _recorded(stack, dict(base))
    return Case(f"{stack}: {name}, repeated", run, run, None, "", repeat=True)


def _update(tensor: str | None = None, step: int = 0, role: str = "weight") -> Place:
    return (step, "update", role if tensor else None, tensor)


def _state(tensor: str, step: int = 0, role: str = "weight") -> Place:
    return (step, "state", role, tensor)


OPTIMIZERS_ACROSS = (
    across("Adam counter", K23, TF23, RULE, _update("hidden/kernel"), optimizer=ADAM),
    across(
        "Adam counter, two inputs",
        *(K23, K3, RULE, _update("left/kernel")),
        model="two",
        optimizer=ADAM,
    ),
    across(
        "Adam counter, tf.keras",
        *(K23, TF1, RULE, _update("first/kernel")),
        model="regression",
        optimizer=ADAM,
    ),
    across(
        "Adamax counter",
        *(K23, TF23, RULE, _update("d1/kernel")),
        model="deep",
        optimizer=["Adamax", {"learning_rate": 0.01}],
    ),
    across(
        "Nadam counter",
        *(K23, TF23, RULE, _update()),
        optimizer=["Nadam", {"learning_rate": 0.01}],
    ),
    across(
        "Adagrad defaults",
        *(K23, TF23, "optimizer.slots", _state("hidden/kernel/accumulator", role="slot")),
        optimizer=["Adagrad", {}],
        also=("optimizer.hyperparameter:learning_rate",),
    ),
    across(
        "Adagrad epsilon place",
        *(K23, K3, RULE, _update("first/kernel")),
        model="regression",
        optimizer=["Adagrad", {"learning_rate": 0.01, "epsilon": 1e-3}],
        b={
            "optimizer": [
                "Adagrad",
                {"learning_rate": 0.01, "epsilon": 1e-3, "initial_accumulator_value": 0.0},
            ]
        },
    ),
    across("Adadelta defaults", K23, TF23, SETTING, RATE, optimizer=["Adadelta", {}]),
    across(
        "Adamax defaults",
        *(K23, K3, SETTING, RATE),
        model="cnn",
        optimizer=["Adamax", {}],
        subject="learning_rate",
        also=("optimizer.rule:Adamax step counter",),
    ),
    across(
        "Nadam defaults",
        *(TF1, K23, SETTING, RATE),
        optimizer=["Nadam", {}],
        subject="learning_rate",
    ),
    across("RMSprop epsilon", TF23, K3, RULE, _update("hidden/kernel"), optimizer=RMSPROP),
    across(
        "RMSprop epsilon, two inputs",
        *(K23, K3, RULE, _update("left/kernel")),
        model="two",
        optimizer=RMSPROP,
    ),
    across(
        "RMSprop centered",
        *(TF23, K3, RULE, _update("d1/kernel")),
        model="deep",
        optimizer=["RMSprop", {"learning_rate": 0.005, "centered": True}],
    ),
    across(
        "Nadam schedule",
        *(TF23, K3, RULE, _update()),
        model="lstm",
        optimizer=["Nadam", {"learning_rate": 0.01}],
    ),
    across(
        "decay ignored",
        *(TF23, K3, "optimizer.schedule", _update("optimizer/learning_rate", 1, "learning_rate")),
        optimizer=["SGD", {"learning_rate": 0.05, "decay": 0.1}],
    ),
    across(
        "clipnorm",
        *(K23, TF23, "gradient.processing", (0, "gradient", "applied_gradient", None)),
        optimizer=["SGD", {"learning_rate": 0.05, "clipnorm": 0.05}],
    ),
    across(
        "clipnorm, lstm",
        *(K23, K3, "gradient.processing", (0, "gradient", "applied_gradient", None)),
        model="lstm",
        optimizer=["SGD", {"learning_rate": 0.05, "clipnorm": 0.05}],
    ),
    across(
        "sparse momentum",
        *(K23, TF23, RULE, _update(None, 1)),
        model="embedding",
        optimizer=MOMENTUM,
        subject="sparse gradients",
    ),
    across(
        "sparse Adam",
        *(TF23, K3, RULE, _update()),
        model="embedding",
        optimizer=ADAM,
        subject="sparse gradients",
    ),
    across(
        "sparse Adagrad",
        *(TF23, K3, RULE, _update()),
        model="embedding",
        optimizer=["Adagrad", {"learning_rate": 0.05}],
    ),
)

LAYERS_ACROSS = (
    across(
        "LSTM default activation",
        *(TF1, TF23, "layer.forward", LOSS),
        model="lstm",
        settings={"rnn": {"recurrent_activation": "<default>"}},
        subject="rnn.recurrent_activation",
    ),
    across(
        "LSTM default activation, Keras 2.3",
        *(K23, TF1, "layer.forward", LOSS),
        model="lstm",
        settings={"rnn": {"recurrent_activation": "<default>"}},
        subject="rnn.recurrent_activation",
    ),
    across(
        "GRU default reset_after",
        *(TF1, TF23, "layer.forward", LOSS),
        model="gru",
        settings={"rnn": {"reset_after": "<default>"}},
        edits=[["fill", 2, 0.0]],
        subject="rnn.reset_after",
    ),
    across(
        "hard_sigmoid",
        *(TF23, K3, "layer.forward", LOSS),
        model="lstm",
        settings={"rnn": {"recurrent_activation": "hard_sigmoid"}},
        subject="rnn.recurrent_activation",
    ),
    across(
        "hard_sigmoid, dense",
        *(K23, K3, "layer.forward", LOSS),
        settings={"hidden": {"activation": "hard_sigmoid"}},
        subject="hidden.activation",
    ),
    across(
        "moving variance",
        *(K23, TF23, "layer.state", _update("bn/moving_variance")),
        model="cnn",
        subject="bn",
    ),
    across(
        "moving variance, dense",
        *(K23, K3, "layer.state", _update("norm/moving_variance")),
        model="bnmlp",
        subject="norm",
    ),
    across(
        "moving variance, fused",
        *(TF23, K3, "layer.state", _update("bn/moving_variance")),
        model="cnn",
        batch=8,
    ),
    across(
        "frozen batch norm",
        *(TF1, TF23, "layer.forward", LOSS),
        model="cnn",
        frozen=["bn"],
    ),
    across(
        "frozen batch norm, dense",
        *(K23, K3, "layer.forward", LOSS),
        model="bnmlp",
        frozen=["norm"],
    ),
    across(
        "dropout masks",
        *(TF23, K3, "layer.random", LOSS),
        model="cnn",
        settings={"drop": {"rate": 0.4}},
        subject="drop",
    ),
    across(
        "dropout masks, dense",
        *(K23, TF23, "layer.random", LOSS),
        model="bnmlp",
        settings={"drop": {"rate": 0.3}},
    ),
    across(
        "trainable after compile",
        *(TF23, K3, "state.trainable", _update("middle/kernel")),
        frozen_late=["middle"],
    ),
)

DATA_ACROSS = (
    across("framework's draw", K23, TF23, "init.draw", _state("hidden/kernel"), init=None),
    across(
        "framework's draw, lstm",
        *(TF23, K3, "init.draw", _state("rnn/kernel")),
        model="lstm",
        init=None,
    ),
    across(
        "framework's draw, embedding",
        *(TF1, K3, "init.draw", _state("table/embeddings")),
        model="embedding",
        init=None,
    ),
    across("shuffled", K23, TF23, "data.order", DATA, shuffle=True),
    across(
        "shuffled, cnn",
        *(TF23, K3, "data.order", DATA),
        model="cnn",
        shuffle=True,
        b={"seed": 2},
    ),
    across(
        "one order for every epoch",
        *(TF23, K3, "data.order", (6, "data", "input", "input/0")),
        model="regression",
        shuffle=True,
    ),
    across(
        "shuffled and another rule",
        *(TF23, K3, "data.order", DATA),
        shuffle=True,
        optimizer=RMSPROP,
        b={"seed": 2},
        also=(RULE,),
    ),
    across(
        "other draw and the counter",
        *(K23, TF23, "init.draw", _state("hidden/kernel")),
        init=None,
        optimizer=ADAM,
        also=("optimizer.rule:Adam step counter",),
    ),
)

DATA_INJECTED = (
    injected(
        "batch reversed",
        K3,
        "data.order",
        (4, "data", "input", "input/0"),
        b={"data": [["reverse", 4]]},
    ),
    injected(
        "other order",
        *(TF23, "data.order", DATA),
        model="embedding",
        b={"data": [["permute", 5]]},
    ),
    injected(
        "other order, two inputs",
        K23,
        "data.order",
        DATA,
        model="two",
        b={"data": [["permute", 5]]},
    ),
    injected("other batch size", K3, "data.batching", DATA, b={"batch": 17}),
    injected(
        "partial batch dropped",
        *(TF23, "data.batching", (5, "data", "input", "input/0")),
        model="lstm",
        b={"data": [["take", 80]]},
    ),
    injected("scaled", K3, "data.transform", DATA, b={"data": [["affine", 0, 255.0, 0.0]]}),
    injected(
        "shifted", TF23, "data.transform", DATA, model="lstm", b={"data": [["affine", 0, 1.0, 0.3]]}
    ),
    injected(
        "second input scaled",
        *(K3, "data.transform", (0, "data", "input", "input/1")),
        model="two",
        b={"data": [["affine", 1, 0.5, 0.0]]},
    ),
    injected("flipped", TF23, "data.transform", DATA, model="cnn", b={"data": [["flip", 2]]}),
    injected("BGR", K3, "data.transform", DATA, model="cnn", b={"data": [["channels", [2, 1, 0]]]}),
    injected(
        "channels turned",
        K3,
        "data.transform",
        DATA,
        model="cnn",
        b={"data": [["channels", [1, 2, 0]]]},
    ),
    injected(
        "BGR and mean",
        *(TF23, "data.transform", DATA),
        model="cnn",
        b={"data": [["channels", [2, 1, 0]], ["affine", 0, [2, 2.1, 2.2], [0.1, 0.2, 0.3]]]},
    ),
    injected(
        "exchanged axes", K23, "data.transform", DATA, model="cnn", b={"data": [["transpose"]]}
    ),
    injected("rolled", K3, "data.transform", DATA, model="cnn", b={"data": [["roll", 1, 2]]}),
    injected("standardised", K3, "data.transform", DATA, b={"data": [["standardise", 0]]}),
    injected(
        "standardised by pixel",
        TF23,
        "data.transform",
        DATA,
        model="cnn",
        b={"data": [["standardise", 0]]},
    ),
    injected(
        "standardised after brightness",
        *(K3, "data.transform", DATA),
        model="cnn",
        a={"data": [["brightness", "brighten"]]},
        b={"data": [["brightness", "standardise"]]},
    ),
    injected(
        "standardised after padding",
        *(TF23, "data.transform", DATA),
        model="cnn",
        a={"data": [["padded", "pad"]]},
        b={"data": [["padded", "standardise"]]},
    ),
    injected(
        "turned by a quarter",
        *(TF23, "data.transform", DATA),
        model="cnn",
        b={"data": [["transpose"], ["flip", 1]]},
    ),
    injected(
        "words numbered otherwise",
        *(K3, "data.transform", DATA),
        model="embedding",
        b={"data": [["renumber", 7]]},
    ),
    injected(
        "other order, scaled",
        *(K3, "data.transform", DATA),
        b={"data": [["permute", 5], ["affine", 0, 2.0, 0.0]]},
        also=("data.order",),
    ),
    injected("gamma", K3, "data.transform", DATA, model="cnn", b={"data": [["gamma", 0.5]]}),
    injected("float16", K3, "data.dtype", DATA, b={"data": [["cast", "float16"]]}),
    injected(
        "float16, lstm", TF23, "data.dtype", DATA, model="lstm", b={"data": [["cast", "float16"]]}
    ),
    injected("quantised", K3, "data.dtype", DATA, model="lstm", b={"data": [["quantise", 64]]}),
    injected(
        "one element",
        *(K3, "data.content", (3, "data", "input", "input/0")),
        b={"data": [["element", 3, 5, 0.01]]},
    ),
    injected(
        "a row of NaN",
        *(TF23, "data.content", (2, "data", "input", "input/0")),
        model="cnn",
        b={"data": [["spoil", 2, 3, float("nan")]]},
    ),
    injected(
        "a row of zeros",
        *(K23, "data.content", (1, "data", "input", "input/0")),
        model="lstm",
        b={"data": [["spoil", 1, 9, 0.0]]},
    ),
    injected(
        "other samples",
        *(K3, "data.content", (2, "data", "input", "input/0")),
        model="regression",
        b={"data": [["other rows", 2, 9]]},
    ),
    injected(
        "a sample missing",
        *(K3, "data.content", (1, "data", "input", "input/0")),
        b={"data": [["drop row", 21]]},
    ),
    injected(
        "a sample missing, cnn",
        *(TF23, "data.content", (0, "data", "input", "input/0")),
        model="cnn",
        b={"data": [["drop row", 3]]},
    ),
    injected(
        "one label",
        *(K3, "data.labels", (2, "data", "label", "label/0")),
        b={"data": [["label", 2, 1]]},
    ),
    injected(
        "classes coded otherwise",
        *(TF23, "data.labels", (0, "data", "label", "label/0")),
        model="lstm",
        b={"data": [["classes"]]},
    ),
    injected(
        "labels rolled",
        *(K3, "data.labels", (0, "data", "label", "label/0")),
        model="cnn",
        b={"data": [["label roll", 1]]},
    ),
    injected(
        "labels smoothed",
        *(K23, "data.labels", (0, "data", "label", "label/0")),
        a={"data": [["one-hot", 0.0]]},
        b={"data": [["one-hot", 0.1]]},
    ),
    injected(
        "one-hot",
        *(K3, "data.labels", (0, "data", "label", "label/0")),
        b={"data": [["one-hot", 0.0]]},
    ),
    injected(
        "labels scaled",
        *(TF23, "data.labels", (0, "data", "label", "label/0")),
        model="regression",
        b={"data": [["label affine", 2.0, 0.0]]},
    ),
    injected(
        "sample weights",
        *(K3, "data.sample_weight", (0, "data", "sample_weight", "sample_weight/0")),
        b={"data": [["weigh", 3, 2.0]]},
    ),
    injected(
        "other sample weights",
        *(K23, "data.sample_weight", (0, "data", "sample_weight", "sample_weight/0")),
        model="regression",
        a={"data": [["weigh", 3, 2.0]]},
        b={"data": [["weigh", 3, 3.0]]},
    ),
    injected(
        "class weights",
        *(TF23, "data.sample_weight", (0, "data", "sample_weight", "sample_weight/0")),
        model="lstm",
        b={"class_weight": {"0": 1.0, "1": 2.0, "2": 0.5}},
    ),
)

STATE_INJECTED = (
    injected("another seed", K3, "init.draw", _state("hidden/kernel"), init=None, b={"seed": 2}),
    injected(
        "another seed, cnn",
        TF23,
        "init.draw",
        _state("conv/kernel"),
        model="cnn",
        init=None,
        b={"seed": 2},
    ),
    injected(
        "a few elements",
        *(K3, "init.draw", _state("first/kernel")),
        model="regression",
        b={"edits": [["add", 0, 1e-3]]},
    ),
    injected(
        "He",
        *(K3, "init.distribution", _state("d2/kernel")),
        model="deep",
        init=None,
        b={"settings": {"d2": {"kernel_initializer": "he_normal"}}},
        subject="d2/kernel",
    ),
    injected(
        "stddev",
        *(TF23, "init.distribution", _state("table/embeddings")),
        model="embedding",
        init=None,
        b={"settings": {"table": {"embeddings_initializer": ["RandomNormal", {"stddev": 0.05}]}}},
    ),
    injected(
        "recurrent initialiser",
        *(K3, "init.distribution", _state("rnn/recurrent_kernel")),
        model="lstm",
        init=None,
        b={"settings": {"rnn": {"recurrent_initializer": "glorot_uniform"}}},
    ),
    injected(
        "unit forget bias",
        *(TF23, "init.distribution", _state("rnn/bias")),
        model="lstm",
        init=None,
        a={"seed": 3},
        b={"settings": {"rnn": {"unit_forget_bias": False}}, "seed": 3},
    ),
    injected(
        "bias of one",
        *(K23, "init.distribution", _state("conv/bias")),
        model="cnn",
        init=None,
        a={
            "settings": {
                "conv": {"kernel_initializer": ["glorot_uniform", {"seed": 4}]},
                "out": {"kernel_initializer": ["glorot_uniform", {"seed": 4}]},
            }
        },
        b={
            "settings": {
                "conv": {
                    "bias_initializer": "ones",
                    "kernel_initializer": ["glorot_uniform", {"seed": 4}],
                },
                "out": {"kernel_initializer": ["glorot_uniform", {"seed": 4}]},
            }
        },
    ),
    injected(
        "more units",
        *(K3, "model.structure", None),
        b={"settings": {"middle": {"units": 9}}},
    ),
    injected(
        "another layer",
        *(TF23, "model.structure", None),
        model="regression",
        b={"settings": {"first": {"after": [["Dense", "more", {"units": 16}]]}}},
    ),
    injected(
        "no bias",
        *(K23, "model.structure", None),
        model="lstm",
        b={"settings": {"rnn": {"use_bias": False}}},
    ),
    injected("frozen", K3, "state.trainable", _update("middle/kernel"), b={"frozen": ["middle"]}),
    injected(
        "frozen, cnn",
        *(TF23, "state.trainable", _update("conv/kernel")),
        model="cnn",
        optimizer=ADAM,
        b={"frozen": ["conv"]},
    ),
    injected("meddled", K3, "state.external", _state("out/bias", 7), b={"meddle": [7, -1, 0.01]}),
    injected(
        "meddled, lstm",
        *(TF23, "state.external", _state("rnn/kernel", 4)),
        model="lstm",
        optimizer=ADAM,
        b={"meddle": [4, 0, 0.001]},
    ),
    injected(
        "initial accumulator",
        *(K3, "optimizer.slots", _state("hidden/kernel/accumulator", role="slot")),
        optimizer=["Adagrad", {"learning_rate": 0.05}],
        b={
            "optimizer": [
                "Adagrad",
                {"learning_rate": 0.05, "initial_accumulator_value": 0.0},
            ]
        },
    ),
    injected(
        "warm counter",
        *(K3, "optimizer.slots", _state("optimizer/iteration", role="slot")),
        model="cnn",
        optimizer=ADAM,
        b={"count": 100},
    ),
    injected(
        "warm counter, lstm",
        *(TF23, "optimizer.slots", _state("optimizer/iteration", role="slot")),
        model="lstm",
        optimizer=ADAM,
        b={"count": 10},
    ),
    injected(
        "warm slot",
        *(K3, "optimizer.slots", (0, "state", "slot", None)),
        optimizer=ADAM,
        b={"slots": [3, 0.01]},
    ),
)

FORWARD_INJECTED = (
    injected(
        "activation", K3, "layer.forward", LOSS, b={"settings": {"hidden": {"activation": "elu"}}}
    ),
    injected(
        "negative slope",
        *(K3, "layer.forward", LOSS),
        model="cnn",
        a={
            "settings": {
                "act": {"class": "LeakyReLU", "activation": "<default>", "negative_slope": 0.2}
            }
        },
        b={
            "settings": {
                "act": {"class": "LeakyReLU", "activation": "<default>", "negative_slope": 0.3}
            }
        },
    ),
    injected(
        "epsilon of the norm",
        *(TF23, "layer.forward", LOSS),
        model="bnmlp",
        b={"settings": {"norm": {"epsilon": 1e-5}}},
        subject="norm.epsilon",
    ),
    injected(
        "average pooling",
        *(K3, "layer.forward", LOSS),
        model="cnn",
        b={"settings": {"pool": {"class": "AveragePooling2D"}}},
        subject="pool.class",
    ),
    injected(
        "activation, lstm",
        *(K23, "layer.forward", LOSS),
        model="lstm",
        b={"settings": {"rnn": {"activation": "relu"}}},
    ),
    injected(
        "dropout rate",
        *(K3, "layer.forward", LOSS),
        model="bnmlp",
        a={"settings": {"drop": {"rate": 0.2, "seed": 3}}},
        b={"settings": {"drop": {"rate": 0.4, "seed": 3}}},
        subject="drop.rate",
    ),
    injected(
        "another mask",
        *(K3, "layer.random", LOSS),
        model="bnmlp",
        a={"settings": {"drop": {"rate": 0.3, "seed": 1}}},
        b={"settings": {"drop": {"rate": 0.3, "seed": 2}}},
        subject="drop",
    ),
    injected(
        "another mask, lstm",
        *(TF23, "layer.random", LOSS),
        model="lstm",
        settings={"rnn": {"dropout": 0.3}},
        b={"seed": 2},
    ),
    injected(
        "gaussian noise",
        *(K23, "layer.random", LOSS),
        model="regression",
        settings={"first": {"after": [["GaussianNoise", "noise", {"stddev": 0.1}]]}},
        b={"seed": 2},
    ),
    injected(
        "momentum of the norm",
        *(K3, "layer.state", _update("bn/moving_mean")),
        model="cnn",
        b={"settings": {"bn": {"momentum": 0.9}}},
    ),
    injected(
        "momentum of the norm, dense",
        *(TF23, "layer.state", _update("norm/moving_mean")),
        model="bnmlp",
        optimizer=ADAM,
        b={"settings": {"norm": {"momentum": 0.95}}},
    ),
    injected(
        "another loss",
        K3,
        "loss.value",
        LOSS,
        model="regression",
        b={"loss": "mean_absolute_error"},
    ),
    injected(
        "logits",
        *(TF23, "loss.value", LOSS),
        a={"loss": "SparseCategoricalCrossentropy", "loss_options": {"from_logits": True}},
        b={"loss": "SparseCategoricalCrossentropy", "loss_options": {"from_logits": False}},
    ),
    injected(
        "smoothing of the loss",
        *(K3, "loss.value", LOSS),
        model="cnn",
        data=[["one-hot", 0.0]],
        a={"loss": "CategoricalCrossentropy"},
        b={"loss": "CategoricalCrossentropy", "loss_options": {"label_smoothing": 0.1}},
    ),
    injected(
        "reduction",
        *(TF23, "loss.value", LOSS),
        model="lstm",
        a={"loss": "SparseCategoricalCrossentropy"},
        b={"loss": "SparseCategoricalCrossentropy", "loss_options": {"reduction": "sum"}},
    ),
    injected(
        "regulariser",
        *(K23, "loss.value", LOSS),
        model="embedding",
        b={"settings": {"out": {"kernel_regularizer": 1e-3}}},
    ),
    injected(
        "regulariser of the output",
        *(TF23, "loss.value", LOSS),
        model="deep",
        b={"settings": {"d2": {"activity_regularizer": 1e-2}}},
    ),
    injected("loss weights", K3, "loss.value", LOSS, model="two", b={"loss_weights": [0.5]}),
    injected(
        "doubled gradient",
        *(K3, "gradient.raw", (0, "gradient", "gradient", None)),
        a={"settings": {"hidden": {"after": [["Activation", "same", {"activation": "linear"}]]}}},
        b={"settings": {"hidden": {"after": [["GradientTwice", "same", {}]]}}},
    ),
    injected(
        "stopped gradient",
        *(TF23, "gradient.raw", (0, "gradient", "gradient", None)),
        model="regression",
        a={"settings": {"first": {"after": [["Activation", "same", {"activation": "linear"}]]}}},
        b={"settings": {"first": {"after": [["StopGradient", "same", {}]]}}},
    ),
    injected(
        "metric",
        *(K3, "metric.definition", (0, "metric", "metric", "metric/accuracy")),
        b={"metric": "other"},
    ),
    injected(
        "metric, lstm",
        *(TF23, "metric.definition", (0, "metric", "metric", "metric/accuracy")),
        model="lstm",
        optimizer=ADAM,
        b={"metric": "other"},
    ),
    injected("bfloat16", K3, "precision", (0, None, None, None), b={"precision": "mixed_bfloat16"}),
    injected(
        "bfloat16, lstm",
        *(K3, "precision", (0, None, None, None)),
        model="lstm",
        optimizer=ADAM,
        b={"precision": "mixed_bfloat16"},
    ),
    injected(
        "float16 policy",
        *(K3, "precision", (0, None, None, None)),
        model="deep",
        b={"precision": "mixed_float16"},
    ),
)

UPDATE_INJECTED = (
    injected(
        "clipvalue",
        *(K3, "gradient.processing", (0, "gradient", "applied_gradient", "out/bias")),
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "clipvalue": 1e-3}]},
        subject="clipvalue",
    ),
    injected(
        "clipnorm",
        *(TF23, "gradient.processing", (0, "gradient", "applied_gradient", None)),
        model="lstm",
        optimizer=ADAM,
        b={"optimizer": ["Adam", {"learning_rate": 0.01, "clipnorm": 0.01}]},
        subject="clipnorm",
    ),
    injected(
        "global clipnorm",
        *(K3, "gradient.processing", (0, "gradient", "applied_gradient", None)),
        model="deep",
        a={"optimizer": ["SGD", {"learning_rate": 0.05, "clipnorm": 0.05}]},
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "global_clipnorm": 0.05}]},
    ),
    injected(
        "weight decay",
        *(K3, "gradient.processing", _update("hidden/kernel")),
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "weight_decay": 0.01}]},
        subject="weight_decay",
    ),
    injected(
        "loss scale",
        *(K3, "gradient.processing", (0, None, None, None)),
        model="regression",
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "loss_scale_factor": 128.0}]},
        subject="loss_scale_factor",
    ),
    injected(
        "accumulation",
        *(K3, "gradient.processing", (0, "update", None, None)),
        model="two",
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "gradient_accumulation_steps": 2}]},
        subject="gradient_accumulation_steps",
    ),
    injected(
        "decay of Adam's weights",
        *(K3, "gradient.processing", _update("table/embeddings")),
        model="embedding",
        optimizer=ADAM,
        b={"optimizer": ["Adam", {"learning_rate": 0.01, "weight_decay": 0.02}]},
        subject="weight_decay",
    ),
    injected(
        "rate",
        *(K3, SETTING, RATE),
        model="cnn",
        b={"optimizer": ["SGD", {"learning_rate": 0.050005}]},
        subject="learning_rate",
    ),
    injected(
        "momentum",
        *(K23, SETTING, _update(None, 1)),
        model="lstm",
        optimizer=MOMENTUM,
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "momentum": 0.9001}]},
        subject="momentum",
    ),
    injected(
        "nesterov",
        *(TF23, SETTING, _update("hidden/kernel")),
        optimizer=MOMENTUM,
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}]},
        subject="nesterov",
    ),
    injected(
        "epsilon",
        *(K3, SETTING, _update("rnn/kernel")),
        model="lstm",
        optimizer=ADAM,
        b={"optimizer": ["Adam", {"learning_rate": 0.01, "epsilon": 1e-5}]},
        subject="epsilon",
    ),
    injected(
        "beta_2",
        *(TF23, SETTING, (0, "update", None, None)),
        model="cnn",
        optimizer=ADAM,
        b={"optimizer": ["Adam", {"learning_rate": 0.01, "beta_2": 0.99}]},
        subject="beta_2",
    ),
    injected(
        "rho",
        *(K3, SETTING, _update()),
        model="two",
        optimizer=RMSPROP,
        b={"optimizer": ["RMSprop", {"learning_rate": 0.005, "rho": 0.95}]},
        subject="rho",
    ),
    injected(
        "amsgrad",
        *(K3, SETTING, (None, "update", None, None)),
        model="regression",
        optimizer=ADAM,
        b={"optimizer": ["Adam", {"learning_rate": 0.01, "amsgrad": True}]},
        subject="amsgrad",
    ),
    injected(
        "beta_1 and epsilon",
        *(K3, SETTING, (0, "update", None, None)),
        model="deep",
        optimizer=ADAM,
        b={"optimizer": ["Adam", {"learning_rate": 0.01, "beta_1": 0.8, "epsilon": 1e-4}]},
        also=("optimizer.hyperparameter:beta_1", "optimizer.hyperparameter:epsilon"),
    ),
    injected(
        "rate and momentum",
        *(TF23, SETTING, RATE),
        optimizer=MOMENTUM,
        b={"optimizer": ["SGD", {"learning_rate": 0.04, "momentum": 0.8}]},
        also=("optimizer.hyperparameter:learning_rate", "optimizer.hyperparameter:momentum"),
    ),
    injected(
        "rho and epsilon, other data",
        *(TF23, "data.order", DATA),
        model="lstm",
        optimizer=RMSPROP,
        b={
            "optimizer": ["RMSprop", {"learning_rate": 0.005, "rho": 0.8, "epsilon": 1e-4}],
            "data": [["permute", 4]],
        },
        also=("optimizer.hyperparameter:rho", "optimizer.hyperparameter:epsilon"),
    ),
    injected(
        "Adam for SGD",
        K3,
        RULE,
        (0, "update", None, None),
        b={"optimizer": ADAM},
        subject="optimizer",
    ),
    injected(
        "RMSprop for Adam",
        *(TF23, RULE, (0, "update", None, None)),
        model="lstm",
        optimizer=ADAM,
        b={"optimizer": ["RMSprop", {"learning_rate": 0.01}]},
        subject="optimizer",
    ),
    injected(
        "schedule by epoch",
        *(K3, "optimizer.schedule", _update("optimizer/learning_rate", 6, "learning_rate")),
        model="cnn",
        b={"rates": [0.05, 0.02]},
    ),
    injected(
        "schedule by step",
        *(TF23, "optimizer.schedule", _update("optimizer/learning_rate", 1, "learning_rate")),
        model="lstm",
        b={"decay": 0.05},
    ),
    injected(
        "decay",
        *(K23, "optimizer.schedule", (None, "update", "learning_rate", None)),
        b={"optimizer": ["SGD", {"learning_rate": 0.05, "decay": 0.1}]},
    ),
    injected(
        "scaled data and another momentum",
        *(K3, "data.transform", DATA),
        model="regression",
        optimizer=MOMENTUM,
        b={
            "optimizer": ["SGD", {"learning_rate": 0.05, "momentum": 0.8}],
            "data": [["affine", 0, 0.5, 0.0]],
        },
        also=("optimizer.hyperparameter:momentum",),
    ),
    injected(
        "scaled data and another momentum of the norm",
        *(K3, "data.transform", DATA),
        model="bnmlp",
        b={"settings": {"norm": {"momentum": 0.9}}, "data": [["affine", 0, 0.5, 0.0]]},
        also=("layer.state:norm",),
    ),
    injected(
        "another draw and a clipped gradient",
        *(K3, "init.draw", _state("hidden/kernel")),
        init=None,
        b={"seed": 2, "optimizer": ["SGD", {"learning_rate": 0.05, "clipvalue": 1e-3}]},
        also=("gradient.processing",),
    ),
)


def _clean(name: str, old: str, new: str, **base: Any) -> Case:
    return across(name, old, new, "", None, **base)


CLEAN = (
    repeated("mlp", K3, optimizer=ADAM),
    repeated("lstm", TF23, model="lstm", optimizer=ADAM),
    repeated("cnn", K23, model="cnn", optimizer=MOMENTUM),
    repeated("dropout", K3, model="cnn", settings={"drop": {"rate": 0.3, "seed": 2}}),
    _clean("mlp, momentum", K23, TF23, optimizer=MOMENTUM, epochs=4),
    _clean("deep, Adam", TF1, TF23, model="deep", optimizer=ADAM),
    _clean("lstm, Adam", TF23, K3, model="lstm", optimizer=ADAM, epochs=4),
    _clean("gru", TF23, K3, model="gru"),
    _clean("embedding, plain", K23, K3, model="embedding"),
    _clean("two inputs", K23, K3, model="two", optimizer=MOMENTUM),
    _clean("cnn, the bias before the norm", TF1, TF23, model="cnn", optimizer=ADAM, epochs=4),
    _clean("dense norm, the bias before it", TF23, K3, model="bnmlp", optimizer=ADAM, epochs=4),
    _clean("AMSGrad", TF23, K3, optimizer=["Adam", {"learning_rate": 0.01, "amsgrad": True}]),
    _clean("Adamax", TF23, K3, optimizer=["Adamax", {"learning_rate": 0.01}], model="two"),
    _clean(
        "regression, Adadelta",
        K23,
        K3,
        model="regression",
        optimizer=["Adadelta", {"learning_rate": 1.0}],
    ),
    _clean("weights and one-hot", K23, TF23, data=[["one-hot", 0.0], ["weigh", 3, 2.0]]),
    injected(
        "threads, the bias before the norm",
        K3,
        "",
        None,
        model="cnn",
        optimizer=RMSPROP,
        b={"threads": 2},
        epochs=4,
    ),
    injected("threads", TF23, "", None, model="lstm", optimizer=ADAM, b={"threads": 2}),
)

FURTHER = (
    injected(
        "clip of Ftrl",
        *(K3, "gradient.processing", (0, "gradient", "applied_gradient", None)),
        model="seqcnn",
        optimizer=["Ftrl", {"learning_rate": 0.05}],
        b={"optimizer": ["Ftrl", {"learning_rate": 0.05, "clipnorm": 0.01}]},
    ),
    injected(
        "l2 of Ftrl",
        *(K3, SETTING, (0, "update", None, None)),
        model="residual",
        optimizer=["Ftrl", {"learning_rate": 0.05}],
        b={"optimizer": ["Ftrl", {"learning_rate": 0.05, "l2_regularization_strength": 0.1}]},
    ),
    injected(
        "beta_2 of Lion",
        *(K3, SETTING, (0, "update", None, None)),
        model="seqcnn",
        optimizer=["Lion", {"learning_rate": 0.001}],
        b={"optimizer": ["Lion", {"learning_rate": 0.001, "beta_2": 0.9}]},
        subject="beta_2",
    ),
    injected(
        "rho of Adadelta",
        *(TF23, SETTING, (0, "update", None, None)),
        model="seqcnn",
        optimizer=["Adadelta", {"learning_rate": 1.0}],
        b={"optimizer": ["Adadelta", {"learning_rate": 1.0, "rho": 0.9}]},
        subject="rho",
    ),
    injected(
        "epsilon of the layer norm",
        *(K3, "layer.forward", LOSS),
        model="residual",
        b={"settings": {"ln": {"epsilon": 0.1}}},
        subject="ln.epsilon",
    ),
    injected(
        "padding",
        *(TF23, "layer.forward", LOSS),
        model="seqcnn",
        b={"settings": {"window": {"padding": "same"}}},
        subject="window.padding",
    ),
    injected(
        "sum or maximum",
        *(K3, "layer.forward", LOSS),
        model="residual",
        b={"settings": {"sum": {"class": "Maximum"}}},
        subject="sum.class",
    ),
    injected(
        "LeCun",
        *(K3, "init.distribution", _state("enter/kernel")),
        model="residual",
        init=None,
        b={"settings": {"enter": {"kernel_initializer": "lecun_normal"}}},
        subject="enter/kernel",
    ),
    injected(
        "weights twice as large",
        *(TF23, "init.distribution", _state("mid/kernel")),
        model="seqcnn",
        b={"edits": [["times", 2, 2.0]]},
        subject="mid/kernel",
    ),
    injected(
        "time turned round",
        *(K3, "data.transform", DATA),
        model="seqcnn",
        b={"data": [["flip", 1]]},
    ),
    injected(
        "one channel standardised by hand",
        *(TF23, "data.transform", DATA),
        model="seqcnn",
        b={"data": [["affine", 0, [1.0, 1.0, 2.0], [0.0, 0.0, 0.5]]]},
    ),
    injected(
        "a batch of rows spoilt",
        *(K3, "data.content", (4, "data", "input", "input/0")),
        model="residual",
        b={"data": [["spoil", 4, 2, 9.0], ["spoil", 4, 3, 9.0]]},
    ),
    injected(
        "labels of the residual smoothed",
        *(K3, "data.labels", (0, "data", "label", "label/0")),
        model="residual",
        a={"data": [["one-hot", 0.0]]},
        b={"data": [["one-hot", 0.2]]},
    ),
    injected(
        "huber",
        *(K3, "loss.value", LOSS),
        model="regression",
        a={"loss": "Huber", "loss_options": {"delta": 1.0}},
        b={"loss": "Huber", "loss_options": {"delta": 0.5}},
    ),
    injected(
        "two layers frozen",
        *(K3, "state.trainable", _update("enter/kernel")),
        model="residual",
        optimizer=ADAM,
        b={"frozen": ["enter", "inner"]},
    ),
    injected(
        "rate by epoch, other order",
        *(K3, "data.order", DATA),
        model="seqcnn",
        b={"rates": [0.05, 0.01], "data": [["permute", 3]]},
        also=("optimizer.schedule",),
    ),
    injected(
        "momentum, another draw",
        *(TF23, "init.draw", _state("window/kernel")),
        model="seqcnn",
        optimizer=MOMENTUM,
        b={"init": 12, "optimizer": ["SGD", {"learning_rate": 0.05, "momentum": 0.5}]},
        also=("optimizer.hyperparameter:momentum",),
    ),
    across(
        "recurrent activation both ways",
        *(TF1, TF23, "layer.forward", LOSS),
        model="both ways",
        subject="both.layer.recurrent_activation",
    ),
    injected(
        "activation both ways",
        *(K3, "layer.forward", LOSS),
        model="both ways",
        b={"settings": {"there": {"activation": "relu"}}},
        subject="both.layer.activation",
    ),
    across(
        "activity regulariser",
        *(K23, TF23, "loss.value", LOSS),
        model="deep",
        settings={"d2": {"activity_regularizer": 0.01}},
        subject="d2.activity_regularizer",
    ),
    across(
        "weights regularised",
        *(K23, K3, "", None),
        model="deep",
        settings={"d2": {"kernel_regularizer": 0.01}},
    ),
    injected(
        "constraint",
        *(K23, "state.external", _update("hidden/kernel")),
        b={"settings": {"hidden": {"kernel_constraint": 0.5}}},
        subject="hidden.kernel_constraint",
    ),
    injected(
        "constraint of a convolution",
        *(K3, "state.external", _update("window/kernel")),
        model="seqcnn",
        b={"settings": {"window": {"kernel_constraint": 0.5}}},
        subject="window.kernel_constraint",
    ),
    injected(
        "two samples exchanged",
        *(K3, "data.order", (1, "data", "input", "input/0")),
        model="residual",
        b={"data": [["exchange", 20, 40]]},
    ),
    injected(
        "one pixel of a grid",
        *(TF23, "data.content", (2, "data", "input", "input/0")),
        model="cnn",
        b={"data": [["element", 2, 5, 0.001]]},
    ),
    injected(
        "one row, digests only",
        *(K3, "data.content", (3, "data", "input", "input/0")),
        model="regression",
        level="digest",
        b={"data": [["spoil", 3, 5, 2.0]]},
    ),
    injected(
        "weights in bfloat16",
        *(K3, "precision", _state("hidden/kernel")),
        b={"precision": "bfloat16"},
    ),
    across(
        "RMSprop, centered with momentum",
        *(TF23, K3, "", None),
        model="seqcnn",
        optimizer=["RMSprop", {"learning_rate": 0.001, "momentum": 0.9, "centered": True}],
    ),
    across("layer norm, Adam", TF23, K3, "", None, model="residual", optimizer=ADAM, epochs=4),
    across("convolution of a sequence", TF23, K3, "", None, model="seqcnn", optimizer=MOMENTUM),
)

CASES: tuple[Case, ...] = (
    *OPTIMIZERS_ACROSS,
    *LAYERS_ACROSS,
    *DATA_ACROSS,
    *DATA_INJECTED,
    *STATE_INJECTED,
    *FORWARD_INJECTED,
    *UPDATE_INJECTED,
    *FURTHER,
    *CLEAN,
)
"""All cases, in the order in which they are shown."""
