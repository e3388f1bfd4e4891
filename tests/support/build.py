"""Builds tiny traces from dictionaries, through the recorder that users have."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tracediff_hooks.recorder import Recorder, SparseRows, TensorSpec

Key = tuple[str, str]

STATE_ROLES = ("weight", "slot")
ABOUT: dict[str, Any] = {
    "stack": {
        "generation": "keras3",
        "label": "Keras 3.15 on TensorFlow",
        "keras": "3.15.0",
        "backend": "tensorflow",
        "versions": {"python": "3.11.9", "numpy": "2.4.6"},
    },
    "environment": {},
    "model": {"name": "sequential", "class": "Sequential", "layers": []},
    "optimizer": {"class": "SGD", "config": {"learning_rate": 0.1}},
    "compile": {"loss": "mse"},
    "capture": {"mechanism": "test"},
}


@dataclass(frozen=True)
class Step:
    """What one step saw and did.

    Attributes:
        observed: Values of every role that is no state, by (role, name).
        after: State that the step changed, by (role, name); the rest stays as it was.
        before: State that something else changed before this step.
        epoch: The epoch.
        batch: The batch within it.
        fit: The number of the ``fit`` call; a new one begins where it grows.
    """

    observed: Mapping[Key, Any] = field(default_factory=dict)
    after: Mapping[Key, Any] = field(default_factory=dict)
    before: Mapping[Key, Any] = field(default_factory=dict)
    epoch: int = 0
    batch: int = 0
    fit: int = 0


@dataclass(frozen=True)
class RunPlan:
    """A run to be recorded.

    Attributes:
        steps: Its steps.
        initial: The state before step 0, by (role, name).
        about: Run attributes that differ from `ABOUT`.
        specs: Fields of tensors that differ from what their first value says, by (role, name);
            {"same_as": "gradient"} makes an alias.
        status: How it ended; ``recording`` leaves it as a kill after the last flush would.
    """

    steps: Sequence[Step]
    initial: Mapping[Key, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    specs: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)
    status: str = "complete"


def make_trace(
    path: Path | str,
    *runs: RunPlan,
    level: str = "full",
    compression: str | None = None,
) -> Path:
    """Record the runs into a new trace at ``path`` and return it.

    Example:
        kernel = ("weight", "hidden/kernel")
        make_trace(tmp_path / "a.zarr", RunPlan([Step(after={kernel: b})], initial={kernel: a}))
    """
    target = Path(path)
    with tempfile.TemporaryDirectory() as scratch:
        unfinished = bool(runs) and runs[-1].status == "recording"
        place = Path(scratch) / "trace.zarr" if unfinished else target
        recorder = Recorder(place, level=level, compression=compression)
        for plan in runs:
            _record(recorder, plan)
            if plan.status == "recording":
                recorder.flush()
                shutil.copytree(place, target)
            else:
                recorder.end_run(plan.status)
        assert not recorder.failed
        recorder.close()
    return target


def _record(recorder: Recorder, plan: RunPlan) -> None:
    recorder.begin_run(about={**ABOUT, **plan.about}, tensors=_specs(plan))
    state = {key: _array(value) for key, value in plan.initial.items()}
    fit = -1
    for step in plan.steps:
        if step.fit > fit:
            recorder.begin_fit({"epochs": 1})
            fit = step.fit
        before = {**state, **_arrays(step.before)}
        state = {**before, **_arrays(step.after)}
        recorder.record_step(
            epoch=step.epoch,
            batch=step.batch,
            before=before,
            observed=_arrays(step.observed),
            after=state,
        )


def _array(value: Any) -> Any:
    return value if isinstance(value, SparseRows) else np.array(value)


def _arrays(values: Mapping[Key, Any]) -> dict[Key, Any]:
    return {key: _array(value) for key, value in values.items()}


def _specs(plan: RunPlan) -> list[TensorSpec]:
    seen: dict[Key, list[Any]] = {key: [_array(value)] for key, value in plan.initial.items()}
    for step in plan.steps:
        for values in (step.before, step.observed, step.after):
            for key, value in values.items():
                seen.setdefault(key, []).append(_array(value))
    for key in plan.specs:
        seen.setdefault(key, [])
    trained = {name for role, name in seen if role == "gradient"}
    specs = []
    for order, (key, values) in enumerate(seen.items()):
        role, name = key
        fields: dict[str, Any] = {
            "order": order,
            "layer": name.rpartition("/")[0] if role in {"weight", "gradient"} else None,
            "trainable": (name in trained) if role == "weight" else None,
            **_layout(values),
            **plan.specs.get(key, {}),
        }
        specs.append(TensorSpec(name=name, role=role, **fields))
    return specs


def _layout(values: Sequence[Any]) -> dict[str, Any]:
    if not values:
        return {"dtype": "float32", "shape": ()}
    if isinstance(values[0], SparseRows):
        # How many rows the dense tensor has only the test knows: it says so in `specs`.
        return {"dtype": values[0].values.dtype.name, "sparse": True}
    shapes = {value.shape for value in values}
    dtype = values[0].dtype.name
    if len(shapes) > 1:
        return {"dtype": dtype, "shape": None, "ragged": True}
    return {"dtype": dtype, "shape": shapes.pop()}


def linear_run(
    *,
    steps: int = 6,
    batch_size: int = 4,
    learning_rate: float = 0.1,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    status: str = "complete",
) -> RunPlan:
    """Return a run of least squares with momentum, in float32: a batch, a loss, two weights, slots.

    The last batch of each epoch of three steps is smaller by one, so inputs are ragged.
    """
    random = np.random.default_rng(seed)
    kernel = random.normal(size=(3, 2)).astype(np.float32)
    bias = np.zeros(2, np.float32)
    momentum = np.zeros_like(kernel)
    state = {
        ("weight", "dense/kernel"): kernel,
        ("weight", "dense/bias"): bias,
        ("slot", "dense/kernel/momentum"): momentum,
    }
    plan = []
    for number in range(steps):
        rows = batch_size - (number % 3 == 2)
        x = random.normal(size=(rows, 3)).astype(np.float32)
        y = random.normal(size=(rows, 2)).astype(np.float32)
        error = x @ state["weight", "dense/kernel"] + state["weight", "dense/bias"] - y
        d_kernel = (2 * x.T @ error / error.size).astype(np.float32)
        d_bias = (2 * error.sum(axis=0) / error.size).astype(np.float32)
        rate = np.float32(learning_rate)
        momentum = np.float32(0.9) * state["slot", "dense/kernel/momentum"] - rate * d_kernel
        state = {
            ("weight", "dense/kernel"): state["weight", "dense/kernel"] + momentum,
            ("weight", "dense/bias"): state["weight", "dense/bias"] - rate * d_bias,
            ("slot", "dense/kernel/momentum"): momentum,
        }
        observed = {
            ("input", "input/0"): x,
            ("label", "label/0"): y,
            ("loss", "loss"): np.float32((error**2).mean()),
            ("gradient", "dense/kernel"): d_kernel,
            ("gradient", "dense/bias"): d_bias,
            ("learning_rate", "optimizer/learning_rate"): rate,
        }
        plan.append(Step(observed, state, epoch=number // 3, batch=number % 3))
    initial = {
        ("weight", "dense/kernel"): kernel,
        ("weight", "dense/bias"): bias,
        ("slot", "dense/kernel/momentum"): np.zeros_like(kernel),
    }
    layer = {
        "name": "dense",
        "framework_name": "dense_7",
        "class": "Dense",
        "config": {"units": 2, "activation": "linear"},
        "trainable": True,
        "inputs": [],
        "weights": ["dense/kernel", "dense/bias"],
    }
    return RunPlan(
        plan,
        initial,
        {
            "model": {"name": "linear", "class": "Sequential", "layers": [layer]},
            "optimizer": {
                "class": "SGD",
                "config": {"learning_rate": learning_rate, "momentum": 0.9, "nesterov": False},
            },
            **(about or {}),
        },
        {
            ("weight", "dense/kernel"): {"framework_name": "dense_7/kernel:0"},
            ("weight", "dense/bias"): {"framework_name": "dense_7/bias:0"},
            ("applied_gradient", "dense/kernel"): {"same_as": "gradient", "shape": (3, 2)},
            ("applied_gradient", "dense/bias"): {"same_as": "gradient", "shape": (2,)},
        },
        status,
    )
