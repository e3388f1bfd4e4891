"""What is kept of a tensor's difference at one step: a record of a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracediff.drift.measure import ulp_unit
from tracediff.drift.sums import row_sums
from tracediff.drift.ulp import finite_distance, ulp_distance

if TYPE_CHECKING:
    from collections.abc import Mapping

Series: TypeAlias = NDArray[np.void]
"""One record of `CELL` (or `UPDATE`) a step."""

QUANTILES = (0.5, 0.9, 0.99)
"""The quantiles that are kept, over elements; the largest is kept besides."""
SAMPLE = 4096
"""Elements that quantiles are taken of: all, or so many drawn without replacement.

The rank of a quantile q is then off by sqrt(q (1 - q) / 4096), 0.8 % at the median.
"""

CELL = np.dtype(
    [
        ("present", np.bool_),  # both runs have the tensor at this step
        ("differs", np.bool_),  # its bits differ (its values, where dtypes or layouts differ)
        ("known", np.bool_),  # how far apart is known: equal, or both values were kept
        ("estimated", np.bool_),  # known from sketches: norms are estimates, the rest is NaN
        ("reshaped", np.bool_),  # the shapes differ at this step
        ("relative_l2", np.float64),
        ("max_abs", np.float64),
        ("peak", np.float64),
        ("max_ulp", np.uint64),
        ("cosine", np.float64),
        ("sign_agreement", np.float64),
        ("norm_a", np.float64),
        ("norm_b", np.float64),
        ("norm_difference", np.float64),
        ("different", np.int64),
        ("size", np.int64),
        ("non_finite_a", np.int64),
        ("non_finite_b", np.int64),
        ("mismatched", np.int64),
        ("ulp_quantiles", np.float32, (len(QUANTILES),)),
        ("abs_quantiles", np.float32, (len(QUANTILES),)),
    ]
)
"""A tensor at a step; what each number means stands with `Drift`."""


def equal_cells(present: NDArray[np.bool_]) -> Series:
    """Return the cells of a tensor that agrees wherever it is present."""
    cells = np.zeros(len(present), CELL)
    cells["present"] = cells["known"] = present
    cells["cosine"] = cells["sign_agreement"] = np.nan
    return cells


def unknown_cells(count: int, *, reshaped: bool = False) -> Series:
    """Return cells that differ by nobody knows how much."""
    cells = np.zeros(count, CELL)
    cells["present"] = cells["differs"] = True
    cells["reshaped"] = reshaped
    for name in ("relative_l2", "max_abs", "peak", "cosine", "sign_agreement"):
        cells[name] = np.nan
    for name in ("norm_a", "norm_b", "norm_difference", "ulp_quantiles", "abs_quantiles"):
        cells[name] = np.nan
    return cells


def measured_cells(a: NDArray[Any], b: NDArray[Any], *, other_bits: Any) -> Series:
    """Measure rows of values.

    Args:
        a: Values of A; shape (rows, elements).
        b: Values of B, of the same shape.
        other_bits: For each row, whether other bits in it are a difference, be they of equal value.
    """
    unit = ulp_unit(a.dtype, b.dtype)
    cells = from_sums(row_sums(a, b, unit=unit), size=a.shape[1])
    cells["differs"] = (cells["different"] > 0) | other_bits
    _quantiles(a, b, cells, unit)
    return cells


def from_sums(sums: NDArray[np.void], *, size: int) -> Series:
    """Return cells with all but quantiles; ``differs`` where elements differ in value."""
    cells = np.zeros(len(sums), CELL)
    cells["present"] = cells["known"] = True
    cells["differs"] = sums["different"] > 0
    cells["size"] = size
    for name in _COPIED:
        cells[name] = sums[name]
    for name, square in _NORMS.items():
        cells[name] = np.sqrt(sums[square])
    larger = np.maximum(cells["norm_a"], cells["norm_b"])
    apart = cells["norm_difference"]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(apart == 0.0, 0.0, apart / larger)
        cells["relative_l2"] = np.where(sums["mismatched"] > 0, np.nan, relative)
        product = cells["norm_a"] * cells["norm_b"]
        cosine = np.clip(sums["dot"] / product, -1.0, 1.0)
        cells["cosine"] = np.where(product > 0.0, cosine, np.nan)
    cells["sign_agreement"] = sums["same_sign"] / size if size else np.nan
    return cells


_COPIED = (
    "max_abs",
    "peak",
    "max_ulp",
    "different",
    "non_finite_a",
    "non_finite_b",
    "mismatched",
)
_NORMS: Mapping[str, str] = {
    "norm_a": "square_a",
    "norm_b": "square_b",
    "norm_difference": "square_difference",
}


def _quantiles(a: NDArray[Any], b: NDArray[Any], cells: Series, unit: np.dtype[Any] | None) -> None:
    """Fill in the quantiles of absolute differences and of distances in ulp."""
    if not a.size:
        return
    if a.shape[1] > SAMPLE:
        places = sample_places(a.shape[1])
        a, b = a[:, places], b[:, places]
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
        # What is not finite is counted apart and has no place among the quantiles.
        known = np.isfinite(difference)
        if not known.all():
            difference[~known] = np.nan
        cells["abs_quantiles"] = _at_quantiles(difference.astype(np.float32))
        if unit is None:
            return
        if known.all():
            left, right = (np.ascontiguousarray(x, unit) for x in (a, b))
            apart = finite_distance(left, right).astype(np.float32)
        else:
            apart = ulp_distance(a, b).astype(np.float32)
            apart[np.isnan(a) | np.isnan(b)] = np.nan
        cells["ulp_quantiles"] = _at_quantiles(apart)


def _at_quantiles(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the `QUANTILES` of each row: the smallest element with so many at or below it."""
    ordered = np.sort(values, axis=1)
    count = values.shape[1] - np.count_nonzero(np.isnan(values), axis=1)
    result = np.full((len(values), len(QUANTILES)), np.nan, np.float32)
    for number, share in enumerate(QUANTILES):
        place = np.maximum(np.ceil(share * count).astype(np.int64) - 1, 0)
        result[:, number] = np.take_along_axis(ordered, place[:, None], axis=1)[:, 0]
    return result


_places: dict[int, NDArray[np.int64]] = {}


def sample_places(size: int) -> NDArray[np.int64]:
    """Return which elements of a long value are sampled: the same for every value of one size."""
    found = _places.get(size)
    if found is None:
        drawn = np.random.default_rng(size).choice(size, SAMPLE, replace=False, shuffle=False)
        found = _places[size] = np.sort(drawn)
    return found
