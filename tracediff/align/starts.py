"""Find the step at which one run had the weights that another starts from."""

from __future__ import annotations

import numpy as np

from tracediff.align.pairing import Pairing
from tracediff.align.values import NEAR, norm
from tracediff.trace import Run, Tensor

_LOOK = 64
"""Steps at which weights are looked at for a dip in the distance."""
_GLANCES = 9
"""Steps at which weights are looked at first to see whether a run may have passed by others."""
_NEARER = 0.5
"""To what share of its largest distance a run comes at one of these steps if it did."""


def offset_of_start(a: Run, b: Run, pairing: Pairing) -> int | None:
    """Return the offset under which one run starts from weights that the other had later.

    0 where both start from the same; None where neither starts from what the other had.
    """
    weights = [
        (one, other)
        for pair in pairing.pairs
        if pair.role == "weight" and not pair.layout and not pair.layout_a
        for one, other in [(a.find("weight", pair.a or ""), b.find("weight", pair.b or ""))]
        if one is not None and other is not None and one.trainable is not False
    ]
    if not weights:
        return None
    for first, run, side in ((b, a, -1), (a, b, 1)):
        ordered = weights if run is a else [(other, one) for one, other in weights]
        found = _where(run, first, ordered)
        if found is not None:
            return side * found
    return None


def _where(run: Run, other: Run, weights: list[tuple[Tensor, Tensor]]) -> int | None:
    """Return the step of ``run`` before which all weights are those that ``other`` starts with."""
    if not run.steps or not other.steps:
        return None
    alike = np.ones(run.steps, bool)
    for one, start in weights:
        first = other.digests(start)[0]
        alike &= (run.digests(one) == first).all(axis=1) & first.any()
    steps = np.flatnonzero(alike)
    if len(steps):
        # Where nothing moves at first, the earliest is as good as any.
        return int(steps[0])
    return _nearest(run, other, weights)


def _nearest(run: Run, other: Run, weights: list[tuple[Tensor, Tensor]]) -> int | None:
    """As `_where`, for weights that agree but for rounding: of another stack, or another dtype."""
    one, start = max(weights, key=lambda pair: int(np.prod(pair[0].shape or ())))
    if not other.kept(start)[0]:
        return None
    first = other.read(start, 0).astype(np.float64).reshape(-1)
    size = norm(first)
    kept = np.flatnonzero(run.kept(one))
    if not len(kept) or not size or one.shape is None or np.prod(one.shape) != len(first):
        return None

    def distance(step: int) -> float:
        value = run.read(one, step).astype(np.float64).reshape(-1)
        return norm(value - first) / size

    if distance(int(kept[0])) <= NEAR:
        return int(kept[0])
    # A run that passes by comes nearer on its way there; to weights of another draw it does not.
    coarse = kept[np.unique(np.linspace(0, len(kept) - 1, _GLANCES).astype(int))]
    glances = [distance(int(step)) for step in coarse]
    if len(kept) > _GLANCES and min(glances) > _NEARER * max(glances):
        return None
    # Few values are read: where training passes by these weights, the distance has a dip.
    look = kept[np.unique(np.linspace(0, len(kept) - 1, _LOOK).astype(int))]
    distances = [distance(int(step)) for step in look]
    least = int(np.argmin(distances))
    around = kept[(kept >= look[max(0, least - 1)]) & (kept <= look[min(len(look), least + 2) - 1])]
    best = min(map(int, around), key=distance)
    spacing = min(
        (distance(step) for step in (best - 1, best + 1) if step in set(kept.tolist())),
        default=np.inf,
    )
    # Weights of the next step must be further off than rounding is.
    return best if distance(best) <= min(NEAR, 0.1 * spacing) else None
