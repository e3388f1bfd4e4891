"""The same thing has the same name on every stack, and a run says what it was run with.

Each stack's names are held against one list written by hand, so that they are equal to each other.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "namings.py"


@pytest.fixture(scope="module")
def traces(stack, tmp_path_factory):
    """What the traces of one process hold, by model and by optimizer."""
    return json.loads(stack.run(PROGRAM, tmp_path_factory.mktemp("names")).stdout)


def weights(layer, *names):
    return [f"{layer}/{name}" for name in names]


def dense(*layers):
    return [name for layer in layers for name in weights(layer, "kernel", "bias")]


def recurrent(*layers):
    return [
        name for layer in layers for name in weights(layer, "kernel", "recurrent_kernel", "bias")
    ]


def both_ways(layer):
    return recurrent(layer + "/forward_layer", layer + "/backward_layer")


def normal(layer, *trained):
    return weights(layer, *(trained or ("gamma", "beta")), "moving_mean", "moving_variance")


def separable(layer):
    return weights(layer, "depthwise_kernel", "pointwise_kernel", "bias")


AUTOMATIC = [*dense("dense", "dense_1"), *normal("batch_normalization"), *dense("dense_2")]

WEIGHTS = {
    "looking_automatic": dense("dense_1", "dense_2"),
    "automatic": AUTOMATIC,
    "automatic again": AUTOMATIC,
    "explicit": dense("hidden", "out"),
    "some_explicit": dense("dense", "middle", "dense_77", "dense_1"),
    "unbuilt": dense("dense", "dense_1"),
    "functional": dense("dense", "dense_1", "dense_2", "dense_3"),
    "shared": dense("dense", "dense_1"),
    "nested": [
        *dense("encoder/dense", "encoder/dense_1", "sequential/dense"),
        *normal("sequential/batch_normalization"),
        *dense("dense"),
    ],
    "subclassed": [*dense("dense"), *normal("batch_normalization"), *dense("kept", "dense_1")],
    "subclassed_of_subclassed": dense("tower/dense", "tower_1/dense", "dense"),
    "normalised": [
        *dense("dense"),
        *weights("layer_normalization", "gamma", "beta"),
        *dense("dense_1"),
    ],
    "sequence": [
        "embedding/embeddings",
        *dense("conv1d"),
        *separable("separable_conv1d"),
        *dense("dense"),
    ],
    "convolutional": [
        *dense("conv2d"),
        *normal("batch_normalization"),
        *separable("separable_conv2d"),
        *normal("batch_normalization_1", "beta"),
        *weights("depthwise_conv2d", "depthwise_kernel", "bias"),
        *dense("conv2d_transpose"),
        "p_re_lu/alpha",
        *dense("dense"),
    ],
    "cells": [*recurrent("rnn/cells/0", "rnn/cells/1"), *dense("dense")],
    "recurrent": [
        *both_ways("bidirectional"),
        *dense("time_distributed"),
        *recurrent("gru", "lstm", "simple_rnn"),
        *dense("dense"),
    ],
    "named_recurrent": [
        *both_ways("both_ways"),
        *dense("each"),
        *both_ways("bidirectional"),
        *dense("dense"),
    ],
}

LAYERS = {
    "functional": [
        "input_layer", "input_layer_1", "dense", "dense_1", "concatenate", "dense_2", "dense_3",
    ],
    "nested": [
        "input_layer", "encoder/input_layer", "encoder/dense", "encoder/dense_1",
        "sequential/dense", "sequential/batch_normalization", "dense",
    ],
    "convolutional": [
        "conv2d", "batch_normalization", "separable_conv2d", "batch_normalization_1",
        "depthwise_conv2d", "conv2d_transpose", "p_re_lu", "global_average_pooling2d", "dense",
    ],
}  # fmt: skip

NOT_IN_KERAS_23 = {"normalised", "subclassed_of_subclassed"}

SLOTS = {
    "SGD": ["momentum"],
    "Adam": ["m", "v"],
    "Adam amsgrad": ["m", "v", "vhat"],
    "RMSprop": ["rms"],
    "RMSprop momentum": ["momentum", "rms"],
    "RMSprop centered": ["mg", "momentum", "rms"],
    "Adagrad": ["accumulator"],
    "Adadelta": ["accum_grad", "accum_var"],
    "Adamax": ["m", "u"],
    "Nadam": ["m", "v"],
    "Ftrl": ["accumulator", "linear"],
}
OF_NO_WEIGHT = {"Nadam": ["optimizer/iteration", "optimizer/m_schedule"]}
NOT_RULES_OF_KERAS_23 = {"RMSprop momentum", "RMSprop centered", "Ftrl"}


def trained(names):
    return [name for name in names if "/moving_" not in name]


def on(stack, cases, missing):
    """The cases that a stack has."""
    return [case for case in cases if stack.name != "keras2.3" or case not in missing]


def test_weights_have_canonical_names_in_execution_order(stack, traces):
    for model in on(stack, WEIGHTS, NOT_IN_KERAS_23):
        assert traces["models"][model]["names"]["weight"] == WEIGHTS[model], model


def test_gradients_are_named_for_the_weights_that_are_trained(stack, traces):
    for model in on(stack, WEIGHTS, NOT_IN_KERAS_23):
        found = traces["models"][model]
        assert found["names"]["gradient"] == trained(WEIGHTS[model]), model
        assert sorted(found["names"]["applied_gradient"]) == sorted(trained(WEIGHTS[model])), model
        assert found["trainable"] == trained(WEIGHTS[model]), model


def test_slots_are_named_for_their_weights(stack, traces):
    for model in on(stack, WEIGHTS, NOT_IN_KERAS_23):
        slots = [name + slot for name in trained(WEIGHTS[model]) for slot in ("/m", "/v")]
        assert traces["models"][model]["names"]["slot"] == [*slots, "optimizer/iteration"], model


def test_every_optimizer_has_one_vocabulary_of_slots(stack, traces):
    for rule in on(stack, SLOTS, NOT_RULES_OF_KERAS_23):
        slots = [f"{name}/{slot}" for name in dense("hidden", "out") for slot in SLOTS[rule]]
        expected = [*slots, *OF_NO_WEIGHT.get(rule, ["optimizer/iteration"])]
        assert traces["optimizers"][rule]["names"]["slot"] == expected, rule


def test_slots_have_the_shapes_of_their_weights(stack, traces):
    for model in on(stack, WEIGHTS, NOT_IN_KERAS_23):
        shapes = traces["models"][model]["shapes"]
        for name in trained(WEIGHTS[model]):
            assert shapes[name + "/m"] == shapes[name + "/v"] == shapes[name], (model, name)


def test_layers_are_listed_in_execution_order(traces):
    for model, layers in LAYERS.items():
        assert traces["models"][model]["layers"] == layers, model


def test_a_name_that_only_looks_automatic_is_kept_while_none_like_it_was_made_up(traces):
    # Given no automatic layer of the class before it, which the framework counts.
    kept = traces["models"]["looking_automatic"]["names"]["weight"]
    assert kept == dense("dense_1", "dense_2")
    # Later nothing tells it from an automatic one, but it is the same on every stack.
    later = traces["models"]["looking_automatic again"]["names"]["weight"]
    assert later == dense("dense", "dense_1")


def test_inputs_and_labels_are_numbered(traces):
    names = traces["models"]["functional"]["names"]
    assert names["input"] == ["input/0", "input/1"]
    assert names["label"] == ["label/0", "label/1"]
    assert names["loss"] == ["loss"]


def test_the_state_before_the_first_step_is_known_however_a_model_is_built(stack, traces):
    for model, found in {**traces["models"], **traces["optimizers"]}.items():
        assert found["unknown before step 0"] == [], model
        assert found["events"] == [], model


def test_the_optimizer_is_recorded_with_its_effective_hyperparameters(traces):
    # The script said "adam" and no more.
    optimizer = traces["about"]["optimizer"]
    assert optimizer["class"] == "Adam"
    found = optimizer["config"]
    expected = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["amsgrad"] is False


def test_layers_are_recorded_with_resolved_defaults(traces):
    lstm, normalization, out = traces["about"]["model"]["layers"]
    assert [layer["class"] for layer in (lstm, normalization, out)] == [
        "LSTM", "BatchNormalization", "Dense",
    ]  # fmt: skip
    assert [layer["name"] for layer in (lstm, normalization, out)] == [
        "lstm", "batch_normalization", "out",
    ]  # fmt: skip
    assert lstm["config"]["units"] == 3
    assert lstm["config"]["activation"] == "tanh"
    assert lstm["config"]["recurrent_activation"] == "sigmoid"
    assert lstm["config"]["unit_forget_bias"] is True
    assert normalization["config"]["momentum"] == pytest.approx(0.99)
    assert normalization["config"]["epsilon"] == pytest.approx(0.001)
    assert out["config"]["use_bias"] is True
    assert lstm["weights"] == recurrent("lstm")
    assert [layer["inputs"] for layer in (normalization, out)] == [
        ["lstm"], ["batch_normalization"],
    ]  # fmt: skip


def test_compile_arguments_are_recorded(traces):
    arguments = traces["about"]["compile"]
    assert arguments["loss"] == "mse"
    assert arguments["loss_weights"] is None
    assert "mae" in json.dumps(arguments["metrics"])


def test_the_surroundings_are_recorded(stack, traces):
    about = traces["about"]
    versions = about["stack"]["versions"]
    series = {"keras2.3": "3.7.", "tf2.3": "3.8.", "keras3": "3.11."}
    tensorflow = {"keras2.3": "1.15.5", "tf2.3": "2.3.4", "keras3": "2.21.0"}
    assert versions["python"].startswith(series[stack.name])
    assert versions["tensorflow"] == tensorflow[stack.name]
    assert {"numpy", "zarr", "tracediff_hooks"} <= set(versions)
    assert about["stack"]["backend"] == "tensorflow"
    assert about["stack"]["generation"] == {
        "keras2.3": "keras-graph", "tf2.3": "tf-function", "keras3": "keras3",
    }[stack.name]  # fmt: skip
    environment = about["environment"]
    assert any("CPU:0" in device for device in environment["devices"])
    assert set(environment["threads"]) == {"inter", "intra"}
    assert environment["flags"]["eager"] is False
    assert environment["flags"]["jit_compile"] is False
    assert environment["flags"]["floatx"] == "float32"
    assert environment["tensorflow_seed"] == 1
    assert environment["variables"]["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_fit_is_recorded_with_what_the_framework_told_callbacks(traces):
    (fit,) = traces["about"]["fits"]
    assert fit["epochs"] == 2
    assert fit["first_step"] == 0
    assert traces["about"]["status"] == "complete"
