"""Follow one pair of tensors over all steps; values are read only where digests differ.

At any time a handful of values is in memory, whatever the size of the traces; the results are a
few numbers a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracediff.drift.estimate import estimate
from tracediff.drift.measure import Drift, measure, squeezed_shape
from tracediff.drift.updates import measure_update
from tracediff.model import Moment, Pair
from tracediff.trace import Run, Tensor

Series: TypeAlias = NDArray[np.void]
"""One record of `CELL` (or `UPDATE`) a step."""

CELL = np.dtype(
    [
        ("present", np.bool_),  # both runs have the tensor at this step
        ("differs", np.bool_),  # its bits differ (its values, where dtypes or layouts differ)
        ("known", np.bool_),  # how far apart is known: equal, or both values were kept
        ("estimated", np.bool_),  # known from sketches: norms are estimates, the rest is NaN
        ("reshaped", np.bool_),  # the shapes differ at this step
        ("relative_l2", np.float64),
        ("max_abs", np.float64),
        ("peak", np.float64),
        ("max_ulp", np.uint64),
        ("cosine", np.float64),
        ("sign_agreement", np.float64),
        ("norm_a", np.float64),
        ("norm_b", np.float64),
        ("norm_difference", np.float64),
        ("different", np.int64),
        ("size", np.int64),
        ("non_finite_a", np.int64),
        ("non_finite_b", np.int64),
        ("mismatched", np.int64),
    ]
)
UPDATE = np.dtype(
    [
        ("present", np.bool_),  # the updates differ, and all that it takes to compare them was kept
        ("norm", np.float64),
        ("norm_difference", np.float64),
        ("unexplained", np.float64),
        ("noise", np.float64),
        ("weight_norm", np.float64),
    ]
)
_REMEMBERED = 4096
"""Measured pairs of digests kept while one pair of tensors is followed."""
_ARRAYS_KEPT = 4
"""Values of one tensor of one run kept: before and after the step, and their predecessors."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """How one pair of tensors differs, step by step.

    Attributes:
        pair: The tensors.
        before: For state, before each step; None for what a step observes.
        after: For state, after each step; for all else, at the step.
        update: For weights, how the change during each step differs; else None.
        floats: Whether both are floats, so that ulp distances have a meaning.
        eps: Machine epsilon of the narrower dtype; 0 where neither is a float.
    """

    pair: Pair
    before: Series | None
    after: Series
    update: Series | None
    floats: bool
    eps: float

    @property
    def state(self) -> bool:
        """Whether the tensor is state, seen before and after each step."""
        return self.before is not None


class Source:
    """One run's values of one tensor; without a tensor, ones in the shape of the other side's."""

    def __init__(self, run: Run, tensor: Tensor | None) -> None:
        self.run = run
        self.tensor = tensor
        self._recent: dict[bytes, NDArray[np.generic]] = {}

    def digests(self, moment: Moment, steps: int) -> NDArray[np.uint64] | None:
        """Return the digests of the first ``steps`` steps, or None for implied values."""
        if self.tensor is None:
            return None
        return self.run.digests(self.tensor, moment)[:steps]

    def kept(self, moment: Moment, steps: int) -> NDArray[np.bool_]:
        """Return at which steps the value can be read."""
        if self.tensor is None:
            return np.ones(steps, bool)
        return self.run.kept(self.tensor, moment)[:steps]

    def sketched(self, moment: Moment, steps: int) -> NDArray[np.bool_]:
        """Return at which steps there is a sketch, recorded or of a recorded value."""
        if self.tensor is None:
            return np.zeros(steps, bool)
        return self.run.sketched(self.tensor, moment)[:steps]

    def read(self, step: int, moment: Moment, digest: bytes) -> NDArray[np.generic] | None:
        """Return the value, from memory if it was read lately; None for implied values."""
        if self.tensor is None:
            return None
        found = self._recent.pop(digest, None)
        if found is None:
            found = self.run.read(self.tensor, step, moment)
        self._recent[digest] = found
        while len(self._recent) > _ARRAYS_KEPT:
            self._recent.pop(next(iter(self._recent)))
        return found


class _Follower:
    """Measures one pair at any step and moment, each pair of digests once."""

    def __init__(self, a: Source, b: Source, steps: int) -> None:
        self.a, self.b, self.steps = a, b, steps
        self._measured: dict[bytes, NDArray[np.void]] = {}
        one, other = a.tensor, b.tensor
        self.same_encoding = (
            one is not None
            and other is not None
            and one.dtype == other.dtype
            and "sparse" not in (one.layout, other.layout)
        )
        self.scalar = all(side is not None and side.shape == () for side in (one, other))
        self.same_dtype = one is not None and other is not None and one.dtype == other.dtype

    def series(self, moment: Moment) -> Series:
        result = np.zeros(self.steps, CELL)
        digests_a = self.a.digests(moment, self.steps)
        digests_b = self.b.digests(moment, self.steps)
        present = np.ones(self.steps, bool)
        for digests in (digests_a, digests_b):
            if digests is not None:
                present &= digests.any(axis=1)
        result["present"] = present
        result["known"] = present
        result["cosine"] = result["sign_agreement"] = np.nan
        if self.same_dtype and digests_a is not None and digests_b is not None:
            unequal = present & (digests_a != digests_b).any(axis=1)
        else:
            unequal = present
        if self.scalar:
            # Their sizes are wanted where they agree, too, and cost next to nothing.
            unequal = present
        readable = self.a.kept(moment, self.steps) & self.b.kept(moment, self.steps)
        sketched = self.a.sketched(moment, self.steps) & self.b.sketched(moment, self.steps)
        for step in np.flatnonzero(unequal):
            key_a = b"" if digests_a is None else digests_a[step].tobytes()
            key_b = b"" if digests_b is None else digests_b[step].tobytes()
            if not readable[step]:
                if sketched[step] and (key_a != key_b or not self.same_dtype):
                    result[step] = self._estimate(int(step), moment, key_a, key_b)
                elif key_a != key_b or not self.same_dtype:
                    result[step] = _unknown()
                continue
            result[step] = self._cell(int(step), moment, key_a, key_b)
        return result

    def _cell(self, step: int, moment: Moment, key_a: bytes, key_b: bytes) -> NDArray[np.void]:
        found = self._measured.pop(key_a + key_b, None)
        if found is None:
            a, b = self.values(step, moment, key_a, key_b)
            found = self._measure(a, b, other_bits=key_a != key_b)
        self._measured[key_a + key_b] = found
        if len(self._measured) > _REMEMBERED:
            self._measured.pop(next(iter(self._measured)))
        return found

    def _estimate(self, step: int, moment: Moment, key_a: bytes, key_b: bytes) -> NDArray[np.void]:
        """Measure what sketches tell, which is unknown where an element is not finite."""
        one, other = self.a.tensor, self.b.tensor
        assert one is not None  # Without a tensor there is no sketch.
        assert other is not None
        shapes = [None if t.shape is None else squeezed_shape(t.shape) for t in (one, other)]
        drift = None
        if None in shapes or shapes[0] == shapes[1]:
            drift = estimate(
                self.a.run.sketch(one, step, moment), self.b.run.sketch(other, step, moment)
            )
        cell = _unknown()
        cell["reshaped"] = drift is None
        if drift is None or np.isnan(drift.norm_difference):
            return cell
        cell["known"] = cell["estimated"] = True
        cell["differs"] = drift.norm_difference > 0.0 or (key_a != key_b and self.same_encoding)
        cell["relative_l2"], cell["size"] = drift.relative_l2, drift.size
        cell["norm_a"], cell["norm_b"] = drift.norm_a, drift.norm_b
        cell["norm_difference"] = drift.norm_difference
        return cell

    def values(
        self, step: int, moment: Moment, key_a: bytes, key_b: bytes
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        a, b = self.a.read(step, moment, key_a), self.b.read(step, moment, key_b)
        # At most one side is implied: pairs are made of something recorded.
        if a is None and b is not None:
            return np.ones_like(b), b
        if b is None and a is not None:
            return a, np.ones_like(a)
        assert a is not None and b is not None  # noqa: PT018 - as the pair was built
        return a, b

    def _measure(
        self, a: NDArray[np.generic], b: NDArray[np.generic], *, other_bits: bool
    ) -> NDArray[np.void]:
        if squeezed_shape(a.shape) != squeezed_shape(b.shape):
            cell = _unknown()
            cell["reshaped"] = True
            return cell
        drift = measure(a, b)
        # Equal values in another encoding are no difference; other bits in the same one are, be
        # it only the sign of a zero.
        return _record(drift, differs=drift.different > 0 or (other_bits and self.same_encoding))


def track_pair(
    a: Run,
    b: Run,
    pair: Pair,
    *,
    steps: int,
    gradient: Pair | None = None,
    slots: Sequence[Pair] = (),
) -> Track:
    """Follow one pair of tensors over the first ``steps`` steps of both runs.

    Args:
        a: The first run.
        b: The second run.
        pair: The tensors.
        steps: How many steps to compare.
        gradient: For a weight, the pair of the gradient that its update consumed.
        slots: For a weight, the pairs of its slots.

    Raises:
        DamagedTrace: A value cannot be read or does not match its digest.
    """
    source_a, source_b = source(a, pair.role, pair.a), source(b, pair.role, pair.b)
    follower = _Follower(source_a, source_b, steps)
    state = pair.role in ("weight", "slot")
    before = follower.series("before") if state else None
    after = follower.series("after")
    update = None
    if pair.role == "weight" and before is not None:
        update = _updates(follower, before, after, gradient, slots)
    kinds = [one.tensor.dtype for one in (source_a, source_b) if one.tensor is not None]
    eps = max((_eps(kind) for kind in kinds), default=0.0)
    return Track(
        pair=pair,
        before=before,
        after=after,
        update=update,
        floats=all(_eps(kind) > 0.0 for kind in kinds),
        eps=eps,
    )


def source(run: Run, role: str, name: str | None) -> Source:
    """Return the values of a tensor, or of ones where ``name`` is None."""
    return Source(run, None if name is None else run.find(role, name))


def _updates(
    weight: _Follower,
    before: Series,
    after: Series,
    gradient: Pair | None,
    slots: Sequence[Pair],
) -> Series:
    result = np.zeros(weight.steps, UPDATE)
    a, b, steps = weight.a, weight.b, weight.steps
    inputs = [
        _Input(a.run, b.run, pair, steps)
        for pair in ([gradient] if gradient is not None else []) + list(slots)
    ]
    digests = {
        (side, moment): _rows(one.digests(moment, steps))
        for side, one in (("a", a), ("b", b))
        for moment in _MOMENTS
    }
    readable = np.ones(steps, bool)
    for one in (a, b):
        for moment in _MOMENTS:
            readable &= one.kept(moment, steps)
    wanted = readable & before["present"] & after["present"]
    wanted &= before["differs"] | after["differs"]
    wanted &= ~(before["reshaped"] | after["reshaped"])
    for step in map(int, np.flatnonzero(wanted)):
        before_a, before_b = weight.values(
            step, "before", digests["a", "before"][step], digests["b", "before"][step]
        )
        after_a, after_b = weight.values(
            step, "after", digests["a", "after"][step], digests["b", "after"][step]
        )
        read = [one.read(step) for one in inputs]
        drift = measure_update(
            (before_a, after_a),
            (before_b, after_b),
            gradient=read[0] if gradient is not None else None,
            slots=[pair for pair in read[1 if gradient is not None else 0 :] if pair is not None],
        )
        result[step] = (
            True,
            drift.norm,
            drift.norm_difference,
            drift.unexplained,
            drift.noise,
            drift.weight_norm,
        )
    return result


_MOMENTS: tuple[Moment, Moment] = ("before", "after")


class _Input:
    """What an update is computed from, in both runs: a gradient, or a slot before the step."""

    def __init__(self, a: Run, b: Run, pair: Pair, steps: int) -> None:
        self._sources = source(a, pair.role, pair.a), source(b, pair.role, pair.b)
        self._digests = [_rows(one.digests("before", steps)) for one in self._sources]
        one, other = self._sources
        self._kept = one.kept("before", steps) & other.kept("before", steps)

    def read(self, step: int) -> tuple[NDArray[np.generic], NDArray[np.generic]] | None:
        if not self._kept[step]:
            return None
        one, other = self._sources
        keys = [digests[step] for digests in self._digests]
        if keys[0] == keys[1] and one.tensor is not None and other.tensor is not None:
            # Equal bits explain no difference; None spares the reading.
            return None
        a, b = one.read(step, "before", keys[0]), other.read(step, "before", keys[1])
        return None if a is None or b is None else (a, b)


def _rows(digests: NDArray[np.uint64] | None) -> list[bytes]:
    return [] if digests is None else [row.tobytes() for row in digests]


def _eps(dtype: str) -> float:
    if dtype == "bfloat16":
        return 2.0**-7
    try:
        kind = np.dtype(dtype)
    except TypeError:
        return 0.0
    return float(np.finfo(kind).eps) if kind.kind == "f" else 0.0


def _unknown() -> NDArray[np.void]:
    cell = np.zeros((), CELL)
    cell["present"] = cell["differs"] = True
    for field in ("relative_l2", "max_abs", "peak", "cosine", "sign_agreement"):
        cell[field] = np.nan
    for field in ("norm_a", "norm_b", "norm_difference"):
        cell[field] = np.nan
    return cell


def _record(drift: Drift, *, differs: bool) -> NDArray[np.void]:
    cell = np.zeros((), CELL)
    cell["present"] = cell["known"] = True
    cell["differs"] = differs
    cell["relative_l2"] = drift.relative_l2
    cell["max_abs"], cell["peak"] = drift.max_abs, drift.peak
    cell["max_ulp"] = drift.max_ulp or 0
    cell["cosine"], cell["sign_agreement"] = drift.cosine, drift.sign_agreement
    cell["norm_a"], cell["norm_b"] = drift.norm_a, drift.norm_b
    cell["norm_difference"] = drift.norm_difference
    cell["different"], cell["size"] = drift.different, drift.size
    cell["non_finite_a"], cell["non_finite_b"] = drift.non_finite_a, drift.non_finite_b
    cell["mismatched"] = drift.mismatched
    return cell
