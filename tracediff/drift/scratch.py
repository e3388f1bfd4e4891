"""Memory that a thread works in again and again: fresh memory would cost more than the sums."""

from __future__ import annotations

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
        self._buffers: dict[tuple[str, np.dtype[Any]], Values] = {}

    def get(self, name: str, like: Values, dtype: Any) -> Values:
        """Return the array called ``name``, of the shape of ``like``, with whatever is in it."""
        key = name, np.dtype(dtype)
        found = self._buffers.get(key)
        if found is None or found.size < like.size:
            found = self._buffers[key] = np.empty(max(self._least, like.size), dtype)
        return found[: like.size].reshape(like.shape)

    def wide(self, name: str, values: Values) -> Values:
        """Return ``values`` as float64."""
        if values.dtype == np.float64:
            return values
        found = self.get(name, values, np.float64)
        np.copyto(found, values)
        return found
