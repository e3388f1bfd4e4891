"""What is said of every value that is not kept in full: moments, extremes, what is not finite."""

from typing import Tuple

import numpy as np

FIELDS = ("size", "mean", "std", "norm", "min", "max", "nan", "inf")
"""What each number is, in the order of the format; see docs/trace-format.md."""
_ROW = 4096


def statistics_of(values: np.ndarray) -> np.ndarray:
    """The statistics of an array.

    Float32 and float16 are summed in float32, in parts of 4096 whose sums are added in float64:
    moments are good to about six digits, the other numbers exact.

    Args:
        values: real numbers of any shape and dtype.

    Returns:
        float64, one number for each of `FIELDS`; of finite elements only, but for the last two.
        NaN where no element is finite.
    """
    flat = values.reshape(-1)
    if flat.dtype.kind != "f" or flat.dtype.itemsize > 8 or flat.dtype.isbuiltin != 1:
        flat = flat.astype(np.float64)
    elif flat.dtype.itemsize == 2:
        flat = flat.astype(np.float32)
    size = flat.size
    if not size:
        return np.array([0.0, *[np.nan] * 5, 0.0, 0.0])
    with np.errstate(over="ignore", invalid="ignore"):
        total, squares = _sums(flat)
    nan = inf = 0
    if not (np.isfinite(squares) and np.isfinite(total)):
        nan = int(np.count_nonzero(np.isnan(flat)))
        finite = flat[np.isfinite(flat)]
        inf = int(flat.size - nan - finite.size)
        flat = finite.astype(np.float64)
        if not flat.size:
            return np.array([size, *[np.nan] * 5, nan, inf])
        with np.errstate(over="ignore", invalid="ignore"):
            total, squares = _sums(flat)
    mean = total / flat.size
    with np.errstate(over="ignore", invalid="ignore"):
        variance = max(0.0, squares / flat.size - mean * mean)
    lowest, highest = float(flat.min()), float(flat.max())
    return np.array([size, mean, variance**0.5, squares**0.5, lowest, highest, nan, inf])


def _sums(flat: np.ndarray) -> Tuple[float, float]:
    whole = flat.size // _ROW * _ROW
    rows, rest = flat[:whole].reshape(-1, _ROW), flat[whole:]
    # Not `dot`, whose threads would compete with those of the framework.
    total = float(rows.sum(axis=1).sum(dtype=np.float64)) + float(rest.sum())
    squares = float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
    return total, squares + float(np.einsum("i,i->", rest, rest))
