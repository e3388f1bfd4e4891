"""Match the layers of two models: by name where names mean the same, else by what layers are.

A one-to-one assignment that weighs shapes, class, place in the graph, names and first values
together, so that one layer more, or in another place, leaves the others with their right partners.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tracediff.align.candidates import fits, layouts_between
from tracediff.align.graph import Layer, layers_of
from tracediff.align.values import FirstValues
from tracediff.trace import Run

_SHAPES, _CLASS, _PLACE, _ASSUMED_PLACE = 3.0, 1.0, 1.5, 0.5
_GIVEN_NAME, _MADE_UP_NAME, _LIKE_NAME = 4.0, 0.6, 0.5
_VALUES, _STATISTICS, _ORDER = 3.0, 0.3, 0.4
"""What each kind of evidence weighs. A name that a user gave outweighs values, for weights can be
loaded in the wrong order; one that the framework counted does not, for it hangs on the order of
construction. The place in the graph outweighs what was only counted, too."""


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """A layer of A and the layer of B that is taken to be the same.

    Attributes:
        a: Canonical name in A.
        b: Canonical name in B.
        reason: Why these two.
        confidence: How sure that is, 0 to 1.
    """

    a: str
    b: str
    reason: str
    confidence: float


@dataclass(frozen=True, slots=True)
class _Evidence:
    score: float
    same_class: bool
    shapes: float
    names: bool  # Whether the weights are called the same
    before: bool
    after: bool
    values: bool | None
    gradients: bool | None


def match_layers(
    a: Run, b: Run, values: FirstValues, *, given: Mapping[str, str | None] | None = None
) -> tuple[LayerMatch, ...]:
    """Match the layers of two runs, in the execution order of A.

    Args:
        a: The first run.
        b: The second run.
        values: Their first values, read where the rest leaves a choice.
        given: Pairs that are not to be questioned: a layer of A, and one of B or None.
    """
    layers_a, layers_b = layers_of(a), layers_of(b)
    result = [
        LayerMatch(one, other, "given by the mapping", 1.0)
        for one, other in (given or {}).items()
        if other is not None
    ]
    taken = set(given or {}), {one.b for one in result}
    left_a = {name: one for name, one in layers_a.items() if name not in taken[0]}
    left_b = {name: one for name, one in layers_b.items() if name not in taken[1]}
    for name in _settled(left_a, left_b):
        result.append(LayerMatch(name, name, "same name", 1.0))
        del left_a[name], left_b[name]
    for weighted in (True, False):
        ones = [one for one in left_a.values() if bool(one.weights) is weighted]
        others = [one for one in left_b.values() if bool(one.weights) is weighted]
        result.extend(_assigned(ones, others, values))
    return tuple(sorted(result, key=lambda match: layers_a[match.a].order))


def _settled(a: Mapping[str, Layer], b: Mapping[str, Layer]) -> list[str]:
    """Return the names that mean the same layer beyond doubt."""
    twins_a, twins_b = (Counter(map(_look, layers.values())) for layers in (a, b))
    result = []
    for name in a.keys() & b.keys():
        one, other = a[name], b[name]
        if one.kind != other.kind or one.locals != other.locals:
            continue
        if not all(map(fits, one.shapes, other.shapes)):
            continue
        alone = twins_a[_look(one)] == twins_b[_look(other)] == 1
        placed = (one.before, one.after) == (other.before, other.after)
        if not (one.automatic and other.automatic) or (alone and placed):
            result.append(name)
    return result


def _look(layer: Layer) -> tuple[object, ...]:
    """Return what does not tell a layer from its twins."""
    place = (layer.before, layer.after) if layer.known else ()
    return (layer.kind, layer.shapes, *place)


def _assigned(a: Sequence[Layer], b: Sequence[Layer], values: FirstValues) -> list[LayerMatch]:
    """Return the assignment of the greatest evidence, leaving out what has too little."""
    if not a or not b:
        return []
    from scipy.optimize import linear_sum_assignment

    table: dict[tuple[int, int], _Evidence] = {}
    scores = np.full((len(a), len(b)), -100.0)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            found = _evidence(one, other, (i, len(a)), (j, len(b)))
            if found is not None:
                table[i, j] = found
    # Values are dear: they are read only where one layer might be either of several.
    rivals = Counter(i for i, _ in table), Counter(j for _, j in table)
    for (i, j), found in table.items():
        one, other = a[i], b[j]
        if rivals[0][i] > 1 or rivals[1][j] > 1:
            found = _with_values(found, one, other, values)  # noqa: PLW2901 - the same, richer
            table[i, j] = found
        scores[i, j] = found.score
    rows, columns = linear_sum_assignment(scores, maximize=True)
    by_row: dict[int, list[tuple[int, _Evidence]]] = {}
    by_column: dict[int, list[tuple[int, _Evidence]]] = {}
    for (i, j), found in table.items():
        by_row.setdefault(i, []).append((j, found))
        by_column.setdefault(j, []).append((i, found))
    result = []
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        chosen = table.get((i, j))
        if chosen is not None:
            rest = [found for other, found in by_row[i] if other != j]
            rest += [found for other, found in by_column[j] if other != i]
            result.append(_match(a[i], b[j], chosen, rest, equally_many=len(a) == len(b)))
    return result


def _evidence(
    a: Layer, b: Layer, place_a: tuple[int, int], place_b: tuple[int, int]
) -> _Evidence | None:
    """Weigh two layers, or return None where they cannot be the same."""
    kinds = bool(a.kind) and bool(b.kind)
    same_class = a.kind == b.kind
    shapes = _shapes(a, b)
    named = a.name == b.name
    given = named and not (a.automatic and b.automatic)
    before, after = a.before == b.before, a.after == b.after
    if a.weights:
        possible = shapes == 1.0 or (shapes > 0.0 and (named or before or after))
        possible |= same_class and (given or (before and after))
    else:
        possible = same_class and kinds
    if not possible:
        return None
    known = a.known and b.known
    score = _SHAPES * shapes + _CLASS * (same_class if kinds else 0.5)
    score += (_PLACE if known else _ASSUMED_PLACE) * (before + after)
    if named:
        score += _GIVEN_NAME if given else _MADE_UP_NAME
    else:
        score += _LIKE_NAME * difflib.SequenceMatcher(None, a.name, b.name).ratio()
    distance = abs(place_a[0] / max(1, place_a[1] - 1) - place_b[0] / max(1, place_b[1] - 1))
    score += _ORDER * (1.0 - distance)
    return _Evidence(score, same_class, shapes, a.locals == b.locals, before, after, None, None)


def _shapes(a: Layer, b: Layer) -> float:
    """Return the share of weights whose shapes have a partner in the other layer."""
    left = list(b.weights)
    found = 0.0
    for weight in a.weights:
        exact = [other for other in left if fits(weight.shape, other.shape)]
        near = exact or [
            other
            for other in left
            if layouts_between(other.shape, weight.shape, a.kind)
            or layouts_between(weight.shape, other.shape, a.kind)
        ]
        if near:
            found += 1.0
            left.remove(near[0])
    return found / max(1, len(a.weights), len(b.weights))


def _with_values(found: _Evidence, a: Layer, b: Layer, values: FirstValues) -> _Evidence:
    """Add what first values and gradients say."""
    alike: list[bool] = []
    gradients: list[bool] = []
    spreads: list[float] = []
    for one, other in zip(a.weights, b.weights, strict=False):
        if not fits(one.shape, other.shape):
            continue
        same = values.alike(one, other)
        if same is None and not values.kept(one, other) and len(one.shape or ()) > 1:
            same = values.equal(one, other)
        if same is not None:
            alike.append(same)
        moved = values.gradients_alike(one, other)
        if moved is not None:
            gradients.append(moved)
        spread = values.spread(0, one), values.spread(1, other)
        if spread[0] and spread[1]:
            spreads.append(math.exp(-abs(math.log(spread[0] / spread[1]))))
    equal = all(alike) if alike else None
    same_way = all(gradients) if gradients else None
    score = found.score
    if equal:
        # Weights loaded into the wrong layer are alike; what flows through them is not.
        score += _VALUES * (0.4 if same_way is False else 1.0)
    elif same_way and equal is None:
        score += _VALUES * 0.5
    if spreads:
        score += _STATISTICS * sum(spreads) / len(spreads)
    return _Evidence(
        score,
        found.same_class,
        found.shapes,
        found.names,
        found.before,
        found.after,
        equal,
        same_way,
    )


def _match(
    a: Layer, b: Layer, chosen: _Evidence, rest: Sequence[_Evidence], *, equally_many: bool
) -> LayerMatch:
    words = ["class"] if chosen.same_class and a.kind else []
    if chosen.shapes == 1.0 and a.weights:
        words.append("weight names and shapes" if chosen.names else "weight shapes")
    confidence = 0.6 + 0.25 * chosen.same_class + 0.1 * chosen.names
    reasons = [f"same {', '.join(words)}"] if words else []
    rivals = [one for one in rest if one.shapes >= chosen.shapes]
    if chosen.before and chosen.after and a.known and b.known:
        reasons.append("same place in the graph")
        confidence = max(confidence, 0.95)
    if chosen.values:
        reasons.append("equal first values" + (" and gradients" if chosen.gradients else ""))
        confidence = 0.97 if chosen.gradients is not False else 0.9
    elif rivals and a.name != b.name:
        placed = chosen.before and chosen.after and a.known and b.known
        if not placed or any(one.before and one.after for one in rivals):
            reasons.append(f"in execution order ({len(rivals) + 1} look alike)")
            confidence *= 0.9 if equally_many else 0.6
    if chosen.shapes < 1.0:
        reasons.append("not all weights fit")
        confidence = min(confidence, 0.8)
    if a.name == b.name:
        reasons.insert(0, "same name")
        confidence = 1.0 if chosen.shapes == 1.0 else 0.9
    return LayerMatch(a.name, b.name, ", ".join(reasons), round(confidence, 2))
