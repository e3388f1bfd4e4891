"""Inputs whose values differ: transformed, in another precision, or other samples altogether."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import short
from tracediff.diagnose.roundings import rounded
from tracediff.diagnose.rows import batches
from tracediff.diagnose.transforms import Transformation, affine, grid, recover
from tracediff.drift import squeezed
from tracediff.model import Finding
from tracediff.onset import Place

Array = NDArray[np.float64]
_FEW = 0.5
"""Share of differing rows up to which the others count as the same samples."""


def data_values(case: Case) -> Iterable[Finding]:
    """Explain inputs that hold other values in the same places."""
    for place in case.firsts("input"):
        pair = case.read(place.track.pair.key, place.step)
        if pair is None:
            yield _few_digests(case, place) or _unknown(case, place)
            continue
        a, b = (squeezed(one).astype(np.float64) for one in pair)
        if a.shape != b.shape:
            yield _reshaped(case, place, pair[0].shape, pair[1].shape)
            continue
        yield (
            _precision(case, place, a, b)
            or _few_rows(case, place, a, b)
            or _coarse(place, a, b)
            or _transform(case, place, a, b)
            or _others(case, place, a, b)
        )


def _precision(case: Case, place: Place, a: Array, b: Array) -> Finding | None:
    if not _throughout(place, a, b):
        return None
    found = rounded(a, b)
    if found is None:
        return None
    side, name = found
    return _coarser(
        place,
        side,
        name,
        0.97,
        f"rounding every element of the other run to {name} gives {side} exactly "
        f"({a.size} elements at {case.where(place.step)})",
        f"largest difference {short(float(np.abs(a - b).max()))}",
    )


def _coarser(place: Place, side: str, what: str, confidence: float, *evidence: str) -> Finding:
    name = place.track.pair.name
    return Finding(
        code="data.dtype",
        summary=f"{name} holds the same samples, in {side} rounded to {what}.",
        confidence=confidence,
        stage="data",
        step=place.step,
        subject=name,
        a=what if side == "A" else "finer",
        b=what if side == "B" else "finer",
        evidence=evidence,
    )


def _throughout(place: Place, a: Array, b: Array) -> bool:
    """Say whether samples differ so widely that one precision can be behind all of it.

    One pixel that is off can be the only value of a batch that rounding to its grid moves.
    """
    if a.ndim == 0 or not len(a):
        return True
    rows = (a != b).reshape(len(a), -1).any(axis=1)
    steps = place.track.after["differs"]
    return bool(rows.mean() > _FEW or np.mean(steps) > _FEW)


def _coarse(place: Place, a: Array, b: Array) -> Finding | None:
    """Find samples that one run rounded to a grid of its own, as quantising does."""
    for fine, coarse, side in ((a, b, "B"), (b, a, "A")):
        spacing = grid(fine, coarse)
        if spacing is not None:
            return _coarser(
                place,
                side,
                f"multiples of {short(spacing)}",
                0.93,
                f"every element of {side} stands on a grid of {short(spacing)}, "
                f"{len(np.unique(coarse))} values against {len(np.unique(fine))}, and lies within "
                f"{short(float(np.abs(a - b).max()))} of the other run's",
            )
    return None


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


def _few_digests(case: Case, place: Place) -> Finding | None:
    """Find samples that differ where of their rows only the digests were kept."""
    name = place.track.pair.name
    found = batches(case, [place.track.pair.key], first=place.step)
    here = next((batch for batch in found if batch.step == place.step), None)
    if here is None or len(here.a) != len(here.b):
        return None
    rows = np.array([row for row, (a, b) in enumerate(zip(here.a, here.b, strict=True)) if a != b])
    if not rows.size or len(rows) > max(1, _FEW * len(here.a)):
        return None
    return Finding(
        code="data.content",
        summary=f"{_row_list(rows)} of {name} at {case.where(place.step)} "
        f"{'holds' if len(rows) == 1 else 'hold'} other values, by the digests of the rows.",
        confidence=0.95,
        stage="data",
        step=place.step,
        subject=name,
        evidence=(
            f"the other {len(here.a) - len(rows)} rows of the batch are equal",
            *_how_often(case, place),
            'the values were not kept: record inputs with level="full" to see them',
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
    found = recover(a, b)
    if found is None:
        return None
    name = place.track.pair.name
    later = _fit_at_other_step(case, place)
    return Finding(
        code="data.transform",
        summary=f"{name} holds the same samples, transformed: {found.words}.",
        confidence=0.95,
        stage="data",
        step=place.step,
        subject=name,
        a={"scale": 1.0, "offset": 0.0},
        b={"scale": found.scale, "offset": found.offset},
        evidence=(
            f"the fit leaves {short(found.residual)} of the norm, at {case.where(place.step)}",
            *([] if later is None else [later]),
            *_how_often(case, place),
        ),
        remedy=_undone(found),
    )


def _undone(found: Transformation) -> str | None:
    if found.kind != "affine" or not isinstance(found.scale, float) or found.scale == 0.0:
        return None
    assert isinstance(found.offset, float)
    if found.scale == 1.0 and found.offset == 0.0:
        return None
    return f"in B, before fit: x = (x - {found.offset:.6g}) / {found.scale:.6g}"


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
        fit = affine(a, b) if a.shape == b.shape else None
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
