"""Optimizers of `tf.compat.v1.train` inside tf.keras: what they keep, and what they are set to.

tf.keras wraps them as a `TFOptimizer`, which tells neither its settings nor its variables
(tensorflow/python/keras/optimizers.py, 1.15).
"""

from typing import Any, Dict, List, Tuple

import numpy as np

SETTINGS = {
    "_lr": "learning_rate",
    "_learning_rate": "learning_rate",
    "_beta1": "beta_1",
    "_beta2": "beta_2",
    "_epsilon": "epsilon",
    "_momentum": "momentum",
    "_use_nesterov": "nesterov",
    "_rho": "rho",
    "_decay": "rho",
    "_centered": "centered",
    "_initial_accumulator_value": "initial_accumulator_value",
    "_learning_rate_power": "learning_rate_power",
    "_l1_regularization_strength": "l1_regularization_strength",
    "_l2_regularization_strength": "l2_regularization_strength",
    "_l2_shrinkage_regularization_strength": "l2_shrinkage_regularization_strength",
}
"""The attributes of the classes in tensorflow/python/training, 1.15, and what Keras calls them:
`decay` of `RMSPropOptimizer` is the `rho` of Keras, and no decay of the rate."""

SLOTS = {
    "AdadeltaOptimizer": {"accum": "accum_grad", "accum_update": "accum_var"},
    "FtrlOptimizer": {"accum": "accumulator"},
}
"""By class, the slots that Keras calls otherwise."""


def wrapped(optimizer: Any) -> Any:
    """The optimizer of `tf.compat.v1.train` inside one of Keras, or None."""
    if type(optimizer).__name__ != "TFOptimizer":
        return None
    return getattr(optimizer, "optimizer", None)


def settings(inner: Any) -> Dict[str, Any]:
    """The hyperparameters in the words of Keras, as the update uses them: rounded to float32.

    A rate that is a tensor is left out.
    """
    found: Dict[str, Any] = {}
    for attribute, name in SETTINGS.items():
        value = getattr(inner, attribute, None)
        if isinstance(value, bool):
            found[name] = value
        elif isinstance(value, (int, float)):
            found[name] = float(np.float32(value))
    return found


def slots(inner: Any, variable: Any) -> List[Tuple[str, Any]]:
    """The slots of one variable, by canonical name."""
    names = SLOTS.get(type(inner).__name__, {})
    kept = [(slot, inner.get_slot(variable, slot)) for slot in inner.get_slot_names()]
    return [(names.get(slot, slot), value) for slot, value in kept if value is not None]


def rate(inner: Any) -> Any:
    """The learning rate: a number, the tensor that the update reads, or None."""
    for name in ("_lr", "_learning_rate"):
        value = getattr(inner, name, None)
        if isinstance(value, (int, float)):
            return float(value)
        if hasattr(value, "op") and hasattr(value, "graph"):
            return value
    return None
