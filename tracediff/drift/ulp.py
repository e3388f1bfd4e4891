"""Distances in units in the last place: how many representable numbers lie between two."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INTEGERS: dict[int, tuple[Any, Any]] = {
    2: (np.int16, np.uint16),
    4: (np.int32, np.uint32),
    8: (np.int64, np.uint64),
}


def eps_of(dtype: str) -> float:
    """Return the machine epsilon of a recorded dtype; 0 where it is no float."""
    if dtype == "bfloat16":
        return 2.0**-7
    try:
        kind = np.dtype(dtype)
    except TypeError:
        return 0.0
    return float(np.finfo(kind).eps) if kind.kind == "f" else 0.0


@cache
def narrower(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float dtype of lower precision; ``a`` where either is no float."""
    if a.kind != "f" or b.kind != "f":
        return a if a.kind == "f" else b
    coarse, fine = (float(np.finfo(dtype.name).eps) for dtype in (a, b))
    return a if coarse >= fine else b


def ulp_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Return how many representable numbers lie between ``a`` and ``b``, element by element.

    Floats of one dtype, taken as sign and magnitude, are in order as integers (the usual
    reinterpretation of IEEE 754 bits), with both zeros the same point and infinity next to the
    largest number. Different dtypes are compared in the narrower one.

    Args:
        a: Floats of any shape.
        b: Floats of the same shape.

    Returns:
        uint64 distances. NaN to NaN is 0; NaN to a number is the largest uint64, which no other
        pair reaches.

    Example:
        >>> ulp_distance(np.float32([1.0, 0.0]), np.float32([1.0000001, -0.0])).tolist()
        [1, 0]
    """
    dtype = narrower(a.dtype, b.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        left, right = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    keys_a, keys_b = _ordered(left), _ordered(right)
    high, low = np.maximum(keys_a, keys_b), np.minimum(keys_a, keys_b)
    # Unsigned subtraction wraps around to the right answer where the signed one would overflow.
    distance = high.view(np.uint64) - low.view(np.uint64)
    nan_a, nan_b = np.isnan(left), np.isnan(right)
    distance[nan_a & nan_b] = 0
    distance[nan_a ^ nan_b] = np.iinfo(np.uint64).max
    return distance


def finite_distance(
    a: NDArray[Any], b: NDArray[Any], *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the same for floats of one dtype without NaN, as unsigned integers of their width.

    Numbers of one sign are as far apart as their bits taken as integers; of two signs, as far as
    the magnitudes' bits added.

    Args:
        a: Contiguous floats of 2, 4 or 8 bytes.
        b: The same dtype and shape.
        out: Where to put the distances.
    """
    signed, unsigned = _INTEGERS[a.dtype.itemsize]
    bits_a, bits_b = a.view(signed), b.view(signed)
    result = np.empty(a.shape, unsigned) if out is None else out
    distance = result.view(signed)
    crossing = np.bitwise_xor(bits_a, bits_b, out=distance) < 0
    np.subtract(bits_a, bits_b, out=distance)
    np.abs(distance, out=distance)
    if crossing.any():
        magnitude = signed(np.iinfo(signed).max)
        apart = (bits_a & magnitude).view(unsigned) + (bits_b & magnitude).view(unsigned)
        np.copyto(result, apart, where=crossing)
    return result


def _ordered(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Map floats to int64 such that neighbours differ by one and both zeros are 0."""
    width = values.dtype.itemsize
    bits = np.ascontiguousarray(values).view(f"i{width}").astype(np.int64).reshape(values.shape)
    lowest = np.int64(-(1 << (8 * width - 1)))
    return np.where(bits < 0, lowest - bits, bits)
