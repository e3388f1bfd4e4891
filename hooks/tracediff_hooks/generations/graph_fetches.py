"""Tensors that ride along with a graph's train function, as more fetches of each of its calls."""

from typing import Any, Dict, List, NamedTuple

import numpy as np

from tracediff_hooks.composite import plain_arrays
from tracediff_hooks.tensors import Key, SparseRows, Value


class _Place(NamedTuple):
    """Where a fetched tensor belongs: a whole value, or the values or rows of a sparse one."""

    key: Key
    part: str


class Fetches:
    """What one train function fetches for the recorder besides what it fetches by itself.

    Args:
        function: a `GraphExecutionFunction`.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._added: List[Any] = []
        self._fetched: Dict[_Place, np.ndarray] = {}

    def add(self, key: Key, tensor: Any) -> None:
        """Fetches a tensor from now on."""
        self._add(_Place(key, "dense"), tensor)

    def add_gradient(self, key: Key, gradient: Any) -> None:
        """Fetches a gradient from now on; one that has only some rows by these and their places."""
        if hasattr(gradient, "indices"):
            self._add(_Place(key, "values"), gradient.values)
            self._add(_Place(key, "rows"), gradient.indices)
        else:
            self.add(key, gradient)

    def add_fed(self, key: Key, tensor: Any) -> None:
        """Fetches the tensor that a batch is until the step runs, unless it is fetched already."""
        if _Place(key, "dense") not in self._fetched and tensor not in self._added:
            self._add(_Place(key, "dense"), tensor)

    def _add(self, place: _Place, tensor: Any) -> None:
        function = self._function
        if tensor in function.fetches:
            previous = function.fetch_callbacks.get(tensor)
        else:
            previous = None
            function.fetches.append(tensor)
            self._added.append(tensor)

        def keep(value: Any) -> None:
            if previous is not None:
                previous(value)
            self._fetched[place] = value

        function.fetch_callbacks[tensor] = keep

    def begin(self) -> None:
        """Forgets what was fetched: a step begins."""
        self._fetched = {}

    def values(self) -> Dict[Key, Value]:
        """What the step has fetched."""
        found: Dict[Key, Value] = {}
        for place, value in self._fetched.items():
            if place.part == "dense":
                found.update(plain_arrays(place.key, value, np.asarray))
            elif place.part == "values":
                rows = np.array(self._fetched[_Place(place.key, "rows")], np.int64)
                found[place.key] = SparseRows(np.asarray(value), rows)
        return found

    def remove(self) -> None:
        """Leaves the train function to fetch what it fetched before."""
        for tensor in self._added:
            self._function.fetches.remove(tensor)
            self._function.fetch_callbacks.pop(tensor, None)
        self._added = []
