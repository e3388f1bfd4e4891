"""What is said of every value that is not kept in full: moments, extremes, what is not finite."""

import math
import threading
from typing import Mapping, Tuple

import numpy as np

from tracediff_hooks import native
from tracediff_hooks.flushing import flushed

FIELDS = ("size", "mean", "std", "norm", "min", "max", "nan", "inf")
"""What each number is, in the order of the format; see docs/trace-format.md."""
_ROW = 4096
_BLOCK = 64 * _ROW
"""Elements that are read again and again while they lie in the processor's cache."""
_SAFE = {4: (8, 48), 8: (-400, 400)}
"""Between which powers of two, by itemsize, the largest element may lie for squares to be added up
as they are; elsewhere the elements are scaled so that it lies at the upper one. Otherwise squares
of small elements would lose digits, and cost 100 times the time of others."""
_SAFE_FLUSHED = {4: (-40, 48), 8: (-400, 400)}
"""The same where squares that are too small become zero, which costs no time: they may, while the
largest is not small itself."""
_LEAST_SQUARES = 1e-280
"""A sum of squares that is less has lost digits, unless all elements are zeros."""
_LARGE = 1 << 15
"""Elements from which on it pays to have them flushed."""

Statistics = Tuple[float, float, float, float, float, float, float, float]
Sums = Tuple[float, ...]
"""Smallest, largest, sum, and sum of squares of the finite elements; NaNs, infinities."""
_NAN = float("nan")
_own = threading.local()


def statistics_of(values: np.ndarray) -> Statistics:
    """The statistics of an array.

    By the compiled passes float32 and float16 are summed in float64. Without these they are summed
    in float32, in parts of 4096 whose sums are added in float64: moments are good to about six
    digits then. The other numbers are exact.

    Args:
        values: real numbers of any shape and dtype.

    Returns:
        One number for each of `FIELDS`; of finite elements only, but for the last two. NaN where no
        element is finite.
    """
    flat = values.reshape(-1)
    if flat.dtype.kind != "f" or flat.dtype.itemsize > 8 or flat.dtype.isbuiltin != 1:
        flat = flat.astype(np.float64)
    elif flat.dtype.itemsize == 2:
        flat = flat.astype(np.float32)
    size = flat.size
    if not size:
        return of_sums(0, 0.0, 0.0, 0.0, 0.0, 0, 0)
    if native.PASSES is not None and native.takes(flat):
        return of_sums(size, *native.PASSES.moments(flat))
    nan = inf = 0
    if size < _LARGE:
        lowest, highest, total, squares = _pass_over(flat, _SAFE)
    else:
        with flushed() as flushes:
            safe = _SAFE_FLUSHED if flushes else _SAFE
            lowest, highest, total, squares = _pass_over(flat, safe)
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        finite = np.isfinite(flat)
        nan = int(np.count_nonzero(np.isnan(flat)))
        inf = int(size - nan - np.count_nonzero(finite))
        flat = flat[finite].astype(np.float64)
        if flat.size:
            lowest, highest, total, squares = _pass_over(flat, _SAFE)
    if not _LEAST_SQUARES < squares < np.inf and flat.size and (lowest or highest):
        return _of_scaled(size, flat.astype(np.float64), lowest, highest, nan, inf)
    return of_sums(size, lowest, highest, total, squares, nan, inf)


def _of_scaled(
    size: int, finite: np.ndarray, lowest: float, highest: float, nan: int, inf: int
) -> Statistics:
    """The statistics of elements whose squares are no numbers of float64."""
    power = math.frexp(max(-lowest, highest))[1]
    scaled = np.ldexp(finite, -power)
    _, mean, std, norm, _, _, _, _ = of_sums(
        finite.size, -1.0, 1.0, float(scaled.sum()), float(np.einsum("i,i->", scaled, scaled)), 0, 0
    )
    mean, std, norm = (float(np.ldexp(number, power)) for number in (mean, std, norm))
    return size, mean, std, norm, lowest, highest, nan, inf


def of_sums(
    size: int,
    lowest: float,
    highest: float,
    total: float,
    squares: float,
    nan: float,
    inf: float,
) -> Statistics:
    """The statistics of ``size`` elements whose `Sums` are known."""
    count = size - nan - inf
    if not count:
        return size, _NAN, _NAN, _NAN, _NAN, _NAN, nan, inf
    mean = total / count
    variance = max(0.0, squares / count - mean * mean)
    return size, mean, variance**0.5, squares**0.5, lowest, highest, nan, inf


def _pass_over(
    flat: np.ndarray, safe: Mapping[int, Tuple[int, int]]
) -> Tuple[float, float, float, float]:
    """Smallest and largest element, sum, and sum of squares; NaN first where one is not finite."""
    lowest, highest, total, squares = float("inf"), float("-inf"), 0.0, 0.0
    if flat.size <= _ROW:
        return _few(flat)
    least, most = safe[flat.dtype.itemsize]
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        for first in range(0, flat.size, _BLOCK):
            block = flat[first : first + _BLOCK]
            low, high = float(block.min()), float(block.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                return np.nan, np.nan, np.nan, np.nan
            lowest, highest = min(lowest, low), max(highest, high)
            exponent = math.frexp(max(-low, high))[1]
            if least <= exponent <= most:
                added = _sums(block)
                total, squares = total + added[0], squares + added[1]
            elif low or high:
                power = most - exponent
                added = _sums(_scaled(block, power))
                total += float(np.ldexp(added[0], -power))
                squares += float(np.ldexp(np.ldexp(added[1], -power), -power))
    return lowest, highest, total, squares


def _few(flat: np.ndarray) -> Tuple[float, float, float, float]:
    """The same of a few elements, where calls cost more than elements do."""
    lowest, highest = float(flat.min()), float(flat.max())
    magnitude = max(-lowest, highest)
    if not magnitude < np.inf:
        return np.nan, np.nan, np.nan, np.nan
    wide = flat.astype(np.float64)
    power = max(-1000, min(1000, -math.frexp(magnitude)[1])) if magnitude else 0
    wide *= 2.0**power
    total, squares = float(wide.sum()), float(np.einsum("i,i->", wide, wide))
    with np.errstate(over="ignore"):
        total = float(np.ldexp(total, -power))
        squares = float(np.ldexp(np.ldexp(squares, -power), -power))
    return lowest, highest, total, squares


def _scaled(block: np.ndarray, power: int) -> np.ndarray:
    """A block times a power of two, in memory that each thread uses again."""
    buffers = _own.__dict__.setdefault("buffers", {})
    if block.dtype not in buffers:
        buffers[block.dtype] = np.empty(_BLOCK, block.dtype)
    result: np.ndarray = buffers[block.dtype][: block.size]
    # What is no number of the type is applied in two parts.
    first = (
        max(-120, min(120, power)) if block.dtype.itemsize == 4 else max(-1000, min(1000, power))
    )
    np.multiply(block, block.dtype.type(2.0**first), out=result)
    if power != first:
        np.multiply(result, block.dtype.type(2.0 ** (power - first)), out=result)
    return result


def _sums(flat: np.ndarray) -> Tuple[float, float]:
    whole = flat.size // _ROW * _ROW
    rows, rest = flat[:whole].reshape(-1, _ROW), flat[whole:]
    # Not `dot`, whose threads would compete with those of the framework.
    total = float(np.einsum("ij->i", rows).sum(dtype=np.float64)) + float(np.einsum("i->", rest))
    squares = float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
    return total, squares + float(np.einsum("i,i->", rest, rest))
