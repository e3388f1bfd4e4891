"""A zarr store that looks at the chunks of an array before zarr decodes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from zarr.storage import WrapperStore

from tracediff.trace._damage import ChunkError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

_CHUNK_NAME = re.compile(r"\d+([./]\d+)*")


class CheckedStore(WrapperStore["Store"]):
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
                raise ChunkError(f"chunk {chunk} is missing")
        elif self._blosc_bytes is not None:
            # Header: version, version, flags, type size, then sizes: decoded, block, encoded.
            sizes = np.frombuffer(found.to_bytes()[4:16].ljust(12, b"\0"), "<u4").tolist()
            if (sizes[0], sizes[2]) != (self._blosc_bytes, len(found)):
                raise ChunkError(f"chunk {chunk} is truncated or altered")
        return found
