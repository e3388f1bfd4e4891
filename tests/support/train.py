"""A small network trained in plain numpy float32: honest runs that differ in one known thing.

Two dense layers, batch normalisation between them if wanted, mean squared error or cross-entropy.
Everything a recorder would see goes into a `RunPlan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from support.build import RunPlan, Step

F32 = np.float32


@dataclass(frozen=True)
class Training:
    """How to train; every field is one thing that two runs may differ in.

    Attributes:
        steps: Number of updates.
        batch: Samples a batch.
        epoch: Batches an epoch.
        sizes: Inputs, hidden units, outputs.
        seed: Of the data.
        init_seed: Of the initial weights.
        init_scale: Factor on the initial kernels.
        optimizer: ``sgd`` or ``adam``.
        lr: Learning rate, or a function of the step.
        momentum: For sgd; 0 keeps no slot.
        beta_1: For adam.
        beta_2: For adam.
        epsilon: For adam.
        counter: What adam adds to the iteration in its bias correction.
        rounded: Whether adam's 1 - beta is worked out in float32, as some stacks do.
        clipnorm: Bound on each gradient's norm, or None.
        regularizer: Factor of an L2 penalty on kernels.
        negative_slope: Of the hidden activation.
        tanh: Whether the hidden activation is tanh, which has no kink.
        batch_norm: Whether a batch normalisation follows the hidden layer.
        bn_momentum: Of its moving statistics.
        reordered_sums: Whether sums over the batch run from the other end: other rounding.
        loss_factor: Factor on the reported loss only.
        metric_factor: Factor on the reported metric only.
        feed: Changes a batch: (step, x, y) to (x, y).
        sample_weight: Weights of the samples of a step, or None.
        external: Factor on the output kernel before a step.
        gradient_factor: Factor on the raw gradient of the output kernel from a step on.
        gain: Factor on the input, for networks that amplify.
    """

    steps: int = 8
    batch: int = 16
    epoch: int = 4
    sizes: tuple[int, int, int] = (6, 12, 3)
    seed: int = 1
    init_seed: int = 2
    init_scale: float = 1.0
    optimizer: str = "sgd"
    lr: float | Callable[[int], float] = 0.05
    momentum: float = 0.9
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    counter: Callable[[int], int] = field(default=lambda step: 1)
    rounded: bool = False
    clipnorm: float | None = None
    regularizer: float = 0.0
    negative_slope: float = 0.0
    tanh: bool = False
    batch_norm: bool = False
    bn_momentum: float = 0.99
    reordered_sums: bool = False
    loss_factor: float = 1.0
    metric_factor: float = 1.0
    feed: Callable[[int, Any, Any], tuple[Any, Any]] | None = None
    sample_weight: Callable[[int], Any] | None = None
    external: Mapping[int, float] = field(default_factory=dict)
    gradient_factor: tuple[int, float] | None = None
    gain: float = 1.0
    about: Mapping[str, Any] = field(default_factory=dict)


def batches(plan: Training) -> list[tuple[Any, Any]]:
    """Return the batches of one epoch, as float32 samples and one-hot labels."""
    rng = np.random.default_rng(plan.seed)
    inputs, _, outputs = plan.sizes
    x = rng.normal(size=(plan.epoch * plan.batch, inputs)).astype(F32)
    truth = rng.normal(size=(inputs, outputs))
    y = np.eye(outputs, dtype=F32)[np.argmax(x @ truth, axis=1)]
    return [
        (x[start : start + plan.batch], y[start : start + plan.batch])
        for start in range(0, len(x), plan.batch)
    ]


def train(plan: Training) -> RunPlan:
    """Train and return what a recorder saw."""
    rng = np.random.default_rng(plan.init_seed)
    inputs, hidden, outputs = plan.sizes
    weights = {
        "hidden/kernel": _draw(rng, inputs, hidden, plan.init_scale),
        "hidden/bias": np.zeros(hidden, F32),
    }
    if plan.batch_norm:
        weights["bn/gamma"] = np.ones(hidden, F32)
        weights["bn/beta"] = np.zeros(hidden, F32)
        weights["bn/moving_mean"] = np.zeros(hidden, F32)
        weights["bn/moving_variance"] = np.ones(hidden, F32)
    weights["output/kernel"] = _draw(rng, hidden, outputs, plan.init_scale)
    weights["output/bias"] = np.zeros(outputs, F32)
    trained = [name for name in weights if "moving" not in name]
    slots = {
        f"{name}/{slot}": np.zeros_like(weights[name])
        for name in trained
        for slot in _slot_names(plan)
    }
    state = {("weight", name): value for name, value in weights.items()}
    state |= {("slot", name): value for name, value in slots.items()}
    state["slot", "optimizer/iteration"] = np.int64(0)
    initial, steps, data = dict(state), [], batches(plan)
    for step in range(plan.steps):
        x, y = data[step % plan.epoch]
        if plan.feed is not None:
            x, y = plan.feed(step, x, y)
        x = (x * F32(plan.gain)).astype(x.dtype)
        before = {}
        if step in plan.external:
            key = ("weight", "output/kernel")
            before[key] = state[key] * F32(plan.external[step])
            state = {**state, **before}
        sample_weight = None if plan.sample_weight is None else plan.sample_weight(step)
        observed, after = _step(plan, step, state, x, y, sample_weight)
        state = {**state, **after}
        steps.append(
            Step(
                observed=observed,
                after=after,
                before=before,
                epoch=step // plan.epoch,
                batch=step % plan.epoch,
            )
        )
    return RunPlan(steps, initial=initial, about=_about(plan), specs=_specs(initial, steps))


def _draw(rng: Any, rows: int, columns: int, scale: float) -> Any:
    return (rng.normal(size=(rows, columns)) * scale / np.sqrt(rows)).astype(F32)


def _slot_names(plan: Training) -> tuple[str, ...]:
    if plan.optimizer == "adam":
        return ("m", "v")
    return ("momentum",) if plan.momentum else ()


def _summed(plan: Training, left: Any, right: Any) -> Any:
    """Return left.T @ right, summed over the batch in one order or the other."""
    if plan.reordered_sums:
        left, right = left[::-1], right[::-1]
    total = np.zeros((left.shape[1], right.shape[1]), F32)
    for one, other in zip(left, right, strict=True):
        total += np.outer(one, other)
    return total


def _step(
    plan: Training, step: int, state: Mapping[Any, Any], x: Any, y: Any, sample_weight: Any
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    def weight(name: str) -> Any:
        return state["weight", name]

    values = np.asarray(x, F32).reshape(len(x), -1)
    targets = np.asarray(y, F32)
    count = F32(len(values))
    ones = np.ones((len(values), 1), F32)
    hidden = values @ weight("hidden/kernel") + weight("hidden/bias")
    after: dict[Any, Any] = {}
    normal = hidden
    if plan.batch_norm:
        mean = (_summed(plan, ones, hidden) / count)[0]
        centred = hidden - mean
        variance = (_summed(plan, ones, centred * centred) / count)[0]
        root = np.sqrt(variance + F32(1e-3))
        scaled = centred / root
        normal = scaled * weight("bn/gamma") + weight("bn/beta")
        keep = F32(plan.bn_momentum)
        for name, fresh in (("mean", mean), ("variance", variance)):
            old = weight(f"bn/moving_{name}")
            after["weight", f"bn/moving_{name}"] = old * keep + fresh * (F32(1) - keep)
    if plan.tanh:
        active = np.tanh(normal)
        slope = F32(1) - active * active
    else:
        slope = np.where(normal > 0, F32(1), F32(plan.negative_slope))
        active = normal * slope
    logits = active @ weight("output/kernel") + weight("output/bias")
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances = shifted / shifted.sum(axis=1, keepdims=True)
    share = np.ones(len(values), F32) if sample_weight is None else sample_weight
    costs = -np.log(np.maximum((chances * targets).sum(axis=1), F32(1e-7))) * share
    penalty = sum(
        F32(plan.regularizer) * (weight(name) ** 2).sum()
        for name in ("hidden/kernel", "output/kernel")
    )
    loss = (_summed(plan, costs[:, None], ones) / count)[0, 0] + F32(penalty)
    d_logits = (chances - targets) * share[:, None] / count
    gradients = {
        "output/kernel": _summed(plan, active, d_logits),
        "output/bias": _summed(plan, ones, d_logits)[0],
    }
    d_normal = (d_logits @ weight("output/kernel").T) * slope
    d_hidden = d_normal
    if plan.batch_norm:
        gradients["bn/gamma"] = _summed(plan, ones, d_normal * scaled)[0]
        gradients["bn/beta"] = _summed(plan, ones, d_normal)[0]
        d_scaled = d_normal * weight("bn/gamma")
        d_hidden = (
            d_scaled
            - (_summed(plan, ones, d_scaled) / count)[0]
            - scaled * (_summed(plan, ones, d_scaled * scaled) / count)[0]
        ) / root
    gradients["hidden/kernel"] = _summed(plan, values, d_hidden)
    gradients["hidden/bias"] = _summed(plan, ones, d_hidden)[0]
    for name in ("hidden/kernel", "output/kernel"):
        gradients[name] = gradients[name] + F32(2 * plan.regularizer) * weight(name)
    if plan.gradient_factor is not None and step >= plan.gradient_factor[0]:
        gradients["output/kernel"] = gradients["output/kernel"] * F32(plan.gradient_factor[1])
    applied = {name: _clipped(plan, gradient) for name, gradient in gradients.items()}
    rate = plan.lr(step) if callable(plan.lr) else plan.lr
    after |= _updated(plan, step, state, applied, F32(rate))
    after["slot", "optimizer/iteration"] = np.int64(step + 1)
    right = np.mean(chances.argmax(axis=1) == targets.argmax(axis=1))
    observed: dict[Any, Any] = {("input", "input/0"): x, ("label", "label/0"): y}
    if sample_weight is not None:
        observed["sample_weight", "sample_weight/0"] = sample_weight
    observed["loss", "loss"] = F32(loss * F32(plan.loss_factor))
    observed |= {("gradient", name): value for name, value in gradients.items()}
    observed |= {("applied_gradient", name): value for name, value in applied.items()}
    observed["learning_rate", "optimizer/learning_rate"] = F32(rate)
    observed["metric", "metric/accuracy"] = F32(right * plan.metric_factor)
    return observed, after


def _clipped(plan: Training, gradient: Any) -> Any:
    norm = np.sqrt((gradient * gradient).sum())
    if plan.clipnorm is None or norm <= plan.clipnorm:
        return gradient
    return gradient * F32(plan.clipnorm / norm)


def _updated(
    plan: Training, step: int, state: Mapping[Any, Any], gradients: Mapping[str, Any], lr: Any
) -> dict[Any, Any]:
    after: dict[Any, Any] = {}
    for name, gradient in gradients.items():
        weight = state["weight", name]
        if plan.optimizer == "adam":
            kind = F32 if plan.rounded else np.float64
            rest_1, rest_2 = F32(kind(1) - kind(plan.beta_1)), F32(kind(1) - kind(plan.beta_2))
            m = F32(plan.beta_1) * state["slot", f"{name}/m"] + rest_1 * gradient
            v = F32(plan.beta_2) * state["slot", f"{name}/v"] + rest_2 * gradient * gradient
            t = step + plan.counter(step)
            factor = np.sqrt(1 - plan.beta_2**t) / (1 - plan.beta_1**t)
            after["slot", f"{name}/m"], after["slot", f"{name}/v"] = m, v
            update = F32(lr * factor) * m / (np.sqrt(v) + F32(plan.epsilon))
            after["weight", name] = weight - update
        elif plan.momentum:
            slot = F32(plan.momentum) * state["slot", f"{name}/momentum"] - lr * gradient
            after["slot", f"{name}/momentum"] = slot
            after["weight", name] = weight + slot
        else:
            after["weight", name] = weight - lr * gradient
    return after


def _about(plan: Training) -> dict[str, Any]:
    rate = plan.lr(0) if callable(plan.lr) else plan.lr
    config: dict[str, Any] = {"learning_rate": rate, "clipnorm": plan.clipnorm}
    if plan.optimizer == "adam":
        config |= {"beta_1": plan.beta_1, "beta_2": plan.beta_2, "epsilon": plan.epsilon}
    else:
        config |= {"momentum": plan.momentum, "nesterov": False}
    activation = "relu" if not plan.negative_slope else f"leaky_relu_{plan.negative_slope}"
    layers = [_layer("hidden", "Dense", {"activation": activation, "units": plan.sizes[1]}, [])]
    if plan.batch_norm:
        settings = {"momentum": plan.bn_momentum, "epsilon": 1e-3}
        layers.append(_layer("bn", "BatchNormalization", settings, ["hidden"]))
    before = "bn" if plan.batch_norm else "hidden"
    layers.append(_layer("output", "Dense", {"activation": "softmax"}, [before]))
    return {
        "model": {"name": "sequential", "class": "Sequential", "layers": layers},
        "optimizer": {"class": plan.optimizer.title().replace("Sgd", "SGD"), "config": config},
        "compile": {"loss": "categorical_crossentropy"},
        **plan.about,
    }


def _layer(name: str, kind: str, config: dict[str, Any], inputs: list[str]) -> dict[str, Any]:
    return {"name": name, "class": kind, "config": config, "inputs": inputs, "trainable": True}


def _specs(initial: Mapping[Any, Any], steps: list[Step]) -> dict[Any, dict[str, Any]]:
    order = {name: place for place, (role, name) in enumerate(initial) if role == "weight"}
    specs: dict[Any, dict[str, Any]] = {}
    for role, name in [*initial, *steps[0].observed]:
        if role == "weight":
            specs[role, name] = {"order": order[name], "trainable": "moving" not in name}
        elif role in ("gradient", "applied_gradient"):
            specs[role, name] = {"order": order[name]}
        elif role == "slot":
            owner = name.rpartition("/")[0]
            specs[role, name] = {"order": order.get(owner, 1000)}
        if name in order:
            specs[role, name]["layer"] = name.partition("/")[0]
    return specs
