"""Labels and sample weights that differ while the samples may agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tracediff.align import hash_rows
from tracediff.diagnose.case import Case
from tracediff.diagnose.data_order import labels_moved_along
from tracediff.diagnose.numbers import short
from tracediff.diagnose.rows import batches, permutation
from tracediff.drift import squeezed
from tracediff.model import Finding
from tracediff.onset import Place

Array = NDArray[np.float64]


def labels(case: Case, *, reordered: bool, before: int | None = None) -> Iterable[Finding]:
    """Say how labels differ, unless they only moved along with their samples.

    Args:
        case: Both runs.
        reordered: Whether the samples come in another order.
        before: The step from which batches are cut otherwise, if any: only what differs earlier.
    """
    for place in _earlier(case.firsts("label"), before):
        if reordered and labels_moved_along(case, place.step):
            continue
        if reordered and _only_moved(case, place):
            continue
        pair = case.read(place.track.pair.key, place.step)
        if pair is None:
            yield _found(case, place, "differ, but their values were not kept", 0.8)
            continue
        a, b = (squeezed(one).astype(np.float64) for one in pair)
        yield _how(case, place, np.atleast_1d(a), np.atleast_1d(b))


def _earlier(places: Iterable[Place], before: int | None) -> list[Place]:
    return [place for place in places if before is None or place.step < before]


def _only_moved(case: Case, place: Place) -> bool:
    """Say whether the labels of the run are the same ones, in another order."""
    found = list(batches(case, [place.track.pair.key], first=place.step))
    a = Counter(row for batch in found for row in batch.a)
    b = Counter(row for batch in found for row in batch.b)
    inputs = [one.track.pair.key for one in case.judged("input")]
    rows = list(batches(case, inputs, first=place.step))
    known = {row for batch in rows for row in batch.a}
    # Where samples are found again, their labels must be with them; that was looked at before.
    return a == b and not any(row in known for batch in rows for row in batch.b)


def _how(case: Case, place: Place, a: Array, b: Array) -> Finding:
    if a.shape != b.shape:
        encoded = _encoding(a, b)
        if encoded:
            return _found(case, place, encoded, 0.97, a=list(a.shape), b=list(b.shape))
        what = f"have the shape {a.shape} in A and {b.shape} in B"
        return _found(case, place, what, 0.9, a=list(a.shape), b=list(b.shape))
    rows = np.flatnonzero((a != b).reshape(len(a), -1).any(axis=1))
    first = int(rows[0]) if len(rows) else 0
    example = (
        f"{len(rows)} of {len(a)} labels differ; row {first} is {_text(a[first])} in A and "
        f"{_text(b[first])} in B"
    )
    order = permutation(hash_rows(a), hash_rows(b))
    if order is not None:
        shift = _rotation(order)
        what = "are the same values in other rows, while the samples stayed where they were"
        if shift:
            what = f"are shifted by {shift} rows against the samples"
        return _found(case, place, what, 0.95, evidence=[example])
    difference = b - a
    if a.ndim == 1 and a.size > 1 and np.all(difference == difference[0]):
        what = f"are shifted: b = a {'+' if difference[0] > 0 else '-'} {short(abs(difference[0]))}"
        return _found(case, place, what, 0.95, evidence=[example])
    smoothed = _smoothing(a, b)
    if smoothed:
        return _found(case, place, smoothed, 0.95, evidence=[example])
    renamed = _recoding(a, b)
    if renamed:
        return _found(case, place, renamed, 0.85, evidence=[example])
    return _found(case, place, f"differ in {_rows(rows)}", 0.9, evidence=[example])


def _found(
    case: Case,
    place: Place,
    what: str,
    confidence: float,
    *,
    a: object = None,
    b: object = None,
    evidence: Iterable[str] = (),
) -> Finding:
    name = place.track.pair.name
    inputs = [one for one in case.judged("input") if one.after[place.step]]
    agree = [] if inputs else [f"the samples of step {place.step} agree"]
    differing = int(np.count_nonzero(place.track.after["differs"]))
    return Finding(
        code="data.labels",
        summary=f"The labels ({name}) of {case.where(place.step)} {what}.",
        confidence=confidence,
        stage="data",
        step=place.step,
        subject=name,
        a=a,
        b=b,
        evidence=(*evidence, *agree, f"labels differ at {differing} of {case.steps} steps"),
    )


def _encoding(a: Array, b: Array) -> str | None:
    for one, other, text in (
        (a, b, "one-hot in A and class numbers in B"),
        (b, a, "class numbers in A and one-hot in B"),
    ):
        if one.ndim == other.ndim + 1 and one.shape[:-1] == other.shape:
            same = np.array_equal(one.argmax(axis=-1), other)
            return f"are {text}, {'for the same classes' if same else 'and the classes differ'}"
    return None


def _smoothing(a: Array, b: Array) -> str | None:
    for one, other, side in ((a, b, "B"), (b, a, "A")):
        if one.ndim != 2 or not np.isin(one, (0.0, 1.0)).all():
            continue
        low, high = other[one == 0.0], other[one == 1.0]
        if low.size and high.size and np.ptp(low) < 1e-6 and np.ptp(high) < 1e-6:
            amount = 1.0 - float(high[0] - low[0])
            return f"are smoothed in {side} by {short(amount)}"
    return None


def _recoding(a: Array, b: Array) -> str | None:
    """Say whether every class of A always became one other class of B."""
    if a.ndim != 1 or len(np.unique(a)) < 2 or len(np.unique(a)) > len(a) // 2:
        return None
    table = {float(value): np.unique(b[a == value]) for value in np.unique(a)}
    if any(len(found) > 1 for found in table.values()):
        return None
    targets = [float(found[0]) for found in table.values()]
    if len(set(targets)) < len(targets):
        return None
    changed = [f"{short(k)} became {short(float(v[0]))}" for k, v in table.items() if k != v[0]]
    return f"are coded otherwise: {', '.join(changed[:4])}"


def _rotation(order: list[int]) -> int:
    count = len(order)
    shift = order[0]
    return shift if shift and order == [(row + shift) % count for row in range(count)] else 0


def _rows(rows: NDArray[np.intp]) -> str:
    shown = ", ".join(map(str, rows[:5].tolist()))
    return f"row{'' if len(rows) == 1 else 's'} {shown}{' ...' if len(rows) > 5 else ''}"


def _text(value: Array) -> str:
    return short(float(value)) if value.ndim == 0 else str(np.round(value, 4).tolist())[:60]


def sample_weights(case: Case, *, reordered: bool, before: int | None = None) -> Iterable[Finding]:
    """Say how sample weights differ, unless they only moved along with their samples.

    Args:
        case: Both runs.
        reordered: Whether the samples come in another order.
        before: The step from which batches are cut otherwise, if any: only what differs earlier.
    """
    for place in _earlier(case.firsts("sample_weight"), before):
        if reordered and place.track.pair.a and place.track.pair.b:
            pair = case.read(place.track.pair.key, place.step)
            if pair is not None and permutation(hash_rows(pair[0]), hash_rows(pair[1])):
                continue
        pair = case.read(place.track.pair.key, place.step)
        name = place.track.pair.name
        missing = "A" if place.track.pair.a is None else "B" if place.track.pair.b is None else None
        evidence: list[str] = []
        what = "differ"
        if missing:
            what = f"are given in one run only; {missing} weighs every sample 1"
        if pair is not None and pair[0].shape == pair[1].shape:
            a, b = (one.astype(np.float64).reshape(-1) for one in pair)
            rows = np.flatnonzero(a != b)
            if rows.size:
                evidence.append(
                    f"{len(rows)} of {len(a)} weights differ; row {rows[0]} weighs "
                    f"{short(a[rows[0]])} in A and {short(b[rows[0]])} in B"
                )
            if (a != 0).all() and rows.size and np.allclose(b / a, b[0] / a[0], rtol=1e-6):
                evidence.append(f"all are scaled by {short(b[0] / a[0])}")
            evidence.extend(_by_class(case, place, a, b))
        yield Finding(
            code="data.sample_weight",
            summary=f"The sample weights of {case.where(place.step)} {what}.",
            confidence=0.97,
            stage="data",
            step=place.step,
            subject=name,
            evidence=tuple(evidence),
        )


def _by_class(case: Case, place: Place, a: Array, b: Array) -> list[str]:
    for one in case.judged("label"):
        pair = case.read(one.track.pair.key, place.step)
        if pair is None:
            continue
        classes = squeezed(pair[0])
        if classes.ndim == 2:
            classes = classes.argmax(axis=1)
        if classes.ndim != 1 or len(classes) != len(a) or len(np.unique(classes)) > len(a) // 2:
            continue
        table = {}
        for value in np.unique(classes):
            here = classes == value
            if len(np.unique(a[here])) > 1 or len(np.unique(b[here])) > 1:
                return []
            table[value] = a[here][0], b[here][0]
        texts = [f"class {v}: {short(x)} in A, {short(y)} in B" for v, (x, y) in table.items()]
        return ["the weight depends on the class only: " + "; ".join(texts[:5])]
    return []
