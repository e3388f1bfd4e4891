"""Reads the metrics that a step reports, in its logs or in a list beside their names.

Losses are left out: the frameworks report running means of them.
"""

from typing import Any, Dict, Iterator, Mapping, Sequence, Tuple

import numpy as np

from tracediff_hooks.names import metric_name
from tracediff_hooks.tensors import Key

UNNAMED_LOGS = (
    "a custom train_step returned no dictionary of logs by their names, so its steps are not "
    "recorded"
)


def are_named(logs: Any) -> bool:
    """Whether a step has returned logs by name, to which another entry can be added."""
    return isinstance(logs, dict) and all(isinstance(name, str) for name in logs)


def logged_metrics(
    model: Any, layers: Sequence[Any], logs: Mapping[str, Any]
) -> Dict[Key, np.ndarray]:
    """The metrics in the logs of a step, by canonical name."""
    outputs = list(getattr(model, "output_names", None) or [])
    prefixes = _prefixes(outputs, layers)
    found: Dict[Key, np.ndarray] = {}
    for name, value in _flat(logs):
        if name == "loss" or (name.endswith("_loss") and name[: -len("_loss")] in outputs):
            continue
        array = np.array(value.numpy() if hasattr(value, "numpy") else value)
        if array.dtype.kind in "biuf":
            found[_key(name, prefixes)] = array
    return found


def _flat(logs: Mapping[str, Any]) -> Iterator[Tuple[str, Any]]:
    """Each entry by its own name, those of dictionaries inside too, as Keras 3 reports them."""
    for name, value in logs.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield str(name), value


def listed_metrics(
    model: Any, layers: Sequence[Any], values: Sequence[Any]
) -> Dict[Key, np.ndarray]:
    """The metrics that a graph's train function returns behind the loss, by canonical name."""
    outputs = list(getattr(model, "output_names", None) or [])
    prefixes = _prefixes(outputs, layers)
    losses = [output + "_loss" for output in outputs if len(outputs) > 1]
    return {
        _key(name, prefixes): np.array(value)
        for name, value in zip(model.metrics_names[1:], values)
        if name not in losses
    }


def _prefixes(outputs: Sequence[str], layers: Sequence[Any]) -> Dict[str, str]:
    """What the metrics of each output begin with -> the canonical name of its layer.

    With one output alone its name is in none of them.
    """
    if len(outputs) < 2:
        return {}
    names = {str(entry.layer.name): entry.name for entry in layers}
    return {output + "_": names[output] + "_" for output in outputs if output in names}


def _key(name: str, prefixes: Mapping[str, str]) -> Key:
    for prefix, canonical in prefixes.items():
        if name.startswith(prefix):
            name = canonical + name[len(prefix) :]
            break
    return "metric", "metric/" + metric_name(name)
