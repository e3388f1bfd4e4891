"""The state before the first step: another draw, another distribution, other slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracediff.diagnose import remedies
from tracediff.diagnose.begun import parted_before, steps_behind
from tracediff.diagnose.case import Case, Values
from tracediff.diagnose.initialisers import (
    Initialiser,
    configured,
    describe,
    few_levels,
    likeness,
    named,
    orthogonal,
    rejected,
    same,
)
from tracediff.diagnose.numbers import listed, short
from tracediff.diagnose.roundings import rounded
from tracediff.model import Finding, Side
from tracediff.names import model_layers, split_slot
from tracediff.onset import Place

Array = NDArray[np.float64]
_ENOUGH = 20
"""Fewer elements than this cannot tell two distributions apart."""
_GLANCE = 1024
"""Elements that have to be multiples, loosely, before all of them are looked at."""
_LOOSELY = 0.1
_SAME = 1e-3
"""Probability, over all tests of a comparison together, to call the same distribution another."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    place: Place
    text: str
    other: tuple[str, str] | None = None  # What each is, where it is another distribution
    undecided: bool = False
    few: bool = False


def initial_weights(case: Case) -> Iterable[Finding]:
    """Tell apart weights drawn anew and weights drawn from something else."""
    places = [place for place in case.firsts("weight") if _at_start(case, place)]
    verdicts: list[_Verdict] = []
    coarse: dict[tuple[str, str], list[str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    unknown = 0
    for place in places:
        pair = case.read(place.track.pair.key, case.start, "before")
        if pair is None:
            unknown += 1
            continue
        format_of = rounded(*(one.astype(np.float64) for one in pair), drawn=True)
        if format_of is not None:
            coarse.setdefault(format_of, []).append(place.track.pair.name)
            continue
        verdicts.append(_compare(case, place, pair, tests=len(places)))
        shapes[place.track.pair.name] = pair[0].shape
    yield from _coarser(case, coarse)
    if any(steps_behind(case)):
        yield from _trained(case, verdicts)
        verdicts = []
    others = [(one, one.other) for one in verdicts if one.other is not None]
    draws = [one for one in verdicts if one.other is None]
    for one, (text_a, text_b) in others:
        name = one.place.track.pair.name
        yield Finding(
            code="init.distribution",
            summary=f"{name} starts from another distribution: {one.text}.",
            confidence=0.95,
            stage="state",
            step=case.start,
            subject=name,
            a=text_a,
            b=text_b,
            evidence=(
                f"A: {text_a}",
                f"B: {text_b}",
                *_initializers(case, one.place, shapes[name]),
            ),
            remedy=_remedy(case, one.place, shapes[name]),
        )
    if draws:
        names = [one.place.track.pair.name for one in draws]
        undecided = [one for one in draws if one.undecided]
        few = all(one.few for one in draws)
        yield Finding(
            code="init.draw",
            summary=f"A few elements of the initial weights differ: {listed(names)}."
            if few
            else f"Initial weights are another draw from the same distribution: {listed(names)}.",
            # Another distribution, where there is one, is the fault; a draw differs easily.
            confidence=0.9 if len(undecided) < len(draws) else 0.6,
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


def _trained(case: Case, verdicts: Sequence[_Verdict]) -> Iterable[Finding]:
    """Say of weights that were trained before what can be said of them."""
    if verdicts:
        shown = [one for one in verdicts if one.few]
        evidence = [f"{one.place.track.pair.name}: {one.text}" for one in shown[:6]]
        yield parted_before(case, [one.place for one in verdicts], evidence)


def _coarser(case: Case, found: Mapping[tuple[str, str], list[str]]) -> Iterable[Finding]:
    """Name the number format in which one run holds the other's weights."""
    for (side, name), weights in found.items():
        yield Finding(
            code="precision",
            summary=f"{side} starts from the other run's weights, rounded to {name}: "
            f"{listed(weights)}.",
            confidence=0.96,
            stage="state",
            step=case.start,
            subject=name,
            a=name if side == "A" else "finer",
            b=name if side == "B" else "finer",
            evidence=(f"rounding the other run's weights to {name} gives {side}'s exactly",),
        )


def _remedy(case: Case, place: Place, shape: tuple[int, ...]) -> str | None:
    """Return the line that asks for A's initialiser, where A's configuration is what differs."""
    a, b = (_configured(case, place, side, shape) for side in ("a", "b"))
    layer, _, which = place.track.pair.name.partition("/")
    if a is None or same(a, b):
        return None
    if isinstance(a, str):
        return f"in B's layer {layer}: {which}_initializer={a!r}"
    if a.name in {one.name for one in named(shape)}:
        return f"in B's layer {layer}: {which}_initializer={a.name!r}"
    return f"in B's layer {layer}, {which}_initializer: a {a.name}"


def _at_start(case: Case, place: Place) -> bool:
    return place.step == case.start and place.stage == "state"


def _compare(case: Case, place: Place, pair: tuple[Values, Values], *, tests: int) -> _Verdict:
    shape = pair[0].shape
    a, b = (one.astype(np.float64).reshape(-1) for one in pair)

    def described() -> tuple[str, str]:
        text_a, text_b = (
            describe(one, two.shape) if np.isfinite(one).all() else "not all finite"
            for one, two in ((a, pair[0]), (b, pair[1]))
        )
        return text_a, text_b

    def other(text: str | None) -> _Verdict:
        text_a, text_b = described()
        text = f"{text_a} in A, {text_b} in B" if text is None else text
        return _Verdict(place, text=text, other=(text_a, text_b))

    def draw(text: str, *, undecided: bool = False, few: bool = False) -> _Verdict:
        return _Verdict(place, text=text, undecided=undecided, few=few)

    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return other("not all values are finite")
    changed = int(np.count_nonzero(a != b))
    if len(a) > 4 and changed <= max(1, len(a) // 10):
        what = "element differs" if changed == 1 else "elements differ"
        return draw(f"only {changed} of {len(a)} {what}, all others are equal", few=True)
    if _few_levels(a) or _few_levels(b):
        if np.array_equal(np.sort(a), np.sort(b)):
            return draw("the same values in other places")
        return other(None)
    scale = _scaled(a, b)
    if scale is not None:
        return other(f"B is A times {short(scale)}")
    settings = [_configured(case, place, side, shape) for side in ("a", "b")]
    if pair[0].ndim > 1 and orthogonal(a.reshape(shape)) != orthogonal(b.reshape(shape)):
        which = "A" if orthogonal(a.reshape(shape)) else "B"
        return other(f"only {which}'s is orthogonal")
    asked = None not in settings and not same(*settings)
    if asked and not any(
        rejected(one, shape, what) for one, what in zip((a, b), settings, strict=True)
    ):
        names = [getattr(one, "name", one) for one in settings]
        return other(f"{names[0]} in A, {names[1]} in B, as configured, and the values agree")
    if len(a) < _ENOUGH:
        return draw(
            f"{len(a)} elements are too few to tell draw and distribution apart", undecided=True
        )
    probability, text = likeness(a, b)
    return other(text) if probability < _SAME / max(1, tests) else draw(text)


def _few_levels(values: Array) -> bool:
    """Say whether values were set and not drawn: constant, or blocks of constants."""
    return len(values) > 1 and few_levels(values, min(3, (len(values) + 1) // 2))


def _scaled(a: Array, b: Array, *, within: float = 1e-5) -> float | None:
    """Return by what factor B is A, to a relative L2 of ``within``; None where by none."""
    if len(a) > 2 * _GLANCE and _scaled(a[:_GLANCE], b[:_GLANCE], within=_LOOSELY) is None:
        return None
    power = float(a @ a)
    if power == 0.0 or len(a) < 2:
        return None
    scale = float(a @ b) / power
    fits = np.linalg.norm(b - scale * a) <= within * np.linalg.norm(b)
    return scale if fits and abs(scale) > 0.0 else None


def _setting(case: Case, place: Place, side: Side) -> Any:
    """Return what the configuration of a weight's layer says of its initialiser."""
    name = place.track.pair.a if side == "a" else place.track.pair.b
    layer = str(name).split("/", maxsplit=1)[0]
    which = str(name).rpartition("/")[2]
    for one in model_layers((case.a if side == "a" else case.b).about):
        if one.get("name") == layer:
            return (one.get("config") or {}).get(f"{which}_initializer")
    return None


def _configured(
    case: Case, place: Place, side: Side, shape: tuple[int, ...]
) -> Initialiser | str | None:
    return configured(_setting(case, place, side), shape)


def _initializers(case: Case, place: Place, shape: tuple[int, ...]) -> list[str]:
    found = []
    for side in ("a", "b"):
        one = _configured(case, place, side, shape)
        if one is None:
            return []
        found.append(one.name if isinstance(one, Initialiser) else one)
    return [f"configured: {found[0]} in A, {found[1]} in B"]


def initial_slots(case: Case) -> Iterable[Finding]:
    """Name slots of the optimizer that start from other values."""
    places = [place for place in case.firsts("slot") if _at_start(case, place)]
    if any(steps_behind(case)) and any(_at_start(case, one) for one in case.firsts("weight")):
        # Where weights had parted before, what moved them has; but it may also be kept in one only.
        places = [place for place in places if _begins_anew(case, place)]
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(split_slot(place.track.pair.name)[1], []).append(place)
    for slot, found in groups.items():
        values: list[str | None] = [None, None]
        pair = case.read(found[0].track.pair.key, case.start, "before")
        if pair is not None:
            values = [
                describe(np.atleast_1d(one.astype(np.float64)).reshape(-1), one.shape)
                for one in pair
            ]
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
            evidence=(f"before step {case.start}: {listed(names)}",),
            remedy=remedies.for_slot(case.optimizer_classes()[0], slot),
        )


def _begins_anew(case: Case, place: Place) -> bool:
    """Say whether a slot is all one value in one run only, as where it was never used."""
    pair = case.read(place.track.pair.key, case.start, "before")
    if pair is None or pair[0].size < 2 or pair[1].size < 2:
        return False
    return bool(np.ptp(pair[0]) == 0) != bool(np.ptp(pair[1]) == 0)
