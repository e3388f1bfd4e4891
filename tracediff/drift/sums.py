"""Sum up how far rows of numbers are apart, all measures in one pass over blocks that fit in cache.

A row is one value of a tensor. Many short rows are worked on side by side, a long one in parts;
either way numpy works on blocks of `BLOCK` elements, which stay in the cache of a core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import compiled, native, single
from tracediff.drift.products import dots_of_rows
from tracediff.drift.scratch import Scratch
from tracediff.drift.ulp import finite_distance, ulp_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]

BLOCK = 1 << 15
"""Elements worked on at a time: 256 KiB as float64, and half a dozen such arrays fit in cache."""
PIECE = 1 << 13
"""Elements that BLAS is given at a time: above 10000 it would start threads of its own."""
SHORT = 1 << 11
"""Rows of at most so many elements lie side by side, so that one call sums up many of them."""

SUMS = np.dtype(
    [
        ("square_a", np.float64),
        ("square_b", np.float64),
        ("square_difference", np.float64),
        ("dot", np.float64),
        ("max_abs", np.float64),
        ("peak", np.float64),
        ("max_ulp", np.uint64),
        ("different", np.int64),
        ("same_sign", np.int64),
        ("non_finite_a", np.int64),
        ("non_finite_b", np.int64),
        ("mismatched", np.int64),
    ]
)
"""What is summed up, or the largest of, over the elements of a row; `Drift` says what each is."""
_LARGEST = ("max_abs", "peak", "max_ulp")


def row_sums(
    a: NDArray[Any], b: NDArray[Any], *, unit: np.dtype[Any] | None, quick: bool = False
) -> NDArray[np.void]:
    """Return the sums of each row.

    Args:
        a: Numbers or booleans; shape (rows, elements), contiguous.
        b: The same shape; any dtype.
        unit: The float dtype in whose units in the last place distances are counted; None for no
            such distances.
        quick: Whether to sum up long rows of float32 as `tracediff.drift.single` does. The signs of
            such a row are not counted: ``same_sign`` is -1.

    Returns:
        One record of `SUMS` a row.
    """
    rows, elements = a.shape
    result = np.zeros(rows, SUMS)
    if quick and elements > SHORT and single.suits(a, b):
        passes = native.PASSES
        add = single.value_sums if passes is None else partial(compiled.value_sums, passes)
        # What overflows is noticed, and summed up in float64.
        with np.errstate(over="ignore", invalid="ignore"):
            done = [add(a[row], b[row], result[row, ...]) for row in range(rows)]
        for row in np.flatnonzero(np.logical_not(done)).tolist():
            here = slice(row, row + 1)
            result[here] = row_sums(a[here], b[here], unit=unit)
        return result
    for here, cut in cuts(rows, elements):
        found = block_sums(cut(a), cut(b), unit)
        result[here] = found if elements <= SHORT else total(np.stack([result[here][0], found]))
    return result


def cuts(rows: int, elements: int) -> Iterator[tuple[slice, Callable[[Values], Values]]]:
    """Yield of which rows a block is, and what cuts it out of an array of such rows.

    Of short rows a block has many, each as a column of shape (elements, rows); of a long row it is
    a part, of shape (elements,).
    """
    if elements <= SHORT:
        count = max(1, BLOCK // max(1, elements))
        for top in range(0, rows if elements else 0, count):
            here = slice(top, top + count)
            yield here, partial(_columns, here)
        return
    for row in range(rows):
        for left in range(0, elements, BLOCK):
            span = slice(left, left + BLOCK)
            yield slice(row, row + 1), partial(_part, row, span)


def _columns(here: slice, array: Values) -> Values:
    return np.ascontiguousarray(array[here].T)


def _part(row: int, span: slice, array: Values) -> Values:
    return np.ascontiguousarray(array[row, span])


_scratch = Scratch(BLOCK)


def total(parts: NDArray[np.void]) -> NDArray[np.void]:
    """Return the sums over all of several parts of a row; shape (1,)."""
    result = np.zeros(1, SUMS)
    for name in SUMS.names or ():
        result[name] = parts[name].max() if name in _LARGEST else parts[name].sum()
    return result


def dots(a: Values, b: Values) -> Any:
    """Return the inner product of two parts of a row, or of each column with its like."""
    if a.ndim > 1:
        return np.einsum("ij,ij->j", a, b)
    if a.size <= PIECE:
        return np.dot(a, b)
    whole = a.size // PIECE * PIECE
    pieces = dots_of_rows(a[:whole].reshape(-1, PIECE), b[:whole].reshape(-1, PIECE))
    return np.dot(a[whole:], b[whole:]) + pieces.sum()


def counted(flags: NDArray[np.bool_]) -> Any:
    """Return how many are True, of a part of a row or of each column."""
    return np.count_nonzero(flags) if flags.ndim == 1 else flags.sum(axis=0, dtype=np.int32)


def block_sums(a: Values, b: Values, unit: np.dtype[Any] | None) -> NDArray[np.void]:
    """Return the sums of a part of a row, or of each column."""
    # Overflow and NaN are results here, and are counted.
    with np.errstate(over="ignore", invalid="ignore"):
        return _measured(a, b, unit)


def _measured(a: Values, b: Values, unit: np.dtype[Any] | None) -> NDArray[np.void]:
    wide_a, wide_b = _scratch.wide("a", a), _scratch.wide("b", b)
    difference = np.subtract(wide_a, wide_b, out=_scratch.get("difference", a, np.float64))
    flags = _scratch.get("flags", a, np.bool_)
    result = np.zeros(a.shape[1:], SUMS)
    result["square_a"], result["square_b"] = dots(wide_a, wide_a), dots(wide_b, wide_b)
    finite = np.isfinite(result["square_a"] + result["square_b"])
    result["square_difference"] = dots(difference, difference)
    result["dot"] = dots(wide_a, wide_b)
    result["different"] = counted(np.not_equal(difference, 0.0, out=flags))
    np.abs(difference, out=difference)
    result["max_abs"] = difference.max(axis=0)
    ends = [_wide(x.max(axis=0)) for x in (a, b)]
    ends += [-_wide(x.min(axis=0)) for x in (a, b)]
    result["peak"] = np.maximum.reduce(ends)
    result["same_sign"] = _same_sign(a, b, flags)
    if unit is not None and result["different"].any():
        left, right = a.astype(unit, copy=False), b.astype(unit, copy=False)
        if finite.all():
            bits = _UNSIGNED[unit.itemsize]
            distance = finite_distance(left, right, out=_scratch.get("distance", a, bits))
        else:
            distance = ulp_distance(left, right)
            distance[distance == np.iinfo(np.uint64).max] = 0
        result["max_ulp"] = distance.max(axis=0)
    if not finite.all():
        if a.ndim == 1:
            result[()] = _not_finite(a, b, result)
        for row in np.flatnonzero(~finite) if a.ndim > 1 else ():
            result[row] = _not_finite(a[:, row], b[:, row], result[row])
    return result


_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def _wide(value: Any) -> Any:
    """Return the largest or smallest of numbers or booleans as float64."""
    return np.asarray(value, np.float64)


def _same_sign(a: Values, b: Values, flags: NDArray[np.bool_]) -> Any:
    """Count elements whose signs agree; zero agrees with zero only, and NaN with nothing."""
    other = _scratch.get("other", a, np.bool_)
    count: Any = 0
    for compare in (np.greater, np.less, np.equal):
        compare(a, 0, out=flags)
        compare(b, 0, out=other)
        count = count + counted(np.logical_and(flags, other, out=flags))
        if int(np.sum(count)) == a.size:
            break
    return count


def _not_finite(raw_a: Values, raw_b: Values, sums: NDArray[np.void]) -> NDArray[np.void]:
    """Work out the sums of a row with NaN, infinities, or squares that overflow."""
    result = np.array(sums)
    a, b = raw_a.astype(np.float64), raw_b.astype(np.float64)
    finite_a, finite_b = np.isfinite(a), np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    both = finite_a & finite_b
    mismatched = int(np.count_nonzero(~same & ~both))
    result["non_finite_a"] = a.size - np.count_nonzero(finite_a)
    result["non_finite_b"] = b.size - np.count_nonzero(finite_b)
    result["mismatched"] = mismatched
    result["square_a"] = dots(a[finite_a], a[finite_a])
    result["square_b"] = dots(b[finite_b], b[finite_b])
    known_a, known_b = a[both], b[both]
    difference = np.abs(known_a - known_b)
    result["dot"] = dots(known_a, known_b)
    result["square_difference"] = dots(difference, difference)
    result["max_abs"] = difference.max(initial=0.0)
    result["different"] = mismatched + np.count_nonzero(difference)
    ends = (np.abs(a[finite_a]).max(initial=0.0), np.abs(b[finite_b]).max(initial=0.0))
    result["peak"] = max(ends)
    return result
