"""Differences between the settings of two models, as resolved when they were recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tracediff.diagnose.case import Case
from tracediff.names import class_name, model_layers, same_setting

# What names things, places them, or starts them; none of it enters a forward pass as such.
_IDLE = frozenset(
    {
        "name",
        "seed",
        "dtype",
        "trainable",
        "batch_input_shape",
        "batch_shape",
        "input_shape",
        "build_config",
        "ragged",
        "sparse",
        "optional",
        "input_dtype",
        "synchronized",
        "implementation",
        "fused",
        "time_major",
        "zero_output_for_mask",
        "input_dim",
        "input_length",
        "lora_rank",
        "lora_alpha",
        "quantization_config",
        "activity_regularizer_config",
    }
)
_WRAPPED = ("layer", "backward_layer", "cell")
"""Settings of wrappers that hold a layer of their own, with its class and settings."""
CONSTRAINT = "_constraint"
"""What the settings end in that bound a weight after its update."""
_RANDOM = (
    *("Dropout", "GaussianNoise", "RandomFlip", "RandomRotation", "RandomZoom"),
    *("RandomTranslation", "RandomContrast", "RandomCrop", "RandomBrightness"),
)
_MEANT_BY_ABSENCE: Mapping[str, tuple[Any, ...]] = {
    "groups": (1,),
    "dilation_rate": (1, [1], [1, 1], [1, 1, 1]),
    "data_format": ("channels_last",),
    "use_cudnn": ("auto",),
    "renorm": (False,),
    "unroll": (False,),
    "stateful": (False,),
    "go_backwards": (False,),
    "noise_shape": (None,),
    "axis": (-1, [-1]),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of one layer that differs."""

    layer: str
    kind: str
    key: str
    a: Any
    b: Any


def layer_settings(case: Case) -> Iterator[Setting]:
    """Yield the settings in which layers of one name differ, in execution order.

    A key that only one generation writes is passed over: what is absent is not known to differ.
    Initialisers are passed over too; initial weights are compared themselves.
    """
    by_name = {str(layer.get("name")): layer for layer in model_layers(case.b.about)}
    for layer in model_layers(case.a.about):
        name = str(layer.get("name"))
        other = by_name.get(name)
        if other is None:
            continue
        kind, other_kind = class_name(layer.get("class")), class_name(other.get("class"))
        if kind != other_kind and kind and other_kind and not _same_kind(kind, other_kind):
            yield Setting(name, kind, "class", kind, other_kind)
            continue
        config, other_config = (unwrapped(one.get("config") or {}) for one in (layer, other))
        for key in sorted(config.keys() & other_config.keys()):
            bare = key.rpartition(".")[2]
            if bare in _IDLE or bare.endswith("_initializer"):
                continue
            a, b = config[key], other_config[key]
            if bare == "axis" and _may_be_last(a, b):
                continue
            if bare == "class" and _same_kind(a, b):
                continue
            if not same_setting(a, b) and not (_inert(bare, a) and _inert(bare, b)):
                yield Setting(name, kind, key, a, b)


def unwrapped(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of a wrapped layer beside them, as `layer.units`.

    Of a layer that runs both ways, the way back is left out where it is set like the way there.
    """
    flat = {key: value for key, value in config.items() if key not in _WRAPPED}
    inner: dict[str, Any] = {}
    for key in _WRAPPED:
        held = config.get(key)
        if not isinstance(held, Mapping) or not isinstance(held.get("config"), Mapping):
            continue
        settings = {**unwrapped(held["config"]), "class": class_name(held.get("class_name"))}
        if key == "layer":
            inner = settings
        for bare, value in settings.items():
            if key != "backward_layer" or bare not in inner or inner[bare] != value:
                flat[f"{key}.{bare}"] = value
    return flat


def _same_kind(a: str, b: str) -> bool:
    def plain(kind: str) -> str:
        return kind.removeprefix("CuDNN").removesuffix("V1").removesuffix("V2")

    return plain(a) == plain(b)


def _may_be_last(a: Any, b: Any) -> bool:
    """Say whether one axis is the last one and the other may be, written from the front."""
    axes = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in (a, b)]
    if not all(isinstance(axis, int) for axis in axes):
        return False
    return -1 in axes and max(axes) != 0


def _inert(key: str, value: Any) -> bool:
    return value is None or value in _MEANT_BY_ABSENCE.get(key, ())


def random_layers(case: Case) -> list[str]:
    """Return the layers that draw random numbers in training."""
    found = []
    for layer in model_layers(case.a.about):
        config = layer.get("config") or {}
        random = class_name(layer.get("class")).endswith(_RANDOM) and config.get("rate", 1) != 0
        if random or config.get("dropout") or config.get("recurrent_dropout"):
            found.append(str(layer.get("name")))
    return found
