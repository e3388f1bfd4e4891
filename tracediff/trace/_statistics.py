"""Moments, extremes and what is not finite: what a trace says of values it does not keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELDS = ("size", "mean", "std", "norm", "min", "max", "nan", "inf")
"""The order in which the trace format has them."""
MOMENT_ERROR = 2e-5
"""Relative error of recorded moments, at most: means as shares of the norm over the root of the
size. Twice the largest that was measured, of three million equal float32 elements."""
FEW_ELEMENTS = 4096
"""Values of no more elements have moments that were added up in float64."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of one value; all but the counts are of its finite elements only.

    Recorded moments of float32 and float16 are good to `MOMENT_ERROR`, those of `FEW_ELEMENTS` or
    less to float64.

    Attributes:
        size: Number of elements.
        mean: Their mean; NaN without a finite element, as all but the counts.
        std: Their standard deviation, of the population.
        norm: Their L2 norm.
        min: The smallest.
        max: The largest.
        nan: How many elements are NaN.
        inf: How many are infinite.
    """

    size: int
    mean: float
    std: float
    norm: float
    min: float
    max: float
    nan: int
    inf: int


def from_row(row: NDArray[np.float64]) -> Statistics | None:
    """Return the statistics in a row of a table, or None where the row holds none."""
    if math.isnan(row[0]):
        return None
    mean, std, norm, lowest, highest = (float(number) for number in row[1:6])
    return Statistics(int(row[0]), mean, std, norm, lowest, highest, int(row[6]), int(row[7]))


_SQUARED = 400
"""Up to which power of two the squares of some elements can be added up as they are."""


def statistics_of(values: NDArray[Any]) -> Statistics:
    """Return the statistics of a value.

    Example:
        >>> statistics_of(np.array([1.0, 3.0, np.nan])).mean
        2.0
    """
    flat = values.reshape(-1).astype(np.float64)
    finite = flat[np.isfinite(flat)]
    nan = int(np.count_nonzero(np.isnan(flat)))
    inf = int(flat.size - finite.size) - nan
    if not finite.size:
        unknown = math.nan
        return Statistics(flat.size, unknown, unknown, unknown, unknown, unknown, nan, inf)
    least, most = float(finite.min()), float(finite.max())
    # Squares of what is far from 1 are no numbers of float64.
    power = math.frexp(max(-least, most))[1]
    power = 0 if abs(power) < _SQUARED else power
    scaled = np.ldexp(finite, -power) if power else finite
    moments = scaled.mean(), scaled.std(), np.sqrt(np.sum(np.square(scaled)))
    with np.errstate(over="ignore"):
        mean, std, norm = (float(np.ldexp(number, power)) for number in moments)
    return Statistics(
        size=int(flat.size), mean=mean, std=std, norm=norm, min=least, max=most, nan=nan, inf=inf
    )
