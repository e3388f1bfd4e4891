"""The only door to zarr: opens stores, reads arrays, turns every failure into an error of ours.

Knows nothing of training: what the groups and arrays mean is decided by the modules that ask.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import LocalStore, WrapperStore

from tracediff.errors import (
    DamagedTrace,
    NotATrace,
    TracediffError,
    TraceNotFound,
    UnsupportedFormat,
    did_you_mean,
)
from tracediff.trace._plain import read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

_DAMAGE_HINT = "restore the trace from a copy, or record it again"
_CHUNK_NAME = re.compile(r"\d+([./]\d+)*")


class _ChunkError(Exception):
    """A chunk is not what it has to be."""


class _CheckedStore(WrapperStore["Store"]):
    """A store that checks the chunks of one array before they are decoded.

    Args:
        store: The store.
        key: Path of the array.
        complete: Whether chunks of the first columns have to be there. Zarr reads a chunk that is
            not there as the fill value, and so would take lost rows for empty ones. Later columns
            may have been added when rows had been written already.
        blosc_bytes: Size of a decoded chunk where Blosc compresses it, else None. The decoder
            believes the sizes in a chunk's header and would read beyond the end of a short chunk.
    """

    def __init__(self, store: Store, key: str, *, complete: bool, blosc_bytes: int | None) -> None:
        super().__init__(store)
        self._prefix = f"{key}/"
        self._complete = complete
        self._blosc_bytes = blosc_bytes

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        found = await self._store.get(key, prototype, byte_range)
        chunk = key.removeprefix(self._prefix)
        if chunk == key or not _CHUNK_NAME.fullmatch(chunk):
            return found
        if found is None:
            if self._complete and re.split("[./]", chunk)[1:2] in ([], ["0"]):
                raise _ChunkError(f"chunk {chunk} is missing")
        elif self._blosc_bytes is not None:
            # Header: version, version, flags, type size, then sizes: decoded, block, encoded.
            sizes = np.frombuffer(found.to_bytes()[4:16].ljust(12, b"\0"), "<u4").tolist()
            if (sizes[0], sizes[2]) != (self._blosc_bytes, len(found)):
                raise _ChunkError(f"chunk {chunk} is truncated or altered")
        return found


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
                hint=_DAMAGE_HINT,
            )
        if columns == slice(None) and self._within_a_chunk(start, stop):
            found = np.empty((stop - start, *self.shape[1:]), self.dtype)
            if self.read_into(start, found):
                return found
        selection = (slice(start, stop), columns) if len(self.shape) > 1 else slice(start, stop)
        with _translated(self.where):
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
        with _translated(self.where):
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
        self._store = store = _open_store(path)
        try:
            with _translated(path):
                # Consolidated metadata would be a second truth; the recorder writes none.
                self._root = zarr.open_group(store, mode="r", zarr_format=2, use_consolidated=False)
        except DamagedTrace as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotATrace(
                    f"{path} is no zarr group, so it is no trace", hint=_what_is_a_trace()
                ) from error
            raise

    def attributes(self, group: str = "") -> dict[str, Any]:
        """Return the attributes of the root or of the group named."""
        with _translated(self._where(group)):
            node = self._root[group] if group else self._root
            return dict(node.attrs.asdict())

    def groups(self) -> list[str]:
        """Return the names of the groups in the root, in no particular order."""
        if "://" not in self.path:
            # Not through zarr, which would parse every group and stumble over a damaged one.
            with _translated(self.path):
                return [entry.parent.name for entry in Path(self.path).glob("*/.zgroup")]
        with _translated(self.path), warnings.catch_warnings():
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
        with _translated(where):
            found = self._root.get(key)
            if found is None:
                raise damaged(f"{where} is missing")
            if not isinstance(found, zarr.Array):
                raise damaged(f"{where} is a group, an array expected")
            blosc_bytes = _blosc_bytes(found)
            if complete or blosc_bytes is not None:
                checked = _CheckedStore(
                    self._store, key, complete=complete, blosc_bytes=blosc_bytes
                )
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
        with _translated(self._where(key)):
            return key in self._root

    def _where(self, key: str) -> str:
        return f"{self.path}/{key}" if key else self.path


def _blosc_bytes(array: zarr.Array[Any]) -> int | None:
    if not any(getattr(codec, "codec_id", None) == "blosc" for codec in array.compressors):
        return None
    return math.prod(array.chunks) * np.dtype(array.dtype).itemsize


def _open_store(path: str) -> Store:
    if "://" in path:
        return _open_remote_store(path)
    folder = Path(path)
    if not os.path.lexists(folder):
        raise TraceNotFound(f"{path} does not exist", hint=_near_path(path) or _how_to_record())
    if not folder.is_dir():
        archive = path.endswith((".zip", ".tar", ".gz", ".tgz"))
        raise NotATrace(
            f"{path} is a file; a trace is a folder",
            hint="unpack the archive first" if archive else _what_is_a_trace(),
        )
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise _unreadable(path, error) from error
    if ".zgroup" not in names:
        raise _no_group(path, names)
    return LocalStore(path, read_only=True)


def _open_remote_store(url: str) -> Store:
    try:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(url, read_only=True)
    except ImportError as error:
        raise TracediffError(
            f"{url} cannot be opened: {error}",
            hint="pip install fsspec and its package for this kind of URL (s3fs, gcsfs, adlfs)",
        ) from error
    except Exception as error:
        raise TraceNotFound(
            f"{url} cannot be opened: {_describe(error)}", hint="check the URL and your credentials"
        ) from error


def _no_group(path: str, names: set[str]) -> TracediffError:
    if "zarr.json" in names:
        return UnsupportedFormat(
            f"{path} is a store in zarr format 3; a trace is in zarr format 2",
            hint="name the folder that the recorder wrote, not a converted copy",
        )
    if ".zarray" in names:
        return NotATrace(f"{path} is a single zarr array, not a trace", hint=_what_is_a_trace())
    if any(re.fullmatch(r"run-\d+", name) for name in names):
        return DamagedTrace(f"{path}/.zgroup is missing", hint=_DAMAGE_HINT)
    inside = sorted(name for name in names if (Path(path) / name / ".zgroup").exists())
    if inside:
        return NotATrace(
            f"{path} is a folder, not a trace",
            hint=f"did you mean {Path(path) / inside[0]}?",
        )
    return NotATrace(f"{path} is a folder, not a trace", hint=_what_is_a_trace())


def _near_path(path: str) -> str | None:
    folder = Path(path).parent
    try:
        siblings = [str(entry) for entry in folder.iterdir()]
    except OSError:
        return None
    return did_you_mean(str(Path(path)), siblings)


def _what_is_a_trace() -> str:
    return 'a trace is the folder that TraceCallback("a.zarr") or tracediff-record -o a.zarr writes'


def _how_to_record() -> str:
    return 'record one with model.fit(..., callbacks=[TraceCallback("a.zarr")])'


def _describe(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _unreadable(where: str, error: OSError) -> TracediffError:
    return TracediffError(
        f"{where} cannot be read: {error.strerror or error}",
        hint="check its permissions and the disk it is on",
    )


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn what zarr, its codecs, JSON and the file system raise into an error that says where."""
    try:
        yield
    except (TracediffError, MemoryError):
        raise
    except _ChunkError as error:
        raise DamagedTrace(f"{where}: {error}", hint=_DAMAGE_HINT) from error
    except (PermissionError, BlockingIOError, TimeoutError, ConnectionError) as error:
        raise _unreadable(where, error) from error
    except Exception as error:
        raise DamagedTrace(
            f"{where} cannot be read: {_describe(error)}", hint=_DAMAGE_HINT
        ) from error


def as_object(found: object, where: str) -> Mapping[str, Any]:
    """Return ``found`` if it is a JSON object.

    Raises:
        DamagedTrace: It is something else.
    """
    if not isinstance(found, dict):
        raise DamagedTrace(f"{where}: a JSON object expected", hint=_DAMAGE_HINT)
    return found


def damaged(message: str) -> DamagedTrace:
    """Return the error for content that contradicts itself."""
    return DamagedTrace(message, hint=_DAMAGE_HINT)
