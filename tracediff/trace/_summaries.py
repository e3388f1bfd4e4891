"""Where the sketches and the row digests of a run stand, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from tracediff.trace._cache import BlockCache
from tracediff.trace._damage import damaged
from tracediff.trace._digests import row_digests_of
from tracediff.trace._store import TraceFiles
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
        self._hashes: dict[str, NDArray[np.uint64] | None] = {}

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
        key = f"{self._group}/{family}/{tensor.role}/{_folder_of(tensor.name)}"
        reader = self._readers.get(key)
        if reader is None:
            reader = RaggedValues(self._files, key, count=count, sparse=False, cache=self._cache)
            self._readers[key] = reader
        numbers, _ = reader.read(place)
        if numbers.ndim != 1 or numbers.dtype != np.dtype(dtype):
            raise damaged(f"{self._files.path}/{key} holds {numbers.dtype} of {numbers.shape}")
        hashes = self._hashes_of(key, count)
        if hashes is not None and row_digests_of(numbers[None])[0] != hashes[place]:
            raise damaged(
                f"{self._files.path}/{key}: summary {place} is not what was recorded: its bytes do "
                "not match their hash"
            )
        return numbers

    def _hashes_of(self, key: str, count: int) -> NDArray[np.uint64] | None:
        """Return the hash of each summary of a tensor; None where the recorder wrote none."""
        if key not in self._hashes:
            there = self._files.has(f"{key}/hash")
            found = self._files.array(f"{key}/hash").read(0, count) if there else None
            if found is not None and (found.shape != (count,) or found.dtype != np.uint64):
                raise damaged(f"{self._files.path}/{key}/hash holds {found.dtype} {found.shape}")
            self._hashes[key] = found
        return self._hashes[key]


def _folder_of(name: str) -> str:
    """Return where a tensor's name leads, part by part, see docs/trace-format.md."""
    parts = (quote(part, safe="-_.") for part in name.split("/"))
    return "/".join("%2E" + part[1:] if part.startswith(".") else part or "%" for part in parts)
