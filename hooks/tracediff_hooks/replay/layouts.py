"""Brings A's numbers into B's layout.

The operations are those of a mapping file (docs/mapping.md); the built-in ones serve where a shape
alone says which is meant.
"""

from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

Shape = Tuple[int, ...]


class Carried(NamedTuple):
    """A value in B's layout, and what is lost on the way there, or None."""

    value: np.ndarray
    lost: Optional[str] = None


class Layout(NamedTuple):
    """How values of A come into B's layout."""

    words: str
    apply: Callable[[np.ndarray], Carried]


def layout_between(a: Shape, b: Shape) -> Optional[Layout]:
    """The layout that two shapes ask for; None where there is none.

    Args:
        a: the shape of A's tensor.
        b: the shape of B's.
    """
    if a == b:
        return Layout("as it is", Carried)
    if [n for n in a if n != 1] == [n for n in b if n != 1]:
        return Layout(f"{a} as {b}", lambda value: Carried(value.reshape(b)))
    if len(a) == 1 and b == (2, *a):
        return Layout(f"{a} as the first row of {b}, the second is zero", _as_first_row)
    if len(b) == 1 and a == (2, *b):
        return Layout(f"the rows of {a} added up", _summed_rows)
    return None


def _as_first_row(value: np.ndarray) -> Carried:
    return Carried(np.stack([value, np.zeros_like(value)]))


def _summed_rows(value: np.ndarray) -> Carried:
    # A GRU with reset_after adds the second row's last third inside the reset gate
    # (keras/src/layers/rnn/gru.py): only where that is zero is the sum the same bias.
    third = value.shape[1] // 3
    lost = None
    if value[1, 2 * third :].any():
        lost = "its recurrent bias of the candidate state stands inside the reset gate"
    return Carried(value.sum(axis=0, dtype=value.dtype), lost)


def parse(described: Sequence[Mapping[str, Any]]) -> Layout:
    """The layout that a mapping file describes, from the values it starts with to those it makes.

    Raises:
        ValueError: an operation that is not known, or lacks a field.
    """
    steps = [_operation(one) for one in described]

    def apply(value: np.ndarray) -> Carried:
        for step in steps:
            value = step(value)
        return Carried(np.array(value, order="C"))

    return Layout(" then ".join(str(one.get("op")) for one in described) or "as it is", apply)


def _operation(described: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    make = _OPERATIONS.get(str(described.get("op")))
    if make is None:
        raise ValueError(f"{dict(described)!r} is no layout operation of docs/mapping.md")
    try:
        return make(described)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{dict(described)!r} lacks {error}") from None


def _transpose(d: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    axes = [int(axis) for axis in d["axes"]]
    return lambda value: value.transpose(axes)


def _reorder(d: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    axis, blocks = int(d["axis"]), [int(block) for block in d["blocks"]]

    def apply(value: np.ndarray) -> np.ndarray:
        parts = np.split(value, len(blocks), axis=axis)
        return np.concatenate([parts[block] for block in blocks], axis=axis)

    return apply


def _reshape(d: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    shape = [int(extent) for extent in d["shape"]]
    return lambda value: value.reshape(shape)


def _take(d: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    axis, start, stop = int(d["axis"]), int(d["start"]), int(d["stop"])
    return lambda value: np.take(value, range(start, stop), axis=axis)


def _sum(d: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    axis = int(d["axis"])
    return lambda value: value.sum(axis=axis, dtype=value.dtype)


def _insert(d: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    axis, count, at = int(d["axis"]), int(d["count"]), int(d["at"])

    def apply(value: np.ndarray) -> np.ndarray:
        parts = [np.zeros_like(value)] * count
        parts[at] = value
        return np.stack(parts, axis=axis)

    return apply


def _each(d: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    axis, count, inner = int(d["axis"]), int(d["count"]), parse(d["do"])

    def apply(value: np.ndarray) -> np.ndarray:
        parts = np.split(value, count, axis=axis)
        return np.concatenate([inner.apply(part).value for part in parts], axis=axis)

    return apply


_OPERATIONS: Dict[str, Callable[[Mapping[str, Any]], Callable[[np.ndarray], np.ndarray]]] = {
    "transpose": _transpose,
    "reorder": _reorder,
    "reshape": _reshape,
    "take": _take,
    "sum": _sum,
    "insert": _insert,
    "each": _each,
}
