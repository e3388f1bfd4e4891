"""Finds a slot where `OptimizerV2` of tf.keras keeps it: by variable, then by name."""

from typing import Any


def slot_of(optimizer: Any, variable: Any, slot: str) -> Any:
    """A slot of a variable, or None where there is none.

    Args:
        optimizer: the optimizer that does the work, not one around it.
        variable: a variable that it trains.
        slot: the framework's name of the slot.
    """
    return optimizer._slots.get(_key(variable), {}).get(slot)


def _key(variable: Any) -> Any:
    """optimizer_v2.py, TensorFlow 2.3, `_var_key`."""
    if hasattr(variable, "_distributed_container"):
        variable = variable._distributed_container()
    if getattr(variable, "_in_graph_mode", False):
        return variable._shared_name
    return variable._unique_id
