"""What things are called: parts of canonical tensor names, spellings of settings and classes.

Knows vocabulary only; it never looks at a value of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

HYPERPARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "lr": "learning_rate",
        "initial_learning_rate": "learning_rate",
        "decay_rate": "rho",
        "beta1": "beta_1",
        "beta2": "beta_2",
        "eps": "epsilon",
        "clip_norm": "clipnorm",
        "clip_value": "clipvalue",
        "initial_accumulator": "initial_accumulator_value",
    }
)
"""Other spellings of optimizer settings, each with the one used here."""

WEIGHT_ROLES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("kernel", "weight", "weights", "w", "W"), "kernel"),
        **dict.fromkeys(("bias", "b", "offset"), "bias"),
        **dict.fromkeys(("recurrent_kernel", "recurrent_weight", "u", "U"), "recurrent_kernel"),
        **dict.fromkeys(("gamma", "scale"), "gamma"),
        "beta": "beta",
        **dict.fromkeys(("moving_mean", "running_mean"), "moving_mean"),
        **dict.fromkeys(("moving_variance", "running_var", "moving_var"), "moving_variance"),
        **dict.fromkeys(("embeddings", "embedding", "table"), "embeddings"),
        "depthwise_kernel": "depthwise_kernel",
        "pointwise_kernel": "pointwise_kernel",
    }
)
"""What weights are called in one library or another -> what they are for."""

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "acc": "accuracy",
        "mean_squared_error": "mse",
        "mean_absolute_error": "mae",
        "mean_absolute_percentage_error": "mape",
        "mean_squared_logarithmic_error": "msle",
        "categorical_accuracy": "accuracy",
        "sparse_categorical_accuracy": "accuracy",
        "binary_accuracy": "accuracy",
    }
)
"""Other spellings of metrics, each with the one used here."""

# What says nothing about the arithmetic of an optimizer step.
_IDLE_OPTIMIZER_KEYS = frozenset({"name", "is_legacy_optimizer", "jit_compile", "class_name"})

_INERT_SETTINGS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "decay": (0, None),
        "momentum": (0, None),
        "nesterov": (False, None),
        "centered": (False, None),
        "amsgrad": (False, None),
        "clipnorm": (None,),
        "clipvalue": (None,),
        "global_clipnorm": (None,),
        "weight_decay": (None, 0, False),
        "use_ema": (False, None),
        "ema_momentum": (0.99, None),
        "ema_overwrite_frequency": (None,),
        "loss_scale_factor": (None,),
        "gradient_accumulation_steps": (None, 1),
    }
)
"""Values with which a setting does the same as if it were not there."""


def split_slot(name: str) -> tuple[str, str]:
    """Split the name of a slot into the weight it belongs to and the slot's own name.

    Example:
        >>> split_slot("encoder/dense/kernel/m")
        ('encoder/dense/kernel', 'm')
    """
    weight, _, slot = name.rpartition("/")
    return weight, slot


def within_layer(name: str, layer: str | None) -> str:
    """Return ``name`` without the leading name of its layer.

    Example:
        >>> within_layer("hidden/kernel", "hidden")
        'kernel'
    """
    prefix = f"{layer}/"
    return name[len(prefix) :] if layer and name.startswith(prefix) else name


def renamed(name: str, old_layer: str, new_layer: str) -> str:
    """Return ``name`` with its leading layer name replaced.

    Example:
        >>> renamed("dense_1/kernel/m", "dense_1", "output")
        'output/kernel/m'
        >>> renamed("dense_1", "dense_1", "output")
        'output'
    """
    if name == old_layer:
        return new_layer
    rest = within_layer(name, old_layer)
    return f"{new_layer}/{rest}" if rest != name else name


def model_layers(about: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return what the attributes of a run say about the layers of its model, in execution order."""
    model = about.get("model")
    layers = model.get("layers") if isinstance(model, Mapping) else None
    return [layer for layer in layers or () if isinstance(layer, Mapping)]


def class_name(spelled: Any) -> str:
    """Return the bare class of a layer or optimizer, whatever module path it was spelled with.

    Example:
        >>> class_name("keras.src.optimizers.adam.Adam"), class_name("Custom>Adam")
        ('Adam', 'Adam')
    """
    text = str(spelled or "")
    return text.rpartition(".")[2].rpartition(">")[2]


