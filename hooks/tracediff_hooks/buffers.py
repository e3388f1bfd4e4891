"""Memory that is used again: fresh memory of the size of a model costs more than what is put in it.

The kernel hands out pages one fault at a time; measured on one machine, copying 8 MB takes 0.6 ms
into memory in use and 3 to 11 ms into new memory.
"""

import threading
from typing import Dict, List

import numpy as np


class BufferPool:
    """Buffers that one thread takes and another gives back."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._free: Dict[int, List[np.ndarray]] = {}
        self._free_bytes = 0
        self._lock = threading.Lock()

    def copy(self, array: np.ndarray) -> np.ndarray:
        """Copies an array into a buffer; the result is contiguous and has its dtype and shape."""
        array = np.asarray(array)
        size = array.nbytes
        with self._lock:
            free = self._free.get(size)
            buffer = free.pop() if free else None
            if buffer is not None:
                self._free_bytes -= size
        if buffer is None:
            buffer = np.empty(size, np.uint8)
        copied = buffer.view(array.dtype).reshape(array.shape)
        np.copyto(copied, array)
        return copied

    def give_back(self, array: np.ndarray) -> None:
        """Takes back what `copy` returned; nobody may use it from then on."""
        buffer = array
        while isinstance(buffer.base, np.ndarray):
            buffer = buffer.base
        with self._lock:
            if self._free_bytes + buffer.nbytes <= self._limit:
                self._free.setdefault(buffer.nbytes, []).append(buffer)
                self._free_bytes += buffer.nbytes
