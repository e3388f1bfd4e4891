"""Forward pass, loss, gradients and metrics."""

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace
from support.runs import SGD, cause, changed, codes, compared, place
from support.train import train

from tracediff.compare import compare


def model(*layers, **rest):
    return {
        "model": {"layers": [{"name": n, "class": c, "config": k} for n, c, k in layers]},
        **rest,
    }


def test_a_layer_set_otherwise_is_named_with_both_values(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, negative_slope=0.01))
    found = cause(comparison, "layer.forward")
    assert place(comparison)[:2] == (0, "loss")
    assert found.subject == "hidden.activation"
    assert (found.a, found.b) == ("relu", "leaky_relu_0.01")
    assert found.confidence > 0.8
    assert codes(comparison) == ["layer.forward"]


def test_settings_of_names_and_seeds_are_no_cause(tmp_path):
    a = model(("hidden", "Dense", {"name": "x", "seed": 1, "activation": "relu"}))
    b = model(("hidden", "Dense", {"name": "y", "seed": 2, "activation": "keras.activations.relu"}))
    comparison = compared(tmp_path, changed(SGD, about=a), changed(SGD, about=b, loss_factor=1.1))
    assert codes(comparison) == ["unexplained"]


def test_a_regulariser_is_a_cause_of_the_loss(tmp_path):
    plain = model(("hidden", "Dense", {"kernel_regularizer": None}))
    penal = model(
        ("hidden", "Dense", {"kernel_regularizer": {"class_name": "L2", "config": {"l2": 1e-4}}})
    )
    comparison = compared(
        tmp_path, changed(SGD, about=plain), changed(SGD, about=penal, regularizer=1e-4)
    )
    found = cause(comparison, "loss.value")
    assert found.subject == "hidden.kernel_regularizer"
    assert codes(comparison)[0] == "loss.value"


def test_a_loss_compiled_otherwise(tmp_path):
    a = changed(SGD, about={"compile": {"loss": "mse"}})
    b = changed(SGD, about={"compile": {"loss": "mae"}}, loss_factor=1.2)
    found = cause(compared(tmp_path, a, b), "loss.value")
    assert (found.a, found.b) == ("mse", "mae")
    assert found.confidence > 0.8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mse", "mean_squared_error"),
        (
            "categorical_crossentropy",
            {
                "class_name": "CategoricalCrossentropy",
                "config": {"from_logits": False, "name": "c"},
            },
        ),
    ],
)
def test_one_loss_spelled_twice_is_no_cause(tmp_path, one, other):
    a = changed(SGD, about={"compile": {"loss": one}})
    b = changed(SGD, about={"compile": {"loss": other}}, loss_factor=1.2)
    assert codes(compared(tmp_path, a, b)) == ["unexplained"]


def test_logits_taken_for_probabilities(tmp_path):
    losses = [
        {"class_name": "CategoricalCrossentropy", "config": {"from_logits": flag}}
        for flag in (True, False)
    ]
    a = changed(SGD, about={"compile": {"loss": losses[0]}})
    b = changed(SGD, about={"compile": {"loss": losses[1]}}, loss_factor=1.2)
    assert codes(compared(tmp_path, a, b)) == ["loss.value"]


def test_random_layers_are_a_candidate_where_the_forward_pass_parts(tmp_path):
    about = model(("hidden", "Dense", {}), ("drop", "Dropout", {"rate": 0.5}))
    plan = changed(SGD, about=about)
    comparison = compared(tmp_path, plan, changed(plan, loss_factor=1.3))
    assert cause(comparison, "layer.random").subject == "drop"


@pytest.mark.parametrize("rate", [0.0])
def test_random_layers_that_draw_nothing_are_not(tmp_path, rate):
    plan = changed(SGD, about=model(("drop", "Dropout", {"rate": rate})))
    assert codes(compared(tmp_path, plan, changed(plan, loss_factor=1.3))) == ["unexplained"]


def test_an_unknown_difference_of_the_loss_says_what_to_record(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, loss_factor=1.1))
    found = cause(comparison, "unexplained")
    assert found.subject == "loss"
    assert any("activations=True" in line for line in found.evidence)


def test_a_layer_whose_output_differs_is_named(tmp_path):
    def with_outputs(factor):
        run = train(changed(SGD, steps=2))
        for step in run.steps:
            x = step.observed["input", "input/0"]
            step.observed["activation", "hidden"] = x
            step.observed["activation", "output"] = x * np.float32(factor)
        specs = {
            **run.specs,
            ("activation", "hidden"): {"layer": "hidden", "order": 0},
            ("activation", "output"): {"layer": "output", "order": 1},
        }
        return RunPlan(run.steps, run.initial, run.about, specs)

    a = make_trace(tmp_path / "a.zarr", with_outputs(1.0))
    b = make_trace(tmp_path / "b.zarr", with_outputs(1.01))
    comparison = compare(a, b)
    assert place(comparison) == (0, "forward", "output")
    assert cause(comparison, "layer.forward").subject == "output"


def test_moving_statistics_of_another_momentum(tmp_path):
    plan = changed(SGD, batch_norm=True)
    comparison = compared(tmp_path, plan, changed(plan, bn_momentum=0.9))
    found = cause(comparison, "layer.state")
    assert (found.a, found.b) == (0.99, 0.9)
    assert any("moves 10 times as far in B, exactly so" in line for line in found.evidence)
    assert codes(comparison) == ["layer.state"]


def test_a_raw_gradient_that_differs_on_an_equal_loss(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, gradient_factor=(3, 1.01)))
    found = cause(comparison, "gradient.raw")
    assert place(comparison) == (3, "gradient", "output/kernel")
    assert any("cosine 1" in line for line in found.evidence)
    assert codes(comparison) == ["gradient.raw"]


def test_clipping_shows_in_the_applied_gradient_only(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, clipnorm=0.05))
    found = cause(comparison, "gradient.processing")
    assert found.subject == "clipnorm"
    assert (found.a, found.b) == (None, 0.05)
    assert codes(comparison) == ["gradient.processing"]


def test_clipping_that_never_bites_is_no_cause(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, clipnorm=1e3))
    assert comparison.verdict == "identical"
    assert comparison.causes == ()


def test_a_metric_that_differs_alone(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, metric_factor=0.5))
    assert codes(comparison) == ["metric.definition"]
    assert place(comparison) == (0, "metric", "metric/accuracy")


def metric_run(folder, name, loss, accuracy):
    observed = {
        ("input", "input/0"): np.ones((50, 2), np.float32),
        ("loss", "loss"): np.float32(loss),
        ("metric", "metric/accuracy"): np.float32(accuracy),
    }
    return make_trace(folder / name, RunPlan([Step(observed=observed)]))


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.52, "rounding"), (0.6, "diverged")])
def test_a_sample_that_rounding_tips_over_is_no_other_metric(tmp_path, accuracy, verdict):
    # GIVEN losses that differ by rounding and an accuracy that differs by one sample, or by five
    a = metric_run(tmp_path, "a.zarr", 0.7, 0.5)
    b = metric_run(tmp_path, "b.zarr", np.nextafter(np.float32(0.7), np.float32(1)), accuracy)
    assert compare(a, b).verdict == verdict
