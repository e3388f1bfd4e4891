"""How whole layers drift: their tensors taken together, by role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tracediff.compare._figures import first_bits, summarised
from tracediff.drift import MOMENTS, Series, Source, Track, growth, together, unmeasured
from tracediff.model import LayerPart, LayerRow
from tracediff.names import split_slot
from tracediff.onset import Judged, Onset
from tracediff.trace import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROLES = ("activation", "gradient", "applied_gradient", "slot", "update", "weight")
"""The roles of a layer's parts, in the order in which a step computes them."""
_READ_BYTES = 16 << 20


def layer_rows(onset: Onset, a: Run, b: Run) -> tuple[LayerRow, ...]:
    """Return a row for every layer of which something was compared, in execution order.

    Args:
        onset: All tracks, judged.
        a: The first run: norms of tensors that agree where others of their layer do not.
        b: The second run, as seen from A.

    Raises:
        DamagedTrace: A value cannot be read or does not match its digest.
    """
    owners = {
        one.track.pair.name: one.track.pair.layer
        for (role, _), one in onset.judged.items()
        if role == "weight"
    }
    found: dict[str, list[Judged]] = {}
    for (role, name), one in onset.judged.items():
        layer = one.track.pair.layer
        if layer is None and role != "weight":
            layer = owners.get(split_slot(name)[0] if role == "slot" else name)
        if layer is not None and role in _ROLES:
            found.setdefault(layer, []).append(one)
    rows = [_row(onset, layer, members, a, b) for layer, members in found.items()]
    return tuple(sorted(rows, key=lambda row: row.order))


def _row(onset: Onset, layer: str, members: Sequence[Judged], a: Run, b: Run) -> LayerRow:
    pairs = [one.track.pair for one in members]
    bits = [first_bits(one.track)[0] for one in members]
    places = [onset.firsts[pair.key].step for pair in pairs if pair.key in onset.firsts]
    origins = tuple(sorted(pair.key for pair in pairs if pair.key in onset.origins))
    return LayerRow(
        layer=layer,
        order=min(pair.order for pair in pairs),
        first_step=_earliest(bits),
        first_significant_step=_earliest(places),
        origin=bool(origins) if places else None,
        origins=origins,
        parts=tuple(_parts([one.track for one in members], a, b)),
    )


def _earliest(steps: Sequence[int | None]) -> int | None:
    return min((step for step in steps if step is not None), default=None)


def _parts(tracks: Sequence[Track], a: Run, b: Run) -> Iterator[LayerPart]:
    for role in _ROLES:
        kept = "weight" if role == "update" else role
        groups: dict[str | None, list[Track]] = {}
        for track in tracks:
            if track.pair.role == kept and (role != "update" or track.moves is not None):
                slot = split_slot(track.pair.name)[1] if role == "slot" else None
                groups.setdefault(slot, []).append(track)
        for slot, members in sorted(groups.items(), key=lambda item: item[0] or ""):
            yield _part(role, slot, members, a, b)


def _part(role: str, slot: str | None, tracks: Sequence[Track], a: Run, b: Run) -> LayerPart:
    drift = _combined(role, tracks, a, b)
    cells = [_cells(role, track) for track in tracks]
    present = np.any([one["present"] for one in cells], axis=0)
    apart = np.any([one["present"] & one["differs"] for one in cells], axis=0)
    steps = np.flatnonzero(present)
    series = drift[steps]
    # What the state before the first step has agreed in came in with that step.
    begun = any(track.before is not None and track.before["differs"][0] for track in tracks)
    whole = role in ("weight", "slot") and not begun
    course = growth(np.r_[0.0, drift]).moved(-1) if whole else growth(drift)
    if role == "update":
        bits = [int(np.argmax(apart))] if apart.any() else []
    else:
        found = (first_bits(track)[0] for track in tracks)
        bits = [step for step in found if step is not None]
    return LayerPart(
        role=role,
        slot=slot,
        tensors=len(tracks),
        first_step=_earliest(bits),
        relative_l2=summarised(series, apart=apart[steps]),
        growth=course.shape,
        jump_step=course.jump,
        growth_fit=course.fit,
        unknown_steps=int(np.count_nonzero(np.isnan(series))),
        steps=steps.astype(np.int64),
        series=series,
        at_least=any(bool(one["at_least"].any()) for one in cells),
    )


def _cells(role: str, track: Track) -> Series:
    if role != "update":
        return track.after
    assert track.moves is not None  # or the track is of no update
    return track.moves


def _combined(role: str, tracks: Sequence[Track], a: Run, b: Run) -> NDArray[np.float64]:
    cells = [_cells(role, track) for track in tracks]
    norms = [
        _norms(track, role, np.flatnonzero(wanted), a, b)
        for track, wanted in zip(tracks, unmeasured(cells), strict=True)
    ]
    return together(cells, norms)


def _norms(
    track: Track, role: str, steps: NDArray[np.int64], a: Run, b: Run
) -> NDArray[np.float64]:
    """Return the norm of a tensor at ``steps``, at which both runs agree in it; NaN elsewhere."""
    result = np.full(len(track.after), np.nan)
    run, name = (a, track.pair.a) if track.pair.a is not None else (b, track.pair.b)
    tensor = None if name is None else run.find(track.pair.role, name)
    if tensor is None or not len(steps):
        return result
    source = Source(run, tensor, np.arange(len(result)))
    points = 2 * steps + 1
    readable = source.versions[points] >= 0
    if role == "update":
        readable &= source.versions[points - 1] >= 0
    # Values that agree often stay what they are: of equal ones the first is read.
    seen = source.digests[points]
    if role == "update":
        seen = np.concatenate([seen, source.digests[points - 1]], axis=1)
    _, first, which = np.unique(seen[readable], axis=0, return_index=True, return_inverse=True)
    wanted = points[readable][first]
    found = np.zeros(len(wanted))
    size = max(1, _READ_BYTES // max(1, source.nbytes))
    for start in range(0, len(wanted), size):
        here = wanted[start : start + size]
        after = _flat(source, here)
        if role == "update":
            before = _flat(source, here - 1)
            after = [one - other for one, other in zip(after, before, strict=True)]
        found[start : start + size] = [_norm(one) for one in after]
    result[steps[readable]] = found[which.reshape(-1)]
    if role != "update":
        for step in steps[~readable].tolist():
            known = run.statistics(tensor, step, MOMENTS[1 if track.state else 0])
            result[step] = np.nan if known is None else known.norm
    return result


def _flat(source: Source, points: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return the values at some points, each as float64 in one dimension."""
    return [one.reshape(-1).astype(np.float64) for values in source.read(points) for one in values]


def _norm(values: NDArray[np.float64]) -> float:
    """Return the L2 norm of the finite elements."""
    finite = values[np.isfinite(values)]
    return float(np.linalg.norm(finite))
