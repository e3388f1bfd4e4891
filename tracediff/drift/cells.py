"""What is kept of a tensor's difference at one step: a record of a few numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracediff.drift.measure import ulp_unit
from tracediff.drift.sums import SHORT, row_sums
from tracediff.drift.ulp import finite_distance, ulp_distance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        ("at_least", np.bool_),  # known from statistics: lower bounds, the rest is NaN
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
    sums = row_sums(a, b, unit=unit, quick=True)
    return value_cells(sampled(a), sampled(b), sums, size=a.shape[1], other_bits=other_bits)


def value_cells(
    a: NDArray[Any], b: NDArray[Any], sums: NDArray[np.void], *, size: int, other_bits: Any
) -> Series:
    """Return the cells of rows of values.

    Args:
        a: What `sampled` gives of A's rows.
        b: What it gives of B's.
        sums: A record of `SUMS` a row.
        size: How many elements a row has.
        other_bits: As for `measured_cells`.
    """
    cells = from_sums(sums, size=size)
    cells["differs"] = (cells["different"] > 0) | other_bits
    _sampled(a, b, cells, ulp_unit(a.dtype, b.dtype))
    return cells


def sampled(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the elements of each row that quantiles are taken of: all, or a sample."""
    if rows.shape[1] <= SAMPLE:
        return rows
    return np.take(rows, sample_places(rows.shape[1]), axis=1)


def moved_cells(state: Sequence[NDArray[Any]], sums: NDArray[np.void], *, size: int) -> Series:
    """Return the cells of updates: what `from_sums` makes of them, and what a sample tells.

    Args:
        state: What `sampled` gives of the weight before and after the steps in A, before and after
            in B.
        sums: The sums of its updates, a record of `SUMS` a row.
        size: How many elements the weight has.
    """
    cells = from_sums(sums, size=size)
    cells["peak"] = np.nan  # Nothing asks how large the updates themselves are.
    with np.errstate(over="ignore", invalid="ignore"):
        unit = ulp_unit(state[0].dtype, state[2].dtype)
        if unit is None:
            state = [values.astype(np.float64) for values in state]
        one, other = state[1] - state[0], state[3] - state[2]
        if unit is not None:
            one, other = one.astype(unit, copy=False), other.astype(unit, copy=False)
    _sampled(one, other, cells, unit, alone=size > SHORT)
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
    counted = sums["same_sign"] >= 0
    cells["sign_agreement"] = np.where(counted, sums["same_sign"] / max(1, size), np.nan)
    cells["sign_agreement"][cells["size"] == 0] = np.nan
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


def _sampled(
    a: NDArray[Any],
    b: NDArray[Any],
    cells: Series,
    unit: np.dtype[Any] | None,
    *,
    alone: bool = False,
) -> None:
    """Fill in what a sample of the elements tells: quantiles, and signs that were not counted.

    Args:
        a: Values of A, all or a sample; shape (rows, elements).
        b: Values of B.
        cells: What to fill in.
        unit: The float dtype in whose units in the last place distances are; None for none.
        alone: Whether the largest of these distances is that of the sample, too.
    """
    if not a.size:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        uncounted = np.isnan(cells["sign_agreement"])
        if uncounted.any():
            same = np.count_nonzero(np.sign(a) == np.sign(b), axis=1)
            cells["sign_agreement"][uncounted] = same[uncounted] / a.shape[1]
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
            apart = finite_distance(left, right)
            if alone:
                cells["max_ulp"] = apart.max(axis=1)
            apart = apart.astype(np.float32)
        else:
            apart = ulp_distance(a, b).astype(np.float32)
            apart[np.isnan(a) | np.isnan(b)] = np.nan
            if alone:
                cells["max_ulp"] = np.nan_to_num(np.nanmax(apart, axis=1, initial=0.0))
        cells["ulp_quantiles"] = _at_quantiles(apart)


def _at_quantiles(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the `QUANTILES` of each row: the smallest element with so many at or below it."""
    ordered = np.sort(values, axis=1)
    # NaN comes last.
    if not np.isnan(ordered[:, -1]).any():
        size = values.shape[1]
        return ordered[:, [max(0, math.ceil(share * size) - 1) for share in QUANTILES]]
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
