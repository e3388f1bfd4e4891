"""Values that are another run's values in a coarser number format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rounded(a: Array, b: Array, *, drawn: bool = False) -> tuple[str, str] | None:
    """Return which side holds the other's values rounded, and to what; None where neither does.

    Args:
        a: A's values, float64, of any shape.
        b: B's values, of the same shape.
        drawn: Whether to look for floating-point formats only, for weights, which have no grid.

    Example:
        >>> a = np.array([0.1, 1.0])
        >>> rounded(a, a.astype(np.float16).astype(np.float64))
        ('B', 'float16')
        >>> rounded(a, 2 * a) is None
        True
    """
    if np.array_equal(a, b):
        return None
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for coarse, fine, side in ((flat_b, flat_a, "B"), (flat_a, flat_b, "A")):
        for name, round_to in (_FLOATS if drawn else _FLOATS | _GRIDS).items():
            # A few elements say no nearly always; each is rounded by itself.
            if all(
                np.array_equal(round_to(fine[here]), coarse[here]) for here in (_GLANCE, _WHOLE)
            ):
                return side, name
    return None


_GLANCE, _WHOLE = slice(256), slice(None)


def _to_bfloat16(values: Array) -> Array:
    bits = values.astype(np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def _cut_to_bfloat16(values: Array) -> Array:
    bits = values.astype(np.float32).view(np.uint32)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def _to_float16(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)


_FLOATS: dict[str, Callable[[Array], Array]] = {
    "float16": _to_float16,
    "bfloat16": _to_bfloat16,
    "bfloat16, cut off": _cut_to_bfloat16,
}
_GRIDS: dict[str, Callable[[Array], Array]] = {
    "whole numbers": lambda values: np.asarray(np.trunc(values)),
    "255ths (8 bits)": lambda values: (
        (np.round(values * 255.0) / 255.0).astype(np.float32).astype(np.float64)
    ),
}
