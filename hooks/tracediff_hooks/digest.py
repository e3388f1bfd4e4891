"""Content digests: equal bytes, equal digest, on every stack."""

from typing import Any, Tuple

import numpy as np
import xxhash

from tracediff_hooks import native

Digest = Tuple[int, int]

ABSENT: "Digest" = (0, 0)


def _bytes_of(array: np.ndarray) -> Any:
    """Views any array as its bytes in C order; Any, for the types of numpy know no buffers."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def digest_of(*arrays: np.ndarray) -> Digest:
    """Hashes the arrays' bytes, one after the other, with 128-bit XXH3.

    Args:
        arrays: arrays of any shape and any little-endian dtype.

    Returns:
        The low and the high 64 bits. XXH3: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
    """
    if len(arrays) == 1:
        array: Any = arrays[0]
        if array.dtype.isbuiltin != 1 or not array.flags.c_contiguous:
            array = _bytes_of(array)
        value = xxhash.xxh3_128_intdigest(array)
    else:
        state = xxhash.xxh3_128()
        for array in arrays:
            state.update(_bytes_of(array))
        value = state.intdigest()
    return value & 0xFFFFFFFFFFFFFFFF, value >> 64


def row_digests(array: np.ndarray) -> np.ndarray:
    """Hashes each row of an array, its first axis, with 64-bit XXH3.

    Two batches hold the same rows in another order if these are the same in another order.

    Returns:
        uint64 (rows,).
    """
    array = np.ascontiguousarray(array)
    count = array.shape[0]
    if native.PASSES is not None and array.nbytes > count * native.SHORT:
        return native.PASSES.row_digests(array)  # type: ignore[no-any-return]
    data = memoryview(_bytes_of(array))
    width = len(data) // count if count else 0
    return np.array(
        [xxhash.xxh3_64_intdigest(data[row * width : (row + 1) * width]) for row in range(count)],
        np.uint64,
    )
