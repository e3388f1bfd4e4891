"""The same thing has the same name on every stack, and a run says what it was run with.

Each stack's names are held against one list written by hand, so that they are equal to each other.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "namings.py"


@pytest.fixture(scope="module")
def traces(training, tmp_path_factory):
    """What the traces of one process hold, by model and by optimizer."""
    folder = tmp_path_factory.mktemp("names")
    return json.loads(training.run(PROGRAM, folder, timeout=1800).stdout)


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

WITH_LEGACY = ("tf2.15", "tf-keras")
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


def on(training, cases, missing):
    """The cases that a stack has."""
    return [case for case in cases if training.name != "keras2.3" or case not in missing]


def test_weights_have_canonical_names_in_execution_order(training, traces):
    for model in on(training, WEIGHTS, NOT_IN_KERAS_23):
        assert traces["models"][model]["names"]["weight"] == WEIGHTS[model], model


def test_gradients_are_named_for_the_weights_that_are_trained(training, traces):
    for model in on(training, WEIGHTS, NOT_IN_KERAS_23):
        found = traces["models"][model]
        assert found["names"]["gradient"] == trained(WEIGHTS[model]), model
        assert sorted(found["names"]["applied_gradient"]) == sorted(trained(WEIGHTS[model])), model
        assert found["trainable"] == trained(WEIGHTS[model]), model


def test_slots_are_named_for_their_weights(training, traces):
    for model in on(training, WEIGHTS, NOT_IN_KERAS_23):
        slots = [name + slot for name in trained(WEIGHTS[model]) for slot in ("/m", "/v")]
        assert traces["models"][model]["names"]["slot"] == [*slots, "optimizer/iteration"], model


def test_every_optimizer_has_one_vocabulary_of_slots(training, traces):
    for rule in on(training, SLOTS, NOT_RULES_OF_KERAS_23):
        slots = [f"{name}/{slot}" for name in dense("hidden", "out") for slot in SLOTS[rule]]
        expected = [*slots, *OF_NO_WEIGHT.get(rule, ["optimizer/iteration"])]
        made = [rule, "legacy " + rule] if training.name in WITH_LEGACY else [rule]
        for optimizer in made:
            assert traces["optimizers"][optimizer]["names"]["slot"] == expected, optimizer


def test_slots_have_the_shapes_of_their_weights(training, traces):
    for model in on(training, WEIGHTS, NOT_IN_KERAS_23):
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


def test_the_state_before_the_first_step_is_known_however_a_model_is_built(training, traces):
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


def test_layers_are_recorded_with_resolved_defaults(training, traces):
    lstm, normalization, out = traces["about"]["model"]["layers"]
    assert [layer["class"] for layer in (lstm, normalization, out)] == [
        "LSTM", "BatchNormalization", "Dense",
    ]  # fmt: skip
    assert [layer["name"] for layer in (lstm, normalization, out)] == [
        "lstm", "batch_normalization", "out",
    ]  # fmt: skip
    assert lstm["config"]["units"] == 3
    assert lstm["config"]["activation"] == "tanh"
    default = "hard_sigmoid" if training.name == "tf1.15" else "sigmoid"
    assert lstm["config"]["recurrent_activation"] == default
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
    # tf.keras of TensorFlow 1.15 keeps the metric and not the word that asked for it.
    metrics = json.dumps(arguments["metrics"])
    assert "mae" in metrics or "mean_absolute_error" in metrics


SURROUNDINGS = {
    # stack -> series of Python, package, its version, backend, generation
    "keras2.3": ("3.7.", "tensorflow", "1.15.5", "tensorflow", "keras-graph"),
    "tf1.15": ("3.7.", "tensorflow", "1.15.5", "tensorflow", "keras-graph"),
    "tf2.3": ("3.8.", "tensorflow", "2.3.4", "tensorflow", "tf-function"),
    "tf2.15": ("3.11.", "tensorflow", "2.15.1", "tensorflow", "tf-keras"),
    "tf-keras": ("3.11.", "tf_keras", "2.21.0", "tensorflow", "tf-keras"),
    "keras3": ("3.11.", "tensorflow", "2.21.0", "tensorflow", "keras3"),
    "keras3-jax": ("3.11.", "jax", "0.10.2", "jax", "keras3-jax"),
    "keras3-torch": ("3.11.", "torch", "2.13.0", "torch", "keras3-torch"),
}


def test_the_surroundings_are_recorded(training, traces):
    about = traces["about"]
    versions = about["stack"]["versions"]
    series, package, version, backend, generation = SURROUNDINGS[training.name]
    assert versions["python"].startswith(series)
    assert versions[package].split("+")[0] == version
    assert {"numpy", "zarr", "tracediff_hooks"} <= set(versions)
    assert about["stack"]["backend"] == backend
    assert about["stack"]["generation"] == generation
    environment = about["environment"]
    assert any("CPU:0" in device for device in environment["devices"])
    assert set(environment["threads"]) == {"inter", "intra"}
    # torch runs what is written, JAX compiles it unless told otherwise
    assert environment["flags"]["eager"] is (backend == "torch")
    assert environment["flags"]["jit_compile"] is (backend == "jax")
    assert environment["flags"]["floatx"] == "float32"
    seed = "tensorflow_seed" if backend == "tensorflow" else "keras_seed"
    assert environment[seed] == 1
    assert environment["variables"]["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_fit_is_recorded_with_what_the_framework_told_callbacks(traces):
    (fit,) = traces["about"]["fits"]
    assert fit["epochs"] == 2
    assert fit["first_step"] == 0
    assert traces["about"]["status"] == "complete"
