"""Reads the metrics that a step reports in its logs."""

from typing import Any, Dict, Mapping, Sequence

import numpy as np

from tracediff_hooks.names import metric_name
from tracediff_hooks.tensors import Key


def metrics(model: Any, layers: Sequence[Any], logs: Mapping[str, Any]) -> Dict[Key, np.ndarray]:
    """The reported metrics by canonical name.

    Losses are left out: the frameworks report running means of them.
    """
    outputs = list(getattr(model, "output_names", None) or [])
    renamed = {str(entry.layer.name): entry.name for entry in layers}
    found: Dict[Key, np.ndarray] = {}
    for name, value in logs.items():
        if name == "loss" or (name.endswith("_loss") and name[: -len("_loss")] in outputs):
            continue
        canonical = name
        for output in outputs:
            if len(outputs) > 1 and name.startswith(output + "_") and output in renamed:
                canonical = renamed[output] + name[len(output) :]
                break
        array = np.array(value.numpy() if hasattr(value, "numpy") else value)
        if array.dtype.kind in "biuf":
            found["metric", "metric/" + metric_name(canonical)] = array
    return found
