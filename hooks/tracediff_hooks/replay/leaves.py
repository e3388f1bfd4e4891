"""Brings A's recorded batches into the shapes, dtypes and nesting of this model's own pipeline."""

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.replay.refused import ReplayRefused

Tail = Sequence[Optional[int]]


def fitted(value: np.ndarray, name: str, *, tail: Optional[Tail], dtype: Any) -> np.ndarray:
    """A's tensor of a batch as this model's pipeline would give it.

    Args:
        value: shape (n, ...), as A's step consumed it.
        name: such as ``label/0``, for messages.
        tail: the shape that is expected behind the first axis, None where it varies; None where
            nothing is known about it.
        dtype: the dtype that is expected.

    Raises:
        ReplayRefused: no reshape and no lossless cast leads there.
    """
    if tail is not None:
        value = _reshaped(value, name, list(tail))
    dtype = np.dtype(dtype)
    if value.dtype == dtype:
        return value
    cast = value.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(cast.astype(value.dtype), value):
        raise ReplayRefused(
            f"A's {name} holds {value.dtype.name} numbers that are no {dtype.name}, which this "
            "model's pipeline gives",
            hint="give this script the data in the dtype that A trained on",
        )
    return cast


def _reshaped(value: np.ndarray, name: str, tail: List[Optional[int]]) -> np.ndarray:
    own = list(value.shape[1:])
    if len(own) == len(tail) and all(b in (None, a) for a, b in zip(own, tail)):
        return value
    if [n for n in own if n != 1] == [n for n in tail if n != 1]:
        return value.reshape([len(value), *[n or 1 for n in tail]])
    if len(own) == len(tail) and name.startswith("input"):
        return value  # sequences of another length: the model says whether it takes them
    raise ReplayRefused(
        f"A's {name} has shape {value.shape}, and this model's pipeline gives "
        f"({', '.join(['n'] + ['?' if n is None else str(n) for n in tail])})",
        hint="labels encoded otherwise, or another model; replay without batches, or give this "
        "script the data that A trained on",
    )


def leaves(structure: Any, order: Optional[Sequence[str]]) -> List[Any]:
    """The tensors of a nested structure, in the order in which they are numbered in a trace."""
    if isinstance(structure, dict):
        return [one for key in _keys(structure, order) for one in leaves(structure[key], None)]
    if isinstance(structure, (list, tuple)):
        return [one for part in structure for one in leaves(part, None)]
    return [structure]


def rebuilt(structure: Any, order: Optional[Sequence[str]], values: List[Any]) -> Any:
    """The same nesting with other tensors; takes them from the front of ``values``."""
    if isinstance(structure, dict):
        found = {key: rebuilt(structure[key], None, values) for key in _keys(structure, order)}
        return {key: found[key] for key in structure}
    if isinstance(structure, tuple):
        return tuple(rebuilt(part, None, values) for part in structure)
    if isinstance(structure, list):
        return [rebuilt(part, None, values) for part in structure]
    return values.pop(0)


def _keys(structure: Any, order: Optional[Sequence[str]]) -> Tuple[str, ...]:
    if order is not None and set(order) == set(structure):
        return tuple(order)
    return tuple(sorted(structure))
