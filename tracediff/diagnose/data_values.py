"""Inputs whose values differ: transformed, in another precision, or other samples altogether."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import short
from tracediff.drift import squeezed
from tracediff.model import Finding
from tracediff.onset import Place

Array = NDArray[np.float64]
_FITS = 1e-5
"""Relative residual up to which a transformation reproduces B from A."""
_FEW = 0.5
"""Share of differing rows up to which the others count as the same samples."""


def data_values(case: Case) -> Iterable[Finding]:
    """Explain inputs that hold other values in the same places."""
    for place in case.firsts("input"):
        pair = case.read(place.track.pair.key, place.step)
        if pair is None:
            yield _unknown(case, place)
            continue
        a, b = (squeezed(one).astype(np.float64) for one in pair)
        if a.shape != b.shape:
            yield _reshaped(case, place, pair[0].shape, pair[1].shape)
            continue
        yield (
            _precision(case, place, a, b)
            or _few_rows(case, place, a, b)
            or _transform(case, place, a, b)
            or _others(case, place, a, b)
        )


def _precision(case: Case, place: Place, a: Array, b: Array) -> Finding | None:
    for coarse, fine, side in ((b, a, "B"), (a, b, "A")):
        for name, rounded in _ROUNDINGS.items():
            same = rounded(fine)
            if np.array_equal(same, coarse) and not np.array_equal(fine, coarse):
                return Finding(
                    code="data.dtype",
                    summary=f"{place.track.pair.name} holds the same samples, in {side} rounded to "
                    f"{name}.",
                    confidence=0.97,
                    stage="data",
                    step=place.step,
                    subject=place.track.pair.name,
                    a=name if side == "A" else "finer",
                    b=name if side == "B" else "finer",
                    evidence=(
                        (
                            f"rounding every element of the other run to {name} gives {side} "
                            f"exactly ({a.size} elements at {case.where(place.step)})"
                        ),
                        f"largest difference {short(float(np.abs(a - b).max()))}",
                    ),
                )
    return None


def _to_bfloat16(values: Array) -> Array:
    bits = values.astype(np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def _to_float16(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "whole numbers": lambda values: np.asarray(np.trunc(values)),
    "float16": _to_float16,
    "bfloat16": _to_bfloat16,
    "255ths (8 bits)": lambda values: (
        (np.round(values * 255.0) / 255.0).astype(np.float32).astype(np.float64)
    ),
}


def _few_rows(case: Case, place: Place, a: Array, b: Array) -> Finding | None:
    if a.ndim == 0 or not len(a):
        return None
    unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
    rows = np.flatnonzero(unequal.reshape(len(a), -1).any(axis=1))
    if len(rows) > max(1, _FEW * len(a)):
        return None
    index = tuple(int(i) for i in np.argwhere(unequal)[0])
    elements = int(unequal.sum())
    what = "1 element" if elements == 1 else f"{elements} elements"
    return Finding(
        code="data.content",
        summary=f"{_row_list(rows)} of {place.track.pair.name} at {case.where(place.step)} "
        f"{'holds' if len(rows) == 1 else 'hold'} other values: {what} of {a.size}.",
        confidence=0.95,
        stage="data",
        step=place.step,
        subject=place.track.pair.name,
        a=float(a[index]),
        b=float(b[index]),
        evidence=(
            f"the other {len(a) - len(rows)} rows of the batch are equal",
            (
                f"first differing element {list(index)}: {short(float(a[index]))} in A, "
                f"{short(float(b[index]))} in B"
            ),
            *_how_often(case, place),
        ),
    )


def _row_list(rows: NDArray[np.intp]) -> str:
    shown = ", ".join(map(str, rows[:5].tolist()))
    return f"Row {shown}" if len(rows) == 1 else f"Rows {shown}{' ...' if len(rows) > 5 else ''}"


def _how_often(case: Case, place: Place) -> list[str]:
    cells = place.track.after
    differing = int(np.count_nonzero(cells["differs"]))
    return [f"{place.track.pair.name} differs at {differing} of {case.steps} steps"]


def _transform(case: Case, place: Place, a: Array, b: Array) -> Finding | None:
    for what, moved in _moves(a):
        fit = _affine(moved, b)
        if fit is not None:
            scale, offset, residual = fit
            identity = abs(scale - 1.0) < 1e-9 and abs(offset) < 1e-9
            parts = [what] if what else []
            if not identity:
                parts.append(
                    f"b = {short(scale)} * a {'+' if offset >= 0 else '-'} {short(abs(offset))}"
                )
            return _transformed(case, place, " and ".join(parts), residual, scale, offset)
    channels = _per_channel(a, b)
    if channels is not None:
        scales, offsets, residual = channels
        text = (
            f"channel by channel b = scale * a + offset, scales "
            f"{', '.join(map(short, scales[:4]))}, offsets {', '.join(map(short, offsets[:4]))}"
        )
        return _transformed(
            case, place, text, residual, [float(s) for s in scales], [float(o) for o in offsets]
        )
    return None


def _transformed(
    case: Case, place: Place, how: str, residual: float, scale: object, offset: object
) -> Finding:
    constant = [f"the fit leaves {short(residual)} of the norm, at {case.where(place.step)}"]
    later = _fit_at_other_step(case, place)
    if later is not None:
        constant.append(later)
    return Finding(
        code="data.transform",
        summary=f"{place.track.pair.name} holds the same samples, transformed: {how}.",
        confidence=0.95,
        stage="data",
        step=place.step,
        subject=place.track.pair.name,
        a={"scale": 1.0, "offset": 0.0},
        b={"scale": scale, "offset": offset},
        evidence=(*constant, *_how_often(case, place)),
    )


def _fit_at_other_step(case: Case, place: Place) -> str | None:
    """Say whether another batch is transformed by the same numbers."""
    steps = np.flatnonzero(place.track.after["differs"])
    if len(steps) < 2:
        return None
    fits = []
    for step in map(int, steps[:2]):
        pair = case.read(place.track.pair.key, step)
        if pair is None:
            return None
        a, b = (squeezed(one).astype(np.float64) for one in pair)
        fit = _affine(a, b) if a.shape == b.shape else None
        if fit is None:
            return None
        fits.append(fit)
    (scale, offset, _), (other_scale, other_offset, _) = fits
    if np.isclose(scale, other_scale, rtol=1e-4) and np.isclose(offset, other_offset, atol=1e-4):
        return "another batch is transformed by the same numbers"
    return (
        f"another batch is transformed by other numbers (b = {short(other_scale)} * a + "
        f"{short(other_offset)}): the transformation depends on the batch"
    )


def _moves(a: Array) -> Iterable[tuple[str, Array]]:
    yield "", a
    for axis in range(1, a.ndim):
        kind = f"reversed along axis {axis}"
        if axis == a.ndim - 1 and a.ndim >= 3 and a.shape[axis] in (3, 4):
            kind = "channels reversed (RGB against BGR)"
        yield kind, np.flip(a, axis)
    for axis in range(1, a.ndim):
        for other in range(axis + 1, a.ndim):
            if a.shape[axis] == a.shape[other]:
                yield f"axes {axis} and {other} exchanged", np.swapaxes(a, axis, other)


def _affine(a: Array, b: Array) -> tuple[float, float, float] | None:
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
    if residual > _FITS or abs(scale) * float(np.sqrt(power)) < 10 * _FITS * total:
        return None
    return scale, offset, residual


def _per_channel(a: Array, b: Array) -> tuple[Array, Array, float] | None:
    if a.ndim < 2 or a.shape[-1] < 2 or len(a) < 4:
        return None
    x, y = a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    spread = x - x.mean(axis=0)
    power = (spread * spread).sum(axis=0)
    scales = np.divide(
        (spread * (y - y.mean(axis=0))).sum(axis=0), power, out=np.ones_like(power), where=power > 0
    )
    offsets = y.mean(axis=0) - scales * x.mean(axis=0)
    total = float(np.linalg.norm(y))
    residual = float(np.linalg.norm(y - scales * x - offsets)) / total if total else np.inf
    return (scales, offsets, residual) if residual <= _FITS else None


def _others(case: Case, place: Place, a: Array, b: Array) -> Finding:
    share = float(np.mean(a != b))
    return Finding(
        code="data.content",
        summary=f"{place.track.pair.name} holds other samples in B from {case.where(place.step)} "
        f"on: no row of A is found again.",
        confidence=0.7,
        stage="data",
        step=place.step,
        subject=place.track.pair.name,
        evidence=(
            f"{share:.0%} of the elements differ; no scale, offset, flip or channel order fits",
            (
                f"mean {short(float(np.nanmean(a)))} and standard deviation "
                f"{short(float(np.nanstd(a)))} in A, "
                f"{short(float(np.nanmean(b)))} and {short(float(np.nanstd(b)))} in B"
            ),
            *_how_often(case, place),
        ),
    )


def _reshaped(
    case: Case, place: Place, shape_a: tuple[int, ...], shape_b: tuple[int, ...]
) -> Finding:
    return Finding(
        code="data.content",
        summary=f"{place.track.pair.name} has the shape {shape_a} in A and {shape_b} in B at "
        f"{case.where(place.step)}.",
        confidence=0.9,
        stage="data",
        step=place.step,
        subject=place.track.pair.name,
        a=list(shape_a),
        b=list(shape_b),
    )


def _unknown(case: Case, place: Place) -> Finding:
    return Finding(
        code="unexplained",
        summary=f"{place.track.pair.name} differs from {case.where(place.step)} on, but its values "
        "were not kept.",
        confidence=0.5,
        stage="data",
        step=place.step,
        subject=place.track.pair.name,
        evidence=('record both runs with level="full" to see which samples differ, and how',),
    )
