"""Element types as traces name them: how each is stored, and read as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_readable(dtype: str) -> bool:
    """Say whether values recorded in ``dtype`` can be turned into a numpy array."""
    return _known_to_numpy(dtype) or dtype in _DECODERS


def matches(stored: np.dtype[Any], dtype: str) -> bool:
    """Say whether values of type ``dtype`` may be stored as ``stored``."""
    if _known_to_numpy(dtype):
        return stored.newbyteorder("=") == np.dtype(dtype)
    return stored.kind == "u"


def decoded(value: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return a stored value as numbers; types that numpy lacks become wider ones, exactly.

    ``bfloat16`` and the 8-bit floats become float32, 4-bit integers 8-bit ones.

    Example:
        >>> decoded(np.array([0x3F80], np.uint16), "bfloat16")
        array([1.], dtype=float32)
    """
    if _known_to_numpy(dtype):
        return value.astype(value.dtype.newbyteorder("="), copy=False)
    decode = _DECODERS[dtype]
    return decode(value)


def _known_to_numpy(dtype: str) -> bool:
    try:
        known = np.dtype(dtype)
    except TypeError:
        return False
    # Where ml_dtypes is imported, numpy knows more names; what a trace holds does not hang on that.
    return known.isbuiltin == 1 and known.kind in "biufc"


def _bfloat16(value: NDArray[Any]) -> NDArray[Any]:
    # bfloat16 is the upper half of a float32.
    return (value.astype(np.uint32) << 16).view(np.float32)


def _float8_e5m2(value: NDArray[Any]) -> NDArray[Any]:
    # float8_e5m2 is the upper half of a float16.
    return (value.astype(np.uint16) << 8).view(np.float16).astype(np.float32)


def _float8_e4m3fn(value: NDArray[Any]) -> NDArray[Any]:
    # Sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinities, all ones are NaN.
    # Micikevicius et al., FP8 Formats for Deep Learning, 2022, table 1.
    exponent = (value >> 3 & 0xF).astype(np.int32)
    mantissa = (value & 7).astype(np.float32)
    size = np.where(exponent > 0, 8 + mantissa, mantissa) * np.float32(2.0) ** (
        np.maximum(exponent, 1) - 10
    )
    size = np.where(value & 0x7F == 0x7F, np.nan, size)
    return np.copysign(size, np.where(value & 0x80, -1, 1)).astype(np.float32)


def _int4(value: NDArray[Any]) -> NDArray[Any]:
    return value.view(np.int8)


def _uint4(value: NDArray[Any]) -> NDArray[Any]:
    return value


_DECODERS: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "bfloat16": _bfloat16,
    "float8_e5m2": _float8_e5m2,
    "float8_e4m3fn": _float8_e4m3fn,
    "int4": _int4,
    "uint4": _uint4,
}
