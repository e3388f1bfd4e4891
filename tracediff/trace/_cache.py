"""A bounded memory of decoded blocks, shared by threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

CACHE_BYTES = 256 << 20
"""What an opened trace keeps of decoded blocks at most; a larger block is not kept at all."""


class BlockCache:
    """The most recently used blocks, at most ``limit`` bytes of them.

    Threads that ask for one block at the same time wait for the one that loads it. Blocks are
    marked read-only, because they are shared.

    Example:
        >>> import numpy as np
        >>> cache = BlockCache(limit=100)
        >>> int(cache.get("a", lambda: np.arange(3)).sum())
        3
    """

    def __init__(self, *, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._blocks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._loading: dict[Hashable, Future[NDArray[Any]]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The bytes held now."""
        return self._bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._blocks or key in self._loading

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the block known as ``key``, from memory or else by calling ``load``.

        Raises:
            Exception: Whatever ``load`` raises; nothing is remembered then.
        """
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
            pending = self._loading.get(key)
            if pending is None:
                mine: Future[NDArray[Any]] = Future()
                self._loading[key] = mine
        if pending is not None:
            return pending.result()
        try:
            block = load()
            block.flags.writeable = False
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._loading[key]
            self._remember(key, block)
        mine.set_result(block)
        return block

    def _remember(self, key: Hashable, block: NDArray[Any]) -> None:
        if block.nbytes > self._limit:
            return
        self._blocks[key] = block
        self._bytes += block.nbytes
        while self._bytes > self._limit:
            _, oldest = self._blocks.popitem(last=False)
            self._bytes -= oldest.nbytes
