"""Choose what to read of a pair of tensors, from digests and from what was kept; reads nothing.

Points in time are numbered as those of a `Source`: 2 k before and 2 k + 1 after the k-th compared
step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift.source import Source
from tracediff.drift.ulp import eps_of
from tracediff.model import Pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Numbers = NDArray[np.int64]

STATE = ("weight", "slot")
"""Roles of tensors that are there before and after each step."""
_FED = ("input", "label", "sample_weight")

_MIX = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64
)
"""Odd numbers that make one hash of a pair of digests, which are hashes themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """How far a pair of tensors can be compared at each point.

    Attributes:
        present: Whether both runs have a value; of shape (points,).
        unequal: Whether the digests differ, or one value is implied; of shape (points,).
        unknown: Whether values differ that were not kept in full; of shape (points,).
        measured: At which points values are compared.
        read: At which of these they are read: of equal pairs of digests at the first.
        which: For each measured point, which of those read it is equal to.
        sketched: At which unknown points both runs have a sketch.
        stated: At which others it matters how far values are apart by their statistics.
        same_dtype: Whether both tensors have one dtype.
        same_encoding: Whether the same bits are the same value in both.
    """

    present: Flags
    unequal: Flags
    unknown: Flags
    measured: Numbers
    read: Numbers
    which: Numbers
    sketched: Numbers
    stated: Numbers
    same_dtype: bool
    same_encoding: bool

    @property
    def differ(self) -> Flags:
        """Whether the values may differ: of another dtype, equal bits say nothing."""
        return self.unequal | (not self.same_dtype)


def points_of(a: Source, b: Source, pair: Pair) -> Points:
    """Work out at which points a pair of tensors is compared, and by what."""
    count = 2 * len(a.steps)
    one, other = a.tensor, b.tensor
    both = one is not None and other is not None
    same_dtype = both and one.dtype == other.dtype  # type: ignore[union-attr]
    same_layout = a.adapt is None is b.adapt
    sparse = both and "sparse" in (one.layout, other.layout)  # type: ignore[union-attr]
    scalar = all(side is not None and side.shape == () for side in (one, other))
    present, readable = np.ones(count, bool), np.ones(count, bool)
    for side in (a, b):
        if not side.implied:
            present &= side.digests.any(axis=1)
            readable &= side.versions >= 0
    unequal = (a.digests != b.digests).any(axis=1)
    # The sizes of scalars are wanted where they agree, too, and cost next to nothing.
    all_of_it = scalar or not (same_dtype and same_layout)
    looked_at = present if all_of_it else present & unequal
    if pair.role not in STATE:
        looked_at = looked_at & (np.arange(count) % 2 == 1)
    unequal |= not both
    unknown = looked_at & ~readable & (unequal | (not same_dtype))
    sketched = unknown & a.sketched & b.sketched
    measured = np.flatnonzero(looked_at & readable)
    read, which = _distinct(np.concatenate([a.digests, b.digests], axis=1)[measured])
    return Points(
        present=present,
        unequal=unequal,
        unknown=unknown,
        measured=measured,
        read=measured[read],
        which=which,
        sketched=np.flatnonzero(sketched),
        stated=np.flatnonzero(unknown & ~sketched & _wanting(a, b, pair, present)),
        same_dtype=same_dtype,
        same_encoding=same_dtype and same_layout and not sparse,
    )


def _distinct(digests: NDArray[np.uint64]) -> tuple[Numbers, Numbers]:
    """Return which of some pairs of digests are the first of their kind, and the kind of each."""
    _, first, which = np.unique(
        (digests * _MIX).sum(axis=1, dtype=np.uint64), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[which.reshape(-1)]


def _wanting(a: Source, b: Source, pair: Pair, present: Flags) -> Flags:
    """Say at which points other bits may be rounding, and it matters how far apart they are.

    What is fed in and what the first step starts from are not computed, and integers are not
    rounded. Of another dtype all bits are others, and say nothing.
    """
    if a.tensor is None or b.tensor is None:
        return np.zeros(len(present), bool)
    result = np.ones(len(present), bool)
    if a.tensor.dtype != b.tensor.dtype:
        return result
    if pair.role in _FED or not eps_of(a.tensor.dtype):
        result[:] = False
    elif pair.role in STATE and present.any():
        first = int(np.argmax(present))
        result[first] = first % 2 == 1
    return result
