"""What the first recorded values of two weights say about their being the same weight.

Digests are asked first; values are read only where they leave the question open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.align.layouts import Layout, LayoutError, adapt
from tracediff.trace import Run, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR = 1e-3
"""Relative L2 up to which two arrays count as the same values: far above rounding, far below
the distance of two draws, which is about 1."""


class FirstValues:
    """The first weights and gradients of both runs, read at most once each."""

    def __init__(self, a: Run, b: Run) -> None:
        self._runs = (a, b)
        self._read: dict[tuple[int, str, str], NDArray[Any] | None] = {}
        self._alike: dict[tuple[str, str, str], bool | None] = {}

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
        one, other = self.first(0, a), self.first(1, b)
        if one is None or other is None:
            return None
        return near(one, other, layout)

    def kept(self, a: Tensor, b: Tensor) -> bool:
        """Say whether the first values of both can be read."""
        return self.first(0, a) is not None and self.first(1, b) is not None

    def gradients_alike(self, a: Tensor, b: Tensor, layout: Layout = ()) -> bool | None:
        """Say whether the first gradients of two weights are the same; None where unknown."""
        for role in ("gradient", "applied_gradient"):
            found = [run.find(role, t.name) for run, t in zip(self._runs, (a, b), strict=True)]
            if found[0] is None or found[1] is None:
                continue
            one, other = self.first(0, found[0]), self.first(1, found[1])
            if one is not None and other is not None:
                return near(one, other, layout)
        return None

    def spread(self, side: int, tensor: Tensor) -> float | None:
        """Return the standard deviation of the first values, or None where they were not kept."""
        found = self.first(side, tensor)
        return None if found is None or not found.size else float(found.std())

    def first(self, side: int, tensor: Tensor) -> NDArray[Any] | None:
        """Return the first value of a tensor that was kept, at step 0 or after it."""
        key = (side, *tensor.key)
        if key not in self._read:
            self._read[key] = self._value(self._runs[side], tensor)
        return self._read[key]

    @staticmethod
    def _value(run: Run, tensor: Tensor) -> NDArray[Any] | None:
        if not run.steps or not run.kept(tensor)[0]:
            return None
        values = run.read(tensor, 0)
        return values.astype(np.float64) if values.dtype.kind in "fiu" else None

    def _digest(self, side: int, tensor: Tensor) -> NDArray[np.uint64] | None:
        run = self._runs[side]
        if not run.steps:
            return None
        digest = run.digests(tensor)[0]
        return digest if digest.any() else None


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
    size = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return bool(np.linalg.norm(one - other) <= NEAR * size)
