"""Finds the slots of optimizers that keep them in lists, one slot for each trained variable.

Keras 3 does, and so do the optimizers of tf.keras from 2.11 on.
"""

from typing import Any, List, Sequence, Tuple

from tracediff_hooks.names import slot_name

_NO_SLOTS = ("_trainable_variables", "_variables")


def slot_lists(optimizer: Any, trained: int) -> List[Tuple[str, Sequence[Any]]]:
    """The lists of slots that an optimizer holds, by canonical name.

    Args:
        optimizer: an optimizer whose variables exist.
        trained: how many variables it trains: the length of each list.
    """
    return [
        (slot_name(type(optimizer).__name__, attribute), value)
        for attribute, value in sorted(vars(optimizer).items())
        if _is_slot_list(attribute, value, trained)
    ]


def _is_slot_list(attribute: str, value: Any, length: int) -> bool:
    return (
        attribute not in _NO_SLOTS
        and isinstance(value, (list, tuple))
        and len(value) == length > 0
        and all(item is None or hasattr(item, "assign") for item in value)
        and any(item is not None for item in value)
    )
