"""Which layouts could lead from one shape to another, the likeliest first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from tracediff.align.layouts import (
    Each,
    Layout,
    Reorder,
    Reshape,
    Shape,
    Sum,
    Take,
    Transpose,
    adapted_shape,
)
from tracediff.drift import squeezed_shape

GATES = {"LSTM": 4, "GRU": 3, "CuDNNLSTM": 4, "CuDNNGRU": 3, "ConvLSTM2D": 4}
"""How many gates stand side by side in the weights of a recurrent layer."""
_AXES = 5


def fits(a: Shape | None, b: Shape | None) -> bool:
    """Say whether two shapes are one but for trailing axes of length 1; None fits any."""
    return a is None or b is None or squeezed_shape(a) == squeezed_shape(b)


def layouts_between(there: Shape | None, here: Shape | None, kind: str = "") -> list[Layout]:
    """Return the layouts that lead from one shape to another that it does not fit.

    Args:
        there: The shape to be adapted.
        here: The shape it is to have.
        kind: The class of the layer.

    Returns:
        None at all where the shapes fit as they are, or no adapter joins them.

    Example:
        >>> layouts_between((2, 9), (9,), "GRU")
        [(Sum(axis=0),)]
        >>> layouts_between((4, 3), (3, 4))
        [(Transpose(axes=(1, 0)),)]
        >>> layouts_between((4, 3), (5, 4))
        []
    """
    if there is None or here is None or fits(there, here):
        return []
    return [
        layout
        for layout in _changing(there, here, kind)
        if fits(adapted_shape(layout, there), here)
    ]


def _changing(there: Shape, here: Shape, kind: str) -> Iterator[Layout]:
    gates = GATES.get(kind, 0)
    # A recurrent layer may keep one bias for both of its products, or one for each.
    if gates and len(there) == 2 and there[0] == 2 and there[1:] == here:
        yield (Sum(0),)
    size = math.prod(there)
    if gates and len(there) == 1 and len(here) == 1 and size == 2 * here[0]:
        yield (Reshape((2, *here)), Sum(0))
    if len(there) == len(here) <= _AXES and sorted(there) == sorted(here):
        for axes in itertools.permutations(range(len(there))):
            if tuple(there[axis] for axis in axes) == here:
                yield (Transpose(axes),)
    elif size == math.prod(here) and size > 1:
        yield (Reshape(here),)


def layouts_within(shape: Shape, kind: str) -> Iterator[Layout]:
    """Yield other layouts of the same shape: gates in another order, square kernels transposed.

    Args:
        shape: The shape of both.
        kind: The class of the layer.
    """
    gates = GATES.get(kind, 0)
    if gates and shape and shape[-1] % gates == 0:
        axis = len(shape) - 1
        for order in itertools.permutations(range(gates)):
            if order != tuple(range(gates)):
                yield (Reorder(axis, order),)
        if len(shape) == 2:
            block = (shape[0], shape[1] // gates)
            turned = (Transpose((1, 0)), Reshape(block))
            yield (Each(axis, gates, turned),)
            yield (Each(axis, gates, (Reshape(block[::-1]), Transpose((1, 0)))),)
    if len(shape) >= 2 and len(shape) <= _AXES:
        for axes in itertools.permutations(range(len(shape))):
            moved = tuple(shape[axis] for axis in axes)
            if moved == shape and axes != tuple(range(len(shape))):
                yield (Transpose(axes),)


def carried(layout: Layout, shape: Shape) -> Layout:
    """Return the layout of what an optimizer keeps for a weight that is adapted so.

    A gradient says how the loss moves with one of the summands, not with their sum: the first one
    answers to a bias that stands alone.

    Example:
        >>> carried((Sum(0),), (2, 6))
        (Take(axis=0, start=0, stop=1), Reshape(to=(6,)))
    """
    result: list[object] = []
    for adapter in layout:
        if isinstance(adapter, Sum):
            result += [Take(adapter.axis, 0, 1), Reshape(adapter.shape(shape))]
        else:
            result.append(adapter)
        shape = adapter.shape(shape)
    return tuple(result)  # type: ignore[arg-type]
