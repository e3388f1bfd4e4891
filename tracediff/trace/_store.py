"""The door to zarr: groups and arrays of a store, every failure an error of ours.

Knows nothing of training: what the groups and arrays mean is decided by the modules that ask.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from tracediff.errors import DamagedTrace, NotATrace
from tracediff.trace._checked_store import CheckedStore
from tracediff.trace._damage import DAMAGE_HINT, damaged, translated
from tracediff.trace._opening import open_store, what_is_a_trace
from tracediff.trace._plain import read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array of the store.

    Attributes:
        where: Its path as a user would type it, for messages.
        shape: Its extents; the first one counts rows.
        dtype: The element type on disk.
        chunk_rows: Rows in a chunk: what is decoded together.
        chunk_files: How the files of its chunks are named, with a place for their number, where
            they hold rows as they are in memory: local, uncompressed, in C order; else None.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int
    chunk_files: str | None
    _array: Any

    def read(self, start: int, stop: int, columns: slice = slice(None)) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` (exclusive), of them ``columns`` of the second axis.

        Raises:
            DamagedTrace: A chunk is missing or does not decode, or there are too few rows.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise DamagedTrace(
                f"{self.where} holds {self.shape[0]} rows, at least {stop} expected",
                hint=DAMAGE_HINT,
            )
        if columns == slice(None) and self._within_a_chunk(start, stop):
            found = np.empty((stop - start, *self.shape[1:]), self.dtype)
            if self.read_into(start, found):
                return found
        selection = (slice(start, stop), columns) if len(self.shape) > 1 else slice(start, stop)
        with translated(self.where):
            return np.asarray(self._array[selection])

    def _within_a_chunk(self, start: int, stop: int) -> bool:
        return stop > start and start // self.chunk_rows == (stop - 1) // self.chunk_rows

    def read_into(self, start: int, out: NDArray[Any]) -> bool:
        """Fill ``out`` with the rows from ``start`` on, and say whether that was possible.

        It is not where they are compressed, of several chunks, or not all there; `read` is to be
        asked then, and knows what is wrong.

        Args:
            start: The first row.
            out: Contiguous, of the dtype and the shape of the rows, one row at least.
        """
        if self.chunk_files is None or start + len(out) > self.shape[0]:
            return False
        return read_rows(self.chunk_files, start, out, chunk_rows=self.chunk_rows)

    def bytes_on_disk(self) -> int:
        """Return the size of the chunks and the metadata of this array in the store."""
        with translated(self.where):
            return int(self._array.nbytes_stored())


class TraceFiles:
    """An opened zarr format 2 group.

    Raises:
        TraceNotFound: Nothing is at ``path``.
        NotATrace: Something else is at ``path``.
        UnsupportedFormat: It is a store in zarr format 3.
        DamagedTrace: It is a zarr group that cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._store = store = open_store(path)
        try:
            with translated(path):
                # Consolidated metadata would be a second truth; the recorder writes none.
                self._root = zarr.open_group(store, mode="r", zarr_format=2, use_consolidated=False)
        except DamagedTrace as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotATrace(
                    f"{path} is no zarr group, so it is no trace", hint=what_is_a_trace()
                ) from error
            raise

    def attributes(self, group: str = "") -> dict[str, Any]:
        """Return the attributes of the root or of the group named."""
        with translated(self._where(group)):
            node = self._root[group] if group else self._root
            return dict(node.attrs.asdict())

    def groups(self) -> list[str]:
        """Return the names of the groups in the root, in no particular order."""
        if "://" not in self.path:
            # Not through zarr, which would parse every group and stumble over a damaged one.
            with translated(self.path):
                return [entry.parent.name for entry in Path(self.path).glob("*/.zgroup")]
        with translated(self.path), warnings.catch_warnings():
            # Zarr warns of foreign files (.DS_Store); they are none of our business.
            warnings.simplefilter("ignore")
            return list(self._root.group_keys())

    def array(self, key: str, *, complete: bool = False) -> StoredArray:
        """Return the array at ``key``.

        Args:
            key: Its path below the root.
            complete: Whether its chunks have to be there. Zarr libraries may leave out a chunk that
                holds nothing but the fill value, so this is for arrays that have no such chunks.

        Raises:
            DamagedTrace: It is not there, or its metadata does not parse.
        """
        where = self._where(key)
        with translated(where):
            found = self._root.get(key)
            if found is None:
                raise damaged(f"{where} is missing")
            if not isinstance(found, zarr.Array):
                raise damaged(f"{where} is a group, an array expected")
            blosc_bytes = _blosc_bytes(found)
            if complete or blosc_bytes is not None:
                checked = CheckedStore(self._store, key, complete=complete, blosc_bytes=blosc_bytes)
                found = zarr.open_array(checked, path=key, mode="r", zarr_format=2)
            return StoredArray(
                where=where,
                shape=found.shape,
                dtype=np.dtype(found.dtype),
                chunk_rows=max(1, found.chunks[0]) if found.chunks else 1,
                chunk_files=self._chunk_files(key, found),
                _array=found,
            )

    def _chunk_files(self, key: str, array: zarr.Array[Any]) -> str | None:
        """Return the pattern of the files that hold an array's rows plainly, or None."""
        metadata: Any = array.metadata
        plain = (
            isinstance(self._store, LocalStore)
            and not array.compressors
            and not array.filters
            and metadata.order == "C"
            and array.ndim > 0
            and tuple(array.chunks[1:]) == tuple(max(1, extent) for extent in array.shape[1:])
            and 0 not in array.shape[1:]
        )
        if not plain:
            return None
        rest = f"{metadata.dimension_separator}0" * (array.ndim - 1)
        folder = str(Path(self.path, key)).replace("{", "{{").replace("}", "}}")
        return f"{folder}{os.sep}{{}}{rest}"

    def has(self, key: str) -> bool:
        """Say whether there is an array or a group at ``key``."""
        with translated(self._where(key)):
            return key in self._root

    def _where(self, key: str) -> str:
        return f"{self.path}/{key}" if key else self.path


def _blosc_bytes(array: zarr.Array[Any]) -> int | None:
    if not any(getattr(codec, "codec_id", None) == "blosc" for codec in array.compressors):
        return None
    return math.prod(array.chunks) * np.dtype(array.dtype).itemsize
