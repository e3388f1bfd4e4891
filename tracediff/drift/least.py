"""How far apart two values are at least, as far as their statistics tell.

Where only digests were kept, statistics are all that is known of a value besides. No difference can
be told from them to be small; that it is large can.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift.cells import Series, unknown_cells
from tracediff.trace import FEW_ELEMENTS, MOMENT_ERROR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

_EXACT = 1e-12
"""Relative error of moments that were added up in float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What statistics tell of some values of one tensor; NaN for what they do not.

    Attributes:
        size: Number of elements of each; float64 (values,), as all others.
        mean: Their means.
        std: Their standard deviations.
        norm: Their L2 norms.
        least: Their smallest elements.
        most: Their largest elements.
        nan: How many elements are NaN.
        inf: How many are infinite.
        scale: What the L2 norm is at most; the norm, but for rows that are still to be added up.
        error: Relative error of mean, deviation and norm.
    """

    size: Numbers
    mean: Numbers
    std: Numbers
    norm: Numbers
    least: Numbers
    most: Numbers
    nan: Numbers
    inf: Numbers
    scale: Numbers
    error: Numbers

    def but(self, other: Moments, *, where: NDArray[np.bool_]) -> Moments:
        """Return these moments, and ``other`` ones ``where`` it says."""
        return Moments(
            *(
                np.where(where, getattr(other, one.name), getattr(self, one.name))
                for one in fields(self)
            )
        )


def moments(rows: Numbers, *, error: float = MOMENT_ERROR) -> Moments:
    """Return the moments of values whose statistics are known.

    Args:
        rows: Statistics in the order of the trace format; (values, 8).
        error: Relative error of the moments of long values.
    """
    size, mean, std, norm, least, most, nan, inf = rows.T
    off = np.where(size <= FEW_ELEMENTS, _EXACT, max(_EXACT, error))
    return Moments(size, mean, std, norm, least, most, nan, inf, norm, off)


def sparse_moments(rows: Numbers, *, shape: tuple[int, ...]) -> Moments:
    """Return the moments of dense tensors of which some rows were recorded, repeated ones apart.

    Adding repeated rows up leaves the sum of all elements as it is, and makes the norm at most the
    root of the number of rows times as large.

    Args:
        rows: Statistics of the rows, as for `moments`.
        shape: Of the dense tensor.
    """
    found = moments(rows)
    size = np.full(len(rows), float(np.prod(shape, dtype=np.int64)))
    count = found.size / max(1, int(np.prod(shape[1:], dtype=np.int64)))
    unknown = np.full(len(rows), np.nan)
    return Moments(
        size=size,
        mean=found.mean * found.size / np.maximum(size, 1.0),
        std=unknown,
        norm=unknown,
        least=unknown,
        most=unknown,
        nan=found.nan,
        inf=found.inf,
        scale=found.norm * np.sqrt(np.maximum(count, 1.0)),
        error=found.error,
    )


def least_distance(a: Moments, b: Moments) -> tuple[Numbers, Numbers]:
    """Return what the L2 norm of the difference, and the largest element of it, are at least.

    By the Cauchy-Schwarz inequality, sqrt(n) times the difference of the means is no larger than
    ||a - b||; by the triangle inequality neither are the difference of the norms nor, of what is
    left when the mean is taken away, sqrt(n) times that of the deviations. The mean and what is
    left are at right angles. The largest elements cannot be further apart than some two elements
    are, nor can the smallest. What the moments may be off by is taken off.

    Args:
        a: Values of A, all finite.
        b: Values of B, of the same sizes.

    Returns:
        Both, for each pair; 0 where the moments tell nothing. float64 (values,).
    """
    root = np.sqrt(np.maximum(a.size, 1.0))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        off = a.error * a.scale + b.error * b.scale
        centre = _beyond(root * (a.mean - b.mean), off)
        spread = _beyond(root * (a.std - b.std), _deviation_error(a) + _deviation_error(b))
        apart = np.maximum(np.hypot(centre, spread), _beyond(a.norm - b.norm, off))
        element = np.fmax(np.abs(a.most - b.most), np.abs(a.least - b.least))
        element = np.nan_to_num(element, nan=0.0)
        # No norm is larger than the root of the size times the largest element.
        return np.maximum(apart, element), np.maximum(element, apart / root)


def least_cells(a: Moments, b: Moments) -> Series:
    """Return the cells of values that differ in bits, by their statistics.

    Norms, relative L2 and the largest difference are lower bounds, and ``at_least`` says so. The
    difference is unknown where statistics are, and where some elements are not finite in both: they
    may be others.
    """
    cells = unknown_cells(len(a.size))
    there = ~np.isnan(a.size) & ~np.isnan(b.size)
    cells["reshaped"] = there & (a.size != b.size)
    broken = (a.nan != b.nan) | (a.inf != b.inf)
    finite = (a.nan + a.inf + b.nan + b.inf) == 0
    all_nan = (a.nan == a.size) & (b.nan == b.size)
    usable = there & ~cells["reshaped"] & (broken | finite | all_nan)
    apart, element = least_distance(a, b)
    measured = usable & finite
    cells["known"] = cells["at_least"] = usable
    for name, values in (("a", a), ("b", b)):
        cells[f"norm_{name}"] = np.where(measured, values.scale, cells[f"norm_{name}"])
        cells[f"non_finite_{name}"] = np.where(usable, values.nan + values.inf, 0)
    cells["size"] = np.where(usable, a.size, 0)
    cells["mismatched"] = np.where(
        usable & broken, np.abs(a.nan - b.nan) + np.abs(a.inf - b.inf), 0
    )
    cells["norm_difference"] = np.where(measured, apart, cells["norm_difference"])
    cells["max_abs"] = np.where(measured, element, cells["max_abs"])
    larger = np.maximum(a.scale * (1.0 + a.error), b.scale * (1.0 + b.error))
    relative = np.divide(apart, larger, out=np.zeros(len(apart)), where=apart > 0.0)
    cells["relative_l2"] = np.where(measured, relative, cells["relative_l2"])
    peak = np.fmax(_peak(a), _peak(b))
    cells["peak"] = np.where(measured, np.where(np.isnan(peak), larger, peak), cells["peak"])
    for name in ("norm_a", "norm_b", "norm_difference", "max_abs", "relative_l2", "peak"):
        cells[name][usable & all_nan] = 0.0
    return cells


def _peak(one: Moments) -> Numbers:
    return np.asarray(np.fmax(np.abs(one.least), np.abs(one.most)))


def _beyond(difference: Numbers, error: Numbers) -> Numbers:
    """Return how large a difference is at least; 0 where it is not known."""
    return np.maximum(np.nan_to_num(np.abs(difference) - error, nan=0.0), 0.0)


def _deviation_error(one: Moments) -> Numbers:
    """Return by how much sqrt(n) times the deviation is off.

    It is the root of a difference of two squares, each off by twice the relative error: where the
    mean is far larger than the deviation, little of that is left.
    """
    spread = np.sqrt(np.maximum(one.size, 1.0)) * one.std
    share = np.divide(one.scale, spread, out=np.full(len(spread), np.inf), where=spread > 0.0)
    return np.asarray(one.scale * np.minimum(2.0 * one.error * share, np.sqrt(4.0 * one.error)))