def optimizer_class(spelled: Any) -> str:
    """Return an optimizer's class in one spelling for all generations, lower case.

    Example:
        >>> optimizer_class("RMSProp"), optimizer_class("AdamOptimizer"), optimizer_class("Adam")
        ('rmsprop', 'adam', 'adam')
        >>> optimizer_class("LossScaleOptimizerV3")
        'lossscale'
    """
    bare = class_name(spelled).lower()
    if bare.startswith("lossscaleoptimizer"):
        return "lossscale"
    for suffix in ("optimizer", "v2"):
        bare = bare.removesuffix(suffix) or bare
    return "sgd" if bare == "gradientdescent" else bare


def optimizer_settings(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of an optimizer that matter, spelled one way, inert ones left out.

    Example:
        >>> optimizer_settings({"name": "SGD", "lr": 0.01, "momentum": 0.0, "decay": 0.0})
        {'learning_rate': 0.01}
    """
    settings: dict[str, Any] = {}
    for key, value in _with_inner(config or {}).items():
        spelled = HYPERPARAMETERS.get(key, key)
        if spelled in _IDLE_OPTIMIZER_KEYS:
            continue
        if spelled in _INERT_SETTINGS and value in _INERT_SETTINGS[spelled]:
            continue
        settings[spelled] = value
    return settings


def _with_inner(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of what scales losses with those of the optimizer inside.

    Keras 2.4 called that one ``optimizer`` and had the scale in a configuration of its own.
    """
    inner = config.get("inner_optimizer", config.get("optimizer"))
    if not isinstance(inner, Mapping) or not isinstance(inner.get("config"), Mapping):
        return config
    scale = config.get("loss_scale")
    settings = scale.get("config") if isinstance(scale, Mapping) else None
    if not isinstance(settings, Mapping):
        settings = config
    own = {
        spelled: settings[key]
        for spelled, keys in _SCALING.items()
        for key in keys
        if settings.get(key) is not None
    }
    return {**inner["config"], **own, "optimizer": optimizer_class(inner.get("class_name"))}


_SCALING = {
    "initial_scale": ("initial_scale", "initial_loss_scale"),
    "dynamic_growth_steps": ("dynamic_growth_steps", "increment_period"),
}


_NOT_COUNTING = frozenset({"sgd", "rmsprop", "adagrad", "adadelta", "lion"})


def scales_losses(optimizer: Mapping[str, Any] | None) -> bool:
    """Say whether an optimizer wraps another, and scales losses for it.

    Args:
        optimizer: What a trace says about it: class and config.
    """
    return optimizer_class((optimizer or {}).get("class")) == "lossscale"


def is_loss_scale(name: str) -> bool:
    """Say whether a slot is part of the state of a loss scale: the scale, or what it grows by.

    Example:
        >>> is_loss_scale("optimizer/dynamic_scale"), is_loss_scale("hidden/kernel/m")
        (True, False)
    """
    owner, own = split_slot(name)
    return own in ("dynamic_scale", "step_counter") and "/" not in owner


def update_rule(optimizer: Mapping[str, Any] | None) -> str:
    """Return the class of what updates weights, in one spelling: inside of what scales losses.

    Args:
        optimizer: What a trace says about it: class and config.

    Example:
        >>> inner = {"class_name": "Adam", "config": {"learning_rate": 0.1}}
        >>> update_rule({"class": "LossScaleOptimizer", "config": {"inner_optimizer": inner}})
        'adam'
    """
    known = optimizer or {}
    kind, config = optimizer_class(known.get("class")), known.get("config")
    if kind != "lossscale" or not isinstance(config, Mapping):
        return kind
    return str(optimizer_settings(config).get("optimizer", kind))


def counts_steps(optimizer: Mapping[str, Any] | None) -> bool:
    """Say whether the step counter enters the updates of an optimizer; if in doubt, yes.

    Args:
        optimizer: What a trace says about it: class and config.

    Example:
        >>> counts_steps({"class": "SGD", "config": {"learning_rate": 0.1, "momentum": 0.9}})
        False
        >>> counts_steps({"class": "SGD", "config": {"learning_rate": 0.1, "decay": 0.01}})
        True
    """
    known = optimizer or {}
    config = known.get("config")
    if not isinstance(config, Mapping):
        return True
    settings = optimizer_settings(config)
    if update_rule(known) not in _NOT_COUNTING:
        return True
    counted = ("decay", "use_ema", "gradient_accumulation_steps")
    scheduled = not isinstance(settings.get("learning_rate"), int | float)
    return scheduled or any(key in settings for key in counted)


def same_setting(a: Any, b: Any) -> bool:
    """Say whether two values of a setting mean the same.

    Numbers agree to the precision of float32, in which some stacks store them. Nested objects
    agree if their common keys do: generations differ in what else they write.

    Example:
        >>> same_setting(0.9, 0.8999999761581421), same_setting(1e-7, 1e-8)
        (True, False)
        >>> same_setting("keras.activations.relu", "relu"), same_setting([3, 3], (3, 3))
        (True, True)
        >>> old = {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}}
        >>> same_setting(old, {"class_name": "L2", "config": {"l2": 0.01}})
        True
        >>> config = {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform"}
        >>> old = {"class_name": "VarianceScaling", "config": config}
        >>> same_setting(old, {"class_name": "GlorotUniform", "config": {"seed": None}})
        True
        >>> same_setting("float32", {"class_name": "DTypePolicy", "config": {"name": "float32"}})
        True
    """
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b or (not isinstance(a, str) and not isinstance(b, str) and a == b)
    if isinstance(a, int | float) and isinstance(b, int | float):
        if math.isnan(a) and math.isnan(b):
            return True
        return a == b or math.isclose(a, b, rel_tol=2e-7)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_setting, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for meaning in (_regularizer, _initializer):
            meant = meaning(a), meaning(b)
            if None not in meant:
                return same_setting(*meant)
        return _same_object(a, b)
    if isinstance(a, Mapping) and isinstance(b, str):
        return _spelled(a) == _bare(b)
    if isinstance(a, str) and isinstance(b, Mapping):
        return _bare(a) == _spelled(b)
    if isinstance(a, str) and isinstance(b, str):
        return _bare(a) == _bare(b)
    return bool(a == b)


def _regularizer(value: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return the factors l1 and l2 of a regulariser, which generations give other classes."""
    config = value.get("config")
    if not isinstance(config, Mapping) or value.get("class_name") not in ("L1", "L2", "L1L2"):
        return None
    return config.get("l1", 0.0), config.get("l2", 0.0)


def _initializer(value: Mapping[str, Any]) -> str | None:
    """Return the name of an initialiser that Keras 2.3 writes as a scaled variance."""
    config, kind = value.get("config"), str(value.get("class_name")).lower()
    if kind == "variancescaling" and isinstance(config, Mapping):
        name = _SCALED.get((config.get("scale"), config.get("mode")))
        # What is normal is truncated in all of them.
        distribution = str(config.get("distribution")).rpartition("_")[2]
        return None if name is None else name + distribution
    return kind if kind in _NAMED else None


_SCALED: Mapping[tuple[Any, Any], str] = {
    (1.0, "fan_avg"): "glorot",
    (2.0, "fan_in"): "he",
    (1.0, "fan_in"): "lecun",
}
"""The name that scale and mode of a scaled variance go by."""
_NAMED = {name + kind for name in _SCALED.values() for kind in ("uniform", "normal")}


_IDLE_KEYS = frozenset(
    {"name", "seed", "dtype", "module", "registered_name", "build_config", "compile_config"}
)


def _same_object(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    common = (a.keys() & b.keys()) - _IDLE_KEYS
    return all(same_setting(a[key], b[key]) for key in common)


def _spelled(value: Mapping[str, Any]) -> str:
    config = value.get("config")
    if str(value.get("class_name")).endswith("Policy") and isinstance(config, Mapping):
        return _bare(str(config.get("name")))  # A precision policy goes by its dtype
    return _bare(str(value.get("class_name") or value.get("name") or value))


def _bare(text: str) -> str:
    bare = text.rpartition(".")[2].rpartition(">")[2]
    return bare.replace("_", "").replace(" ", "").lower()
