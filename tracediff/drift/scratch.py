"""Memory that a thread works in again and again: fresh memory would cost more than the sums."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]


class Scratch(threading.local):
    """Arrays by name, for each thread its own.

    Args:
        least: How many elements an array has room for at least.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._buffers: dict[tuple[str, Any], Values] = {}
        self._views: dict[tuple[str, Any, tuple[int, ...]], Values] = {}

    def get(self, name: str, like: Values, dtype: Any) -> Values:
        """Return the array called ``name``, of the shape of ``like``, with whatever is in it."""
        view = self._views.get((name, dtype, like.shape))
        if view is not None:
            return view
        found = self._buffers.get((name, dtype))
        if found is None or found.size < like.size:
            found = self._buffers[name, dtype] = np.empty(max(self._least, like.size), dtype)
            self._views.clear()
        if len(self._views) >= _VIEWS:
            self._views.clear()
        view = self._views[name, dtype, like.shape] = found[: like.size].reshape(like.shape)
        return view

    def wide(self, name: str, values: Values) -> Values:
        """Return ``values`` as float64."""
        if values.dtype == np.float64:
            return values
        found = self.get(name, values, np.float64)
        np.copyto(found, values)
        return found


_VIEWS = 256
"""Views that are kept: making one takes as long as adding up some thousand numbers."""


class Room(threading.local):
    """Memory for the values that a block of work reads, for each thread its own.

    It is used again by the next block, so that nothing may be kept of what was given.
    """

    def __init__(self) -> None:
        self._slabs: list[Values] = []
        self._slab = self._taken = 0

    def clear(self) -> None:
        """Take back all that was given."""
        self._slab = self._taken = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
        """Return an array with whatever is in it."""
        size = math.prod(shape) * dtype.itemsize
        while True:
            if self._slab == len(self._slabs):
                self._slabs.append(np.empty(max(size, _SLAB), np.uint8))
            slab, start = self._slabs[self._slab], self._taken
            if start + size <= slab.size:
                self._taken = start + -(-size // _ALIGNED) * _ALIGNED
                return slab[start : start + size].view(dtype).reshape(shape)
            if not start:
                # Nothing of it is given, and it is too small.
                self._slabs[self._slab] = np.empty(size, np.uint8)
                continue
            self._slab, self._taken = self._slab + 1, 0


_SLAB = 8 << 20
"""Bytes that memory is asked for at a time."""
_ALIGNED = 64
"""Bytes at a multiple of which arrays begin: a line of a processor's cache."""
