"""Measure a pair of tensors where sketches are the most that both runs kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.cells import Series
from tracediff.drift.estimate import EstimatedDrift, estimate
from tracediff.drift.measure import squeezed_shape
from tracediff.drift.source import Source
from tracediff.drift.updates import AMPLIFICATION, STATE_FEEDBACK, update_rows
from tracediff.trace import SKETCH_ERROR, Sketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sources = tuple[Source, Source]

MARGIN = 4.0 * SKETCH_ERROR
"""What an estimated norm is taken to be off by at most: four times its error."""


@dataclass(frozen=True, slots=True)
class Fed:
    """What goes into the updates of a weight.

    Attributes:
        gradient: The gradient that they consume, or None where it was not recorded.
        slots: The weight's slots.
        linear: Whether updates are sums of multiples of these, as those of plain SGD are.
    """

    gradient: Sources | None = None
    slots: Sequence[Sources] = ()
    linear: bool = False

    @property
    def sources(self) -> list[Sources]:
        """All of them, the gradient first."""
        return ([self.gradient] if self.gradient is not None else []) + list(self.slots)


def of_one_shape(a: Source, b: Source) -> bool:
    """Say whether two shapes are the same; those that vary are told by their sizes only."""
    shapes = [
        None if one.tensor is None or one.tensor.shape is None else squeezed_shape(one.tensor.shape)
        for one in (a, b)
    ]
    return None in shapes or shapes[0] == shapes[1]


def estimate_point(cell: Series, a: Source, b: Source, point: int, *, other_bits: bool) -> None:
    """Fill in one cell, which stays unknown where an element is not finite.

    Args:
        cell: The cell, unknown so far; of length 1.
        a: The values of A.
        b: The values of B.
        point: Which of them.
        other_bits: Whether other bits are a difference, be they of equal value.
    """
    drift = estimate(a.sketch(point), b.sketch(point)) if of_one_shape(a, b) else None
    _fill_in(cell, drift, other_bits=other_bits)
    if drift is not None:
        cell["peak"] = max(side.peak(point) for side in (a, b))


def estimate_update(
    moves: Series, update: NDArray[np.void], a: Source, b: Source, step: int, *, fed: Fed
) -> None:
    """Fill in what a step did to a weight: a sketch is linear, so it tells that, too.

    Args:
        moves: The cell of the update as such, unknown so far; of length 1.
        update: Its record of `UPDATE`. It is left alone where nobody can tell what of the
            difference the update inherited.
        a: The weight in A.
        b: The weight in B.
        step: Which update.
        fed: What went into it.
    """
    if not of_one_shape(a, b):
        return
    ends = [side.sketch(2 * step + end) for side in (a, b) for end in (0, 1)]
    if len({one.size for one in ends}) > 1:
        moves["reshaped"] = True
        return
    before_a, after_a, before_b, after_b = ends
    drift = estimate(_less(after_a, before_a), _less(after_b, before_b))
    _fill_in(moves, drift, other_bits=False)
    if drift is None or np.isnan(drift.norm_difference):
        return
    differing = [pair for pair in fed.sources if _unlike(*pair, 2 * step)]
    known = [pair for pair in differing if all(one.sketched[2 * step] for one in pair)]
    inputs = [(x.sketch(2 * step), y.sketch(2 * step)) for x, y in known]
    if len(known) < len(differing) or any(x.size != y.size for x, y in inputs):
        return
    if drift.exact and all(x.exact for x, _ in inputs):
        both = [(x.elements[None], y.elements[None]) for x, y in inputs]
        gradient = bool(differing) and differing[0] is fed.gradient
        found, _ = update_rows(
            [one.elements[None] for one in ends],
            gradient=both[0] if gradient else None,
            slots=both[1:] if gradient else both,
        )
        update[...] = found
    elif fed.linear or not inputs:
        allowed = max((_largest_ratio(x, y) for x, y in inputs), default=0.0) * AMPLIFICATION
        norm = max(drift.norm_a, drift.norm_b)
        apart = drift.norm_difference * (1.0 - MARGIN)
        feedback = STATE_FEEDBACK * before_a.distance(before_b) * (1.0 + MARGIN)
        update["present"] = True
        update["norm"], update["norm_difference"] = norm, drift.norm_difference
        # By the triangle inequality no more than this can be inherited.
        update["unexplained"] = max(0.0, apart - allowed * norm * (1.0 + MARGIN) - feedback)
        update["weight_norm"] = max(after_a.norm, after_b.norm)


def _less(one: Sketch, other: Sketch) -> Sketch:
    return replace(one, numbers=one.numbers - other.numbers)


def _unlike(a: Source, b: Source, point: int) -> bool:
    """Say whether two values differ in bits, or are not known to be equal."""
    return bool((a.digests[point] != b.digests[point]).any() or not a.digests[point].any())


def _largest_ratio(a: Sketch, b: Sketch) -> float:
    """Return what the relative L2 of two values is at most; NaN where it is not known."""
    drift = estimate(a, b)
    assert drift is not None, "the caller compares values of one size"
    return drift.relative_l2 * (1.0 + MARGIN) / (1.0 - MARGIN)


def _fill_in(cell: Any, drift: EstimatedDrift | None, *, other_bits: bool) -> None:
    """Write into one cell what sketches tell, which is nothing where an element is not finite."""
    cell["reshaped"] = drift is None
    if drift is None or np.isnan(drift.norm_difference):
        return
    cell["known"] = cell["estimated"] = True
    cell["differs"] = drift.norm_difference > 0.0 or other_bits
    cell["relative_l2"], cell["size"] = drift.relative_l2, drift.size
    cell["norm_a"], cell["norm_b"] = drift.norm_a, drift.norm_b
    cell["norm_difference"] = drift.norm_difference
    if drift.max_abs is not None:
        cell["max_abs"] = drift.max_abs
