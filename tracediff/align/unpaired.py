"""Tensors without a partner: why they have none, and what of the other run comes nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace

from tracediff.align.slots import is_used
from tracediff.model import Side, Unpaired
from tracediff.trace import Run, Tensor


def misfits(a: Tensor, b: Tensor, run_a: Run, run_b: Run) -> Iterable[Unpaired]:
    """Yield two tensors of one name whose shapes no layout joins, each as nearest to the other."""
    reason = f"shape {a.shape} in A, {b.shape} in B"
    used = a.role != "slot" or (is_used(run_a, a) and is_used(run_b, b))
    matters = a.role in ("weight", "slot", "input", "label") and used
    one, other = (
        unpaired_tensor("a", a, reason, matters=matters),
        unpaired_tensor("b", b, reason, matters=matters),
    )
    yield replace(one, nearest=b.name, nearest_shape=b.shape)
    yield replace(other, nearest=a.name, nearest_shape=a.shape)


def unpaired_tensor(side: Side, tensor: Tensor, reason: str, *, matters: bool) -> Unpaired:
    """Return a tensor as one without a partner; what comes nearest is not known yet."""
    return Unpaired(
        side=side,
        role=tensor.role,
        tensor=tensor.name,
        layer=tensor.layer,
        shape=tensor.shape,
        reason=reason,
        matters=matters,
    )


def with_nearest(unpaired: tuple[Unpaired, ...]) -> tuple[Unpaired, ...]:
    """Name for each tensor without a partner the one of the other run that comes nearest."""
    return tuple(_nearest(one, unpaired) if one.nearest is None else one for one in unpaired)


def _nearest(one: Unpaired, unpaired: tuple[Unpaired, ...]) -> Unpaired:
    best, chosen = 0.5, None
    for other in unpaired:
        if other.side == one.side or other.role != one.role:
            continue
        likeness = difflib.SequenceMatcher(None, one.tensor, other.tensor).ratio()
        last = one.tensor.rpartition("/")[2] == other.tensor.rpartition("/")[2]
        near = 0.5 * likeness + 0.3 * last + 0.2 * _share(one.shape, other.shape)
        if near > best:
            best, chosen = near, other
    if chosen is None:
        return one
    return replace(one, nearest=chosen.tensor, nearest_shape=chosen.shape)


def _share(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> float:
    """Return the share of extents in which two shapes agree."""
    if not a or not b or len(a) != len(b):
        return 0.0
    return sum(map(lambda x, y: x == y, a, b)) / len(a)
