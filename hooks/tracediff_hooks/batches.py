"""Names the tensors of a batch: ``input/0``, ``label/0``, ``sample_weight/0``."""

from typing import Any, List, Optional, Sequence, Tuple

from tracediff_hooks.composite import is_composite
from tracediff_hooks.tensors import Key


def input_names(
    role: str, values: Any, order: Optional[Sequence[str]] = None
) -> List[Tuple[Key, Any]]:
    """Numbers the tensors of a batch's part: ``input/0``, ``input/1`` ...

    Args:
        role: ``input``, ``label`` or ``sample_weight``.
        values: a tensor, or a nested structure of them; None where the step had none.
        order: for dictionaries, the keys in the order of the model's inputs or outputs.
    """
    found = list(_flatten(values, order))
    return [
        ((role, f"{role}/{position}"), value)
        for position, value in enumerate(found)
        if value is not None
    ]


def _flatten(values: Any, order: Optional[Sequence[str]]) -> List[Any]:
    if isinstance(values, dict):
        keys = sorted(values)
        if order is not None and set(order) == set(values):
            keys = list(order)
        return [leaf for key in keys for leaf in _flatten(values[key], None)]
    if isinstance(values, (list, tuple)) and not is_composite(values):
        return [leaf for value in values for leaf in _flatten(value, None)]
    return [values]
