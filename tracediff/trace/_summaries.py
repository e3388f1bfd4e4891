"""Where the sketches and the row digests of a run stand, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from tracediff.trace._cache import BlockCache
from tracediff.trace._store import TraceFiles, damaged
from tracediff.trace._tensor import Tensor
from tracediff.trace._values import RaggedValues

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Summaries:
    """The arrays of summaries of one run, each opened once.

    Args:
        files: The trace.
        group: Path of the run in the trace.
        cache: Where decoded chunks are kept.
    """

    def __init__(self, files: TraceFiles, group: str, cache: BlockCache) -> None:
        self._files = files
        self._group = group
        self._cache = cache
        self._readers: dict[str, RaggedValues] = {}

    def read(
        self, family: str, tensor: Tensor, place: int, *, count: int, dtype: str
    ) -> NDArray[Any]:
        """Return the numbers of one summary.

        Args:
            family: ``sketches`` or ``row_digests``.
            tensor: The tensor.
            place: Which of its summaries.
            count: How many of them the complete steps refer to.
            dtype: What the numbers have to be.

        Raises:
            DamagedTrace: They cannot be read.
        """
        key = f"{self._group}/{family}/{tensor.role}/{quote(tensor.name, safe='/-_.')}"
        reader = self._readers.get(key)
        if reader is None:
            reader = RaggedValues(self._files, key, count=count, sparse=False, cache=self._cache)
            self._readers[key] = reader
        numbers, _ = reader.read(place)
        if numbers.ndim != 1 or numbers.dtype != np.dtype(dtype):
            raise damaged(f"{self._files.path}/{key} holds {numbers.dtype} of {numbers.shape}")
        return numbers
