"""Recover how samples were transformed: moved, scaled, by channel, position or sample, or mapped.

What is simpler is tried first, and what fits must reproduce every element; nothing is a
transformation that could as well be other samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
from numpy.typing import NDArray

from tracediff.diagnose.numbers import short

Array = NDArray[np.float64]
FITS = 1e-5
"""Relative residual up to which a transformation reproduces B from A."""
_SHIFTS = 8
"""Positions by which images are looked for to be moved."""
_ENOUGH = 20
"""Fewer elements than this say nothing about a function of single values."""


@dataclass(frozen=True, slots=True)
class Transformation:
    """How B is made from A.

    Attributes:
        words: In a sentence.
        kind: ``affine``, ``channel``, ``position``, ``sample``, ``border``, ``function``.
        scale: What elements are multiplied by: a number, or numbers.
        offset: What is added to them then, likewise.
        residual: Norm of what is left, over the norm of B.
    """

    words: str
    kind: str
    scale: float | list[float]
    offset: float | list[float]
    residual: float


def recover(a: Array, b: Array) -> Transformation | None:
    """Return how B's samples are made from A's, or None where nothing fits.

    Args:
        a: A batch of A, of shape (rows, ...).
        b: The same batch in B, of the same shape.
    """
    if a.shape != b.shape or a.size < 3:
        return None
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    for fits in _BY_SIMPLICITY:
        for what, moved in _moves(a):
            found = fits(moved, b)
            if found is not None:
                return _named(found, what)
    return None


def affine(a: Array, b: Array) -> tuple[float, float, float] | None:
    """Return scale, offset and relative residual of b = scale * a + offset if that fits."""
    x, y = a.reshape(-1), b.reshape(-1)
    if x.size < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    spread = x - x.mean()
    power = float(spread @ spread)
    total = float(np.sqrt(y @ y))
    if power == 0.0 or total == 0.0:
        return None
    scale = float(spread @ (y - y.mean())) / power
    offset = float(y.mean() - scale * x.mean())
    residual = float(np.linalg.norm(y - scale * x - offset)) / total
    # What a constant explains as well (all of B one value) is no transformation of A.
    if residual > FITS or abs(scale) * float(np.sqrt(power)) < 10 * FITS * total:
        return None
    return scale, offset, residual


def _named(found: Transformation, moved: str) -> Transformation:
    if not moved:
        return found
    words = " and ".join(part for part in (moved, found.words) if part)
    return Transformation(words, found.kind, found.scale, found.offset, found.residual)


def _whole(a: Array, b: Array) -> Transformation | None:
    fit = affine(a, b)
    if fit is None:
        return None
    scale, offset, residual = fit
    same = abs(scale - 1.0) < 1e-9 and abs(offset) < 1e-9
    words = "" if same else f"b = {short(scale)} * a {'+' if offset >= 0 else '-'} "
    return Transformation(
        words and f"{words}{short(abs(offset))}", "affine", scale, offset, residual
    )


def _by_channel(a: Array, b: Array) -> Transformation | None:
    """Fit every slice along the last axis on its own."""
    if a.ndim < 2 or a.shape[-1] < 2 or len(a) < 4:
        return None
    fit = _groups(a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1]))
    if fit is None:
        return None
    scales, offsets, residual = fit
    words = (
        "channel by channel b = scale * a + offset, scales "
        f"{', '.join(map(short, scales[:4]))}, offsets {', '.join(map(short, offsets[:4]))}"
    )
    return Transformation(words, "channel", scales.tolist(), offsets.tolist(), residual)


def _by_position(a: Array, b: Array) -> Transformation | None:
    """Fit every element of a sample on its own, over the rows of the batch."""
    if a.ndim < 3 or len(a) < 5:
        return None
    fit = _groups(a.reshape(len(a), -1), b.reshape(len(b), -1))
    if fit is None:
        return None
    scales, offsets, residual = fit
    words = (
        f"position by position b = scale * a + offset, scales from {short(scales.min())} to "
        f"{short(scales.max())}, offsets from {short(offsets.min())} to {short(offsets.max())}"
    )
    return Transformation(words, "position", _ends(scales), _ends(offsets), residual)


def _by_sample(a: Array, b: Array) -> Transformation | None:
    """Fit every sample on its own."""
    if a.ndim < 2 or a[0].size < 6:
        return None
    fit = _groups(a.reshape(len(a), -1).T, b.reshape(len(b), -1).T)
    if fit is None:
        return None
    scales, offsets, residual = fit
    words = (
        f"sample by sample b = scale * a + offset, scales from {short(scales.min())} to "
        f"{short(scales.max())}, offsets from {short(offsets.min())} to {short(offsets.max())}"
    )
    if np.ptp(scales) < 1e-4 * np.abs(scales).max() < np.ptp(offsets):
        words += " (as if samples were normalised before a random change in one run, after in B)"
    return Transformation(words, "sample", _ends(scales), _ends(offsets), residual)


def _ends(values: Array) -> list[float]:
    return [float(values.min()), float(values.max())]


def _groups(x: Array, y: Array) -> tuple[Array, Array, float] | None:
    """Fit scale and offset for each column, over the rows; None where that leaves something."""
    spread = x - x.mean(axis=0)
    power = (spread * spread).sum(axis=0)
    tiny = 1e-12 * (x * x).sum(axis=0)
    scales = np.divide(
        (spread * (y - y.mean(axis=0))).sum(axis=0),
        power,
        out=np.ones_like(power),
        where=power > tiny,
    )
    offsets = y.mean(axis=0) - scales * x.mean(axis=0)
    total = float(np.linalg.norm(y))
    residual = float(np.linalg.norm(y - scales * x - offsets)) / total if total else np.inf
    explained = float(np.linalg.norm(scales * spread))
    if residual > FITS or explained < 10 * FITS * total:
        return None
    return scales, offsets, residual


def _moves(a: Array) -> Iterable[tuple[str, Array]]:
    """Yield a batch in every order of axes, channels and positions that is looked for."""
    yield "", a
    colours = a.ndim >= 3 and a.shape[-1] in (3, 4)
    last = a.ndim - 1
    for axis in range(1, a.ndim):
        kind = f"reversed along axis {axis}"
        if axis == last and colours:
            kind = "channels reversed (RGB against BGR)"
        yield kind, np.flip(a, axis)
    if colours:
        straight = tuple(range(a.shape[-1]))
        for order in permutations(straight):
            if order not in (straight, straight[::-1]):
                yield f"channels in the order {list(order)}", a[..., list(order)]
    for axis in range(1, a.ndim):
        for other in range(axis + 1, a.ndim):
            if a.shape[axis] == a.shape[other]:
                swapped = np.swapaxes(a, axis, other)
                yield f"axes {axis} and {other} exchanged", swapped
                yield f"turned by a quarter, axes {axis} and {other}", np.flip(swapped, axis)
                yield f"turned by a quarter, axes {other} and {axis}", np.flip(swapped, other)
    if a.ndim >= 3:
        yield "turned by a half", np.flip(a, (1, 2))
        for axis in range(1, last if colours or a.ndim > 3 else a.ndim):
            for by in range(1, min(_SHIFTS, a.shape[axis] - 1) + 1):
                for signed in (by, -by):
                    yield f"rolled by {signed} along axis {axis}", np.roll(a, signed, axis)


def _border(a: Array, b: Array) -> Transformation | None:
    """Say whether all that differs is one value that became another one: padding."""
    apart = np.abs(a - b) > FITS * np.abs(b).max()
    if apart.sum() < 2 or apart.all() or a.ndim < 2:
        return None
    old, new = a[apart], b[apart]
    if np.ptp(old) > FITS * np.abs(a).max() or np.ptp(new) > FITS * np.abs(b).max():
        return None
    words = (
        f"{int(apart.sum())} of {a.size} elements are {short(old[0])} in A and {short(new[0])} "
        "in B, all others agree: as if samples were padded after they were normalised in one run, "
        "before in the other"
    )
    return Transformation(words, "border", 1.0, float(new[0] - old[0]), 0.0)


def _function(a: Array, b: Array) -> Transformation | None:
    """Say whether every element of B is one function of the element of A."""
    x, y = a.reshape(-1), b.reshape(-1)
    values, inverse = np.unique(x, return_inverse=True)
    if x.size < _ENOUGH or len(values) < 3 or len(np.unique(y)) < 3:
        return None
    order = np.lexsort((y, x))
    rises = np.diff(y[order])
    slack = FITS * float(np.ptp(y))
    if (rises >= -slack).all() or (np.diff(y[np.lexsort((-y, x))]) <= slack).all():
        pairs = ", ".join(
            f"{short(x[order[i]])} to {short(y[order[i]])}"
            for i in (0, len(order) // 2, len(order) - 1)
        )
        words = f"by one increasing or decreasing function of each element, which takes {pairs}"
        return Transformation(words, "function", np.nan, np.nan, 0.0)
    low, high = np.full(len(values), np.inf), np.full(len(values), -np.inf)
    np.minimum.at(low, inverse, y)
    np.maximum.at(high, inverse, y)
    if len(values) <= x.size // 2 and (low == high).all() and len(np.unique(low)) == len(values):
        changed = [(v, w) for v, w in zip(values, low, strict=True) if v != w][:3]
        words = "every value became another: " + ", ".join(
            f"{short(v)} became {short(w)}" for v, w in changed
        )
        return Transformation(words, "function", np.nan, np.nan, 0.0)
    return None


_BY_SIMPLICITY: tuple[Callable[[Array, Array], Transformation | None], ...] = (
    _whole,
    _by_channel,
    _border,
    _by_sample,
    _by_position,
    _function,
)


def grid(fine: Array, coarse: Array) -> float | None:
    """Return the spacing of a grid to which ``fine`` was rounded, or None.

    Args:
        fine: Values of any precision.
        coarse: The values that may be the same, rounded.

    Example:
        >>> grid(np.array([0.26, 0.51, 1.1, 0.9, 0.1]), np.array([0.25, 0.5, 1.0, 1.0, 0.0]))
        0.25
    """
    if not (np.isfinite(fine).all() and np.isfinite(coarse).all()):
        return None
    values = np.unique(coarse)
    if len(values) < 3 or 2 * len(values) > 1 + len(np.unique(fine)) + len(values) // 2:
        return None
    spacing = float(min(after - before for before, after in pairwise(values)))
    largest = float(np.abs(values).max())
    if spacing < 1e-6 * largest:
        return None
    # A better estimate, from the whole range.
    span = float(values[-1] - values[0])
    spacing = span / round(span / spacing)
    steps = (values - values[0]) / spacing
    if np.abs(steps - np.round(steps)).max() > 1e-3:
        return None
    near = float(np.abs(fine - coarse).max())
    return spacing if near <= spacing * (1.0 + 1e-4) else None
