"""How a layout is written: as JSON in a mapping file, and in words.

`tracediff.align.layouts` has a table of the JSON objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracediff.align.layouts import (
    Adapter,
    Add,
    Each,
    Insert,
    Layout,
    LayoutError,
    Reorder,
    Reshape,
    Shape,
    Sum,
    Take,
    Transpose,
)


def describe(layout: Iterable[Adapter]) -> tuple[dict[str, Any], ...]:
    """Return the adapters as JSON holds them."""
    return tuple(adapter.describe() for adapter in layout)


def parse(described: object) -> Layout:
    """Return the adapters that a JSON list describes; None describes none.

    Raises:
        LayoutError: It is no such list.

    Example:
        >>> parse([{"op": "sum", "axis": 0}])
        (Sum(axis=0),)
    """
    if described is None:
        return ()
    if not isinstance(described, Sequence) or isinstance(described, str):
        raise LayoutError("a layout is a list of adapters", hint=_HINT)
    return tuple(_parse(one) for one in described)


_HINT = 'such as [{"op": "sum", "axis": 0}]; docs/mapping.md lists them'


def _parse(described: object) -> Adapter:
    op = described.get("op") if isinstance(described, Mapping) else None
    if not isinstance(described, Mapping) or not isinstance(op, str) or op not in _READERS:
        raise LayoutError(
            f"{described!r} is no adapter; there are {', '.join(_READERS)}", hint=_HINT
        )
    try:
        found: Adapter = _READERS[op](described)
        return found
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, LayoutError):
            raise
        raise LayoutError(
            f"{dict(described)!r} lacks a field of the adapter {op}", hint=_HINT
        ) from None


def _whole(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


_READERS: Mapping[str, Any] = {
    "transpose": lambda d: Transpose(_whole(d["axes"])),
    "reorder": lambda d: Reorder(int(d["axis"]), _whole(d["blocks"])),
    "reshape": lambda d: Reshape(_whole(d["shape"])),
    "take": lambda d: Take(int(d["axis"]), int(d["start"]), int(d["stop"])),
    "sum": lambda d: Sum(int(d["axis"])),
    "insert": lambda d: Insert(int(d["axis"]), int(d["count"]), int(d["at"])),
    "add": lambda d: Add(int(d["value"])),
    "each": lambda d: Each(int(d["axis"]), int(d["count"]), parse(d["do"])),
}


_SHOWN = 8
"""Blocks whose order is put into words."""


def words(layout: Layout, shape: Shape | None, *, side: str = "B") -> str:
    """Say what a layout does to the values of a run, those of B if not told otherwise.

    Example:
        >>> words((Sum(0),), (2, 6))
        "the sum of B's (2, 6) rows"
        >>> words((Transpose((1, 0)),), (4, 3))
        "B's (4, 3) transposed"
    """
    size = f"{shape} " if shape is not None else ""
    text = f"{side}'s {size}"
    if layout == (Sum(0),):
        return f"the sum of {side}'s {size}rows"
    return text + " and ".join(_word(one) for one in layout)


def _word(adapter: Adapter) -> str:
    if isinstance(adapter, Transpose):
        plain = tuple(range(len(adapter.axes)))[::-1] == adapter.axes
        return "transposed" if plain else f"with axes {adapter.axes}"
    if isinstance(adapter, Reorder):
        order = ", ".join(map(str, adapter.blocks[:_SHOWN]))
        more = ", ..." if len(adapter.blocks) > _SHOWN else ""
        blocks = f"{len(adapter.blocks)} blocks along axis {adapter.axis}"
        return f"with its {blocks} in the order ({order}{more})"
    if isinstance(adapter, Reshape):
        return f"as {adapter.to}"
    if isinstance(adapter, Take):
        return f"from {adapter.start} to {adapter.stop} of axis {adapter.axis}"
    if isinstance(adapter, Sum):
        return f"summed over axis {adapter.axis}"
    if isinstance(adapter, Add):
        return f"plus {adapter.value}"
    if isinstance(adapter, Each):
        inner = " and ".join(_word(one) for one in adapter.do)
        return f"with each of {adapter.count} gates {inner}"
    return str(adapter.describe())
