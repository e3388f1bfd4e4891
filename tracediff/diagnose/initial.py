"""The state before the first step: another draw, another distribution, other slots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tracediff.diagnose import remedies
from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import listed, short
from tracediff.model import Finding
from tracediff.names import split_slot
from tracediff.onset import Place

Array = NDArray[np.float64]
_ENOUGH = 20
"""Fewer elements than this cannot tell two distributions apart."""
_SAME = 1e-3
"""Probability, over all tests of a comparison together, to call the same distribution another."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    place: Place
    other: bool  # Whether it is another distribution
    text: str
    a: str
    b: str
    undecided: bool = False


def initial_weights(case: Case) -> Iterable[Finding]:
    """Tell apart weights drawn anew and weights drawn from something else."""
    places = [place for place in case.firsts("weight") if _at_start(case, place)]
    verdicts = []
    for place in places:
        pair = case.read(place.track.pair.key, case.start, "before")
        if pair is not None:
            a, b = (one.astype(np.float64).reshape(-1) for one in pair)
            verdicts.append(_compare(place, a, b, tests=len(places)))
    unknown = len(places) - len(verdicts)
    others = [one for one in verdicts if one.other]
    draws = [one for one in verdicts if not one.other]
    for one in others:
        name = one.place.track.pair.name
        yield Finding(
            code="init.distribution",
            summary=f"{name} starts from another distribution: {one.text}.",
            confidence=0.95,
            stage="state",
            step=case.start,
            subject=name,
            a=one.a,
            b=one.b,
            evidence=(f"A: {one.a}", f"B: {one.b}", *_initializers(case, one.place)),
        )
    if draws:
        names = [one.place.track.pair.name for one in draws]
        undecided = [one for one in draws if one.undecided]
        yield Finding(
            code="init.draw",
            summary=f"Initial weights are another draw from the same distribution: "
            f"{listed(names)}.",
            confidence=0.95 if len(undecided) < len(draws) else 0.6,
            stage="state",
            step=case.start,
            subject=names[0] if len(names) == 1 else f"{len(names)} weights",
            evidence=(
                *(f"{one.place.track.pair.name}: {one.text}" for one in draws[:6]),
                "start both runs from the same weights to see what else differs",
            ),
        )
    if unknown:
        yield Finding(
            code="unexplained",
            summary=f"{unknown} initial weights differ, but their values were not kept.",
            confidence=0.5,
            stage="state",
            step=case.start,
            evidence=('record with level="full" to tell another draw from another initialiser',),
        )


def _at_start(case: Case, place: Place) -> bool:
    return place.step == case.start and place.stage == "state"


def _compare(place: Place, a: Array, b: Array, *, tests: int) -> _Verdict:
    text_a, text_b = _described(a), _described(b)
    if _constant(a) or _constant(b):
        return _Verdict(place, other=True, text=f"{text_a} in A, {text_b} in B", a=text_a, b=text_b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return _Verdict(place, other=True, text="not all values are finite", a=text_a, b=text_b)
    scale = _scaled(a, b)
    if scale is not None:
        text = f"B is A times {short(scale)}"
        return _Verdict(place, other=True, text=text, a=text_a, b=text_b)
    if len(a) < _ENOUGH:
        text = f"{len(a)} elements are too few to tell draw and distribution apart"
        return _Verdict(place, other=False, text=text, a=text_a, b=text_b, undecided=True)
    changed = int(np.count_nonzero(a != b))
    if changed <= max(1, len(a) // 10):
        text = f"only {changed} of {len(a)} elements differ"
        return _Verdict(place, other=True, text=text, a=text_a, b=text_b)
    test = stats.ks_2samp(a, b)
    text = f"Kolmogorov-Smirnov p = {short(float(test.pvalue))} for {len(a)} elements"
    other = bool(test.pvalue < _SAME / max(1, tests))
    return _Verdict(place, other=other, text=text, a=text_a, b=text_b)


def _constant(values: Array) -> bool:
    return len(values) > 1 and bool(np.all(values == values[0]))


def _scaled(a: Array, b: Array) -> float | None:
    power = float(a @ a)
    if power == 0.0 or len(a) < 2:
        return None
    scale = float(a @ b) / power
    fits = np.linalg.norm(b - scale * a) <= 1e-5 * np.linalg.norm(b)
    return scale if fits and abs(scale) > 0.0 else None


def _described(values: Array) -> str:
    if _constant(values):
        return f"all {short(values[0])}"
    return (
        f"mean {short(float(values.mean()))}, standard deviation {short(float(values.std()))}, "
        f"from {short(float(values.min()))} to {short(float(values.max()))}"
    )


def _initializers(case: Case, place: Place) -> list[str]:
    layer = place.track.pair.layer
    found = []
    for run in (case.a, case.b):
        model = run.about.get("model") or {}
        for one in model.get("layers") or ():
            if one.get("name") == layer:
                which = place.track.pair.name.rpartition("/")[2]
                value = (one.get("config") or {}).get(f"{which}_initializer")
                if isinstance(value, dict):
                    value = value.get("class_name")
                found.append(str(value))
    return [f"configured: {found[0]} in A, {found[1]} in B"] if len(found) == 2 else []


def initial_slots(case: Case) -> Iterable[Finding]:
    """Name slots of the optimizer that start from other values."""
    places = [place for place in case.firsts("slot") if _at_start(case, place)]
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(split_slot(place.track.pair.name)[1], []).append(place)
    for slot, found in groups.items():
        values: list[str | None] = [None, None]
        pair = case.read(found[0].track.pair.key, case.start, "before")
        if pair is not None:
            values = [_described(np.atleast_1d(one.astype(np.float64)).reshape(-1)) for one in pair]
        names = [place.track.pair.name for place in found]
        start = f": {values[0]} in A, {values[1]} in B" if values[0] else ""
        yield Finding(
            code="optimizer.slots",
            summary=f"The optimizer's {slot} starts from other values{start}.",
            confidence=0.95,
            stage="state",
            step=case.start,
            subject=slot if len(names) > 1 else names[0],
            a=values[0],
            b=values[1],
            evidence=(
                f"before step {case.start}: {listed(names)}",
                *remedies.for_slot(case.optimizer_classes()[0], slot),
            ),
        )
