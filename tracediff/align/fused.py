"""Find tensors that one run holds in one piece and the other in several, side by side.

The pieces must fill the whole along one axis. First values say which piece is which; without them
the pieces are taken in execution order, and only if there is no other way to choose them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tracediff.align.graph import Layer
from tracediff.align.layouts import Take
from tracediff.align.values import FirstValues
from tracediff.model import Side
from tracediff.trace import Tensor

_MOST_PIECES = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a fused tensor, and the tensor of the other run that it is.

    Attributes:
        side: The run in which it is fused.
        whole: The fused tensor.
        part: Which part of it.
        piece: The tensor of the other run.
        reason: Why these belong together.
        confidence: How sure that is, 0 to 1.
    """

    side: Side
    whole: Tensor
    part: Take
    piece: Tensor
    reason: str
    confidence: float


def find_fused(
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    values: FirstValues,
    *,
    layers: tuple[Mapping[str, Layer], Mapping[str, Layer]],
) -> list[Piece]:
    """Find which weights of one run are parts of a weight of the other.

    Args:
        a: Weights of A without a partner, in execution order.
        b: The same of B.
        values: The first values of both.
        layers: The layers of A and of B.
    """
    result: list[Piece] = []
    sides: tuple[tuple[Side, int, Sequence[Tensor], Sequence[Tensor]], ...] = (
        ("a", 0, a, b),
        ("b", 1, b, a),
    )
    for side, index, wholes, others in sides:
        search = _Search(side, values, layers[index], layers[1 - index])
        left = list(others)
        # Kernels come first: the order of their pieces is that of the biases.
        for whole in sorted(wholes, key=lambda one: -len(one.shape or ())):
            found = search.pieces(whole, left)
            result.extend(found)
            used = {one.piece.name for one in found}
            left = [one for one in left if one.name not in used]
    return result


def part_name(name: str, part: Take) -> str:
    """Return what a part of a tensor is called.

    Example:
        >>> part_name("qkv/kernel", Take(1, 0, 8)), part_name("qkv/bias", Take(0, 8, 16))
        ('qkv/kernel[:, 0:8]', 'qkv/bias[8:16]')
    """
    return f"{name}[{':, ' * part.axis}{part.start}:{part.stop}]"


class _Search:
    """Looks for the pieces of the fused tensors of one run."""

    def __init__(
        self,
        side: Side,
        values: FirstValues,
        own: Mapping[str, Layer],
        others: Mapping[str, Layer],
    ) -> None:
        self._side = side
        self._index = 0 if side == "a" else 1
        self._values = values
        self._own = own
        self._others = others
        self._order: dict[str | None, list[str | None]] = {}

    def pieces(self, whole: Tensor, others: Sequence[Tensor]) -> list[Piece]:
        """Return the pieces of ``whole``, or none."""
        axes = range(len(whole.shape or ()) - 1, -1, -1)
        for search in (self._by_values, self._by_order):
            for axis in axes:
                found = list(search(whole, axis, _candidates(whole, axis, others)))
                if len(found) > 1:
                    self._order.setdefault(whole.layer, [one.piece.layer for one in found])
                    return found
        return []

    def _by_values(self, whole: Tensor, axis: int, left: list[Tensor]) -> Iterator[Piece]:
        fused = self._values.first(self._index, whole)
        if fused is None or not np.any(fused):
            return
        start, extent = 0, (whole.shape or ())[axis]
        found: list[Piece] = []
        while start < extent:
            for one in left:
                part = Take(axis, start, start + (one.shape or ())[axis])
                value = self._values.first(1 - self._index, one)
                if value is None or part.stop > extent or not np.any(value):
                    continue
                if np.array_equal(part(fused), value):
                    found.append(self._piece(whole, part, one, "equal first values", 0.97))
                    left.remove(one)
                    start = part.stop
                    break
            else:
                return
        yield from found

    def _by_order(self, whole: Tensor, axis: int, left: list[Tensor]) -> Iterator[Piece]:
        order = self._order.get(whole.layer)
        if order is not None:
            chosen = [one for one in left if one.layer in order]
            chosen.sort(key=lambda one: order.index(one.layer))
            reason, confidence = "as their kernels", 0.9
        else:
            chosen = [one for one in left if self._siblings(whole, one)]
            reason = f"{len(chosen)} tensors fill axis {axis}, taken in execution order"
            confidence = 0.6
        extents = [(one.shape or ())[axis] for one in chosen]
        if len(chosen) > _MOST_PIECES or sum(extents) != (whole.shape or ())[axis]:
            return
        ends = np.cumsum([0, *extents]).tolist()
        for one, (start, stop) in zip(chosen, pairwise(ends), strict=True):
            yield self._piece(whole, Take(axis, start, stop), one, reason, confidence)

    def _siblings(self, whole: Tensor, piece: Tensor) -> bool:
        """Say whether both are kernels of layers that read from the same place."""
        one, other = self._own.get(whole.layer or ""), self._others.get(piece.layer or "")
        if one is None or other is None or len(whole.shape or ()) < 2:
            return False
        return one.known and other.known and one.before == other.before

    def _piece(
        self, whole: Tensor, part: Take, piece: Tensor, reason: str, confidence: float
    ) -> Piece:
        return Piece(self._side, whole, part, piece, reason, confidence)


def _candidates(whole: Tensor, axis: int, others: Sequence[Tensor]) -> list[Tensor]:
    shape = whole.shape or ()
    rest = shape[:axis] + shape[axis + 1 :]
    return [
        one
        for one in others
        if one.shape is not None
        and len(one.shape) == len(shape)
        and one.shape[:axis] + one.shape[axis + 1 :] == rest
        and one.shape[axis] < shape[axis]
    ]
