"""What the first recorded values of two weights say about their being the same weight.

Digests are asked first; values are read only where they leave the question open, and compared by
the same sample of their elements before they are compared as a whole.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.align.layouts import Layout, LayoutError, adapt
from tracediff.drift import SAMPLE, sample_places
from tracediff.drift.products import square
from tracediff.trace import Run, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR = 1e-3
"""Relative L2 up to which two arrays count as the same values: far above rounding, far below
the distance of two draws, which is about 1."""


KEPT_BYTES = 64 << 20
"""Of values that were read so many bytes stay in memory, or the latest two; of others a sample."""
_FAR = 0.1
"""Relative L2 of a sample from which on the whole is taken to be further off than `NEAR`."""
_REPRESENTED = 0.25
"""How much of its share of a value's square norm a sample has to have for that."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of a value: a sample at places that depend on its size only, and its moments."""

    size: int
    shape: tuple[int, ...]
    sample: NDArray[np.float64]
    sample_norm: float
    represented: bool  # the sample has about the share of the norm that it has of the elements
    spread: float
    constant: bool


class FirstValues:
    """The first weights and gradients of both runs: a sample of each, and few of them as a whole.

    Which of many alike layers is which is asked of each pair of them. Samples rule out nearly all;
    whole values are read for those that are left.
    """

    def __init__(self, a: Run, b: Run) -> None:
        self._runs = (a, b)
        self._looks: dict[tuple[int, str, str], _Look | None] = {}
        self._read: OrderedDict[tuple[int, str, str], NDArray[Any]] = OrderedDict()

    def equal(self, a: Tensor, b: Tensor) -> bool | None:
        """Say by their digests whether two tensors begin equal; None where that says nothing."""
        digests = [self._digest(side, one) for side, one in enumerate((a, b))]
        if digests[0] is None or digests[1] is None or a.dtype != b.dtype:
            return None
        return bool((digests[0] == digests[1]).all())

    def alike(self, a: Tensor, b: Tensor, layout: Layout = ()) -> bool | None:
        """Say whether two weights begin with the same values.

        Returns:
            None where a value was not kept, or says nothing: all elements are equal.
        """
        return self._near(a, b, layout)

    def kept(self, a: Tensor, b: Tensor) -> bool:
        """Say whether the first values of both can be read."""
        return self._look(0, a) is not None and self._look(1, b) is not None

    def gradients_alike(self, a: Tensor, b: Tensor, layout: Layout = ()) -> bool | None:
        """Say whether the first gradients of two weights are the same; None where unknown."""
        for role in ("gradient", "applied_gradient"):
            found = [run.find(role, t.name) for run, t in zip(self._runs, (a, b), strict=True)]
            if found[0] is None or found[1] is None:
                continue
            if self.kept(found[0], found[1]):
                return self._near(found[0], found[1], layout)
        return None

    def spread(self, side: int, tensor: Tensor) -> float | None:
        """Return the standard deviation of the first values, or None where they were not kept."""
        found = self._look(side, tensor)
        return None if found is None or not found.size else found.spread

    def first(self, side: int, tensor: Tensor) -> NDArray[Any] | None:
        """Return the first value of a tensor that was kept, at step 0 or after it."""
        key = (side, *tensor.key)
        if key in self._read:
            self._read.move_to_end(key)
            return self._read[key]
        found = self._value(self._runs[side], tensor)
        if found is not None:
            self._read[key] = found
            while len(self._read) > 2 and sum(x.nbytes for x in self._read.values()) > KEPT_BYTES:
                self._read.popitem(last=False)
        return found

    def _near(self, a: Tensor, b: Tensor, layout: Layout) -> bool | None:
        one, other = self._look(0, a), self._look(1, b)
        if one is None or other is None:
            return None
        if one.size == other.size and one.constant and other.constant:
            # In what layout does not matter to these, as long as they fit one.
            return near(np.zeros(one.shape), np.zeros(other.shape), layout)
        if not layout and _far(one, other):
            return False
        values = self.first(0, a), self.first(1, b)
        assert values[0] is not None  # There is a look at each.
        assert values[1] is not None
        return near(values[0], values[1], layout)

    def _look(self, side: int, tensor: Tensor) -> _Look | None:
        key = (side, *tensor.key)
        if key not in self._looks:
            found = self.first(side, tensor)
            self._looks[key] = None if found is None else _looked_at(found)
        return self._looks[key]

    @staticmethod
    def _value(run: Run, tensor: Tensor) -> NDArray[Any] | None:
        if not run.steps or not run.kept(tensor)[0]:
            return None
        values = run.read(tensor, 0)
        if values.dtype == np.float32:
            return values  # As they are: there may be many.
        return values.astype(np.float64) if values.dtype.kind in "fiu" else None

    def _digest(self, side: int, tensor: Tensor) -> NDArray[np.uint64] | None:
        run = self._runs[side]
        if not run.steps:
            return None
        digest = run.digests(tensor)[0]
        return digest if digest.any() else None


def _looked_at(values: NDArray[Any]) -> _Look:
    flat = values.reshape(-1)
    sample = flat[sample_places(flat.size)] if flat.size > SAMPLE else flat
    sample = sample.astype(np.float64)
    share = norm(sample) ** 2 * flat.size / max(1, sample.size)
    size = norm(flat)
    # A sample tells nearly always that not all elements are equal.
    constant = not flat.size or (float(np.ptp(sample)) == 0.0 and float(np.ptp(flat)) == 0.0)
    return _Look(
        size=flat.size,
        shape=values.shape,
        sample=sample,
        sample_norm=norm(sample),
        represented=share >= _REPRESENTED * size**2,
        spread=norm(flat - flat.mean(dtype=np.float64).astype(flat.dtype)) / math.sqrt(flat.size)
        if flat.size
        else 0.0,
        constant=constant,
    )


def _far(a: _Look, b: _Look) -> bool:
    """Say whether two samples show that the values are not near."""
    if a.size != b.size:
        return True
    if a.size <= SAMPLE or not (a.represented and b.represented):
        return False
    return norm(a.sample - b.sample) > _FAR * max(a.sample_norm, b.sample_norm)


def near(a: NDArray[Any], b: NDArray[Any], layout: Layout = ()) -> bool | None:
    """Say whether B's values, in A's layout, are A's but for rounding; None if constant.

    Example:
        >>> near(np.array([1.0, 2.0]), np.array([1.0, 2.0000001]))
        True
        >>> near(np.zeros(2), np.zeros(2)) is None
        True
    """
    try:
        adapted = adapt(layout, b)
    except LayoutError:
        return False
    if adapted.size != a.size:
        return False
    one, other = a.reshape(-1), adapted.reshape(-1)
    if not one.size or (np.ptp(one) == 0.0 and np.ptp(other) == 0.0):
        return None
    return norm(one - other) <= NEAR * max(norm(one), norm(other))


def norm(values: NDArray[Any]) -> float:
    """Return the L2 norm of values in one dimension.

    Numpy's own hands long ones to threads of BLAS, which takes longer than it saves.
    """
    if values.dtype == np.float32:
        found = square(values)
        if not math.isnan(found):
            return math.sqrt(found)
        values = values.astype(np.float64)
    return math.sqrt(float(np.einsum("i,i->", values, values)))
