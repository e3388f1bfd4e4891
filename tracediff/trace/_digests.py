"""Content hashes: of values, of their rows, and which of many values is not what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORD = 0xFFFF_FFFF_FFFF_FFFF


def digest_of(*arrays: NDArray[Any]) -> tuple[int, int]:
    """Return the low and the high 64 bits of the 128-bit XXH3 hash of the arrays' bytes.

    The bytes are taken in C order, little endian, those of one array after those of the other.
    XXH3: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.

    Example:
        >>> digest_of(np.zeros(0, np.float32))
        (6918025063187695999, 11072670137173121240)
    """
    state = xxhash.xxh3_128()
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        state.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    value = state.intdigest()
    return value & _WORD, value >> 64


def row_digests_of(array: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the 64-bit XXH3 hash of each row, the first axis, of an array; uint64 (rows,)."""
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return np.array([xxhash.xxh3_64_intdigest(row.tobytes()) for row in little], np.uint64)


def first_unlike(values: NDArray[Any], digests: NDArray[np.uint64]) -> int | None:
    """Return the number of the first row whose bytes have another digest, or None.

    Args:
        values: Rows as stored, contiguous; shape (n, ...).
        digests: The digest of each, low half first; shape (n, 2).
    """
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    flat = np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
    size = len(flat) // max(1, len(little))
    # XXH3 writes its digests big endian, high half first.
    expected = np.ascontiguousarray(digests[:, ::-1]).astype(">u8").tobytes()
    digest = xxhash.xxh3_128_digest
    starts = range(0, len(little) * size, size) if size else [0] * len(little)
    found = b"".join([digest(flat[start : start + size]) for start in starts])
    if found == expected:
        return None
    pairs = zip(*(np.frombuffer(one, "V16") for one in (found, expected)), strict=True)
    return next(row for row, (one, other) in enumerate(pairs) if one != other)
