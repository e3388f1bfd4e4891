"""Tell what drifting weights make of a loss that is sensitive to them from a cause.

A deep or a recurrent network can magnify a difference a thousandfold within one forward pass. By
how much it does is recorded: gradients are the derivatives of the loss by the weights. To first
order the loss moves by no more than the sum over weights of ‖gradient‖ ‖difference‖; and rounding
within a step is like other weights, by a unit roundoff of themselves (backward error analysis, as
in Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, section 1.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from tracediff.drift import AMPLIFICATION
from tracediff.names import split_slot
from tracediff.onset.judged import Judged
from tracediff.onset.noise import Key
from tracediff.onset.past import scaled
from tracediff.onset.probes import stage_of
from tracediff.tolerance import EPS32, GROWTH_FACTOR, GROWTH_STEPS, SENSITIVE, SENSITIVITY

if TYPE_CHECKING:
    import numpy as np

_OBSERVED = ("forward", "loss", "gradient")


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How far the loss of a step moves with the weights, relative to itself.

    Attributes:
        condition: By how many times a relative change of every weight, each in a direction of its
            own: sqrt(sum ‖g‖² ‖w‖²) / |L|.
        carried: By how much, at most, for what the weights differ by: sum ‖g‖ ‖Δw‖ / |L|.
        recent: How many times ``condition`` the largest of the last steps was: gradients go through
            the network that the loss of this batch may happen not to feel.
    """

    condition: float
    carried: float
    recent: float = 1.0


Sensitivities: TypeAlias = Callable[[int], Sensitivity | None]


def sensitive_at(known: Sensitivities, step: int) -> Sensitivity | None:
    """Return how sensitive the loss of a step is; None unless it lately was more than usual."""
    found = known(step)
    recent = [known(one) for one in range(max(0, step + 1 - GROWTH_STEPS), step + 1)]
    largest = max((one.condition for one in recent if one is not None), default=0.0)
    if found is None or largest < SENSITIVE or not found.condition > 0.0:
        return None
    return replace(found, recent=largest / found.condition)


def excused(left: Mapping[Key, Judged], step: int, found: Sensitivity) -> dict[Key, Judged]:
    """Return what is left of the flags at a step whose loss is so sensitive.

    All before the step must be explained. Weights and slots are excused where the gradient that
    moved them is, and the update as such agrees.

    Args:
        left: Every track, judged, without what is explained already.
        step: The step.
        found: How sensitive its loss is.
    """
    result = dict(left)
    for key, one in left.items():
        if one.after[step] and stage_of(key[0], "after") in _OBSERVED and one.bound is None:
            allowed = _allowed(key, one, found)
            if _measured(one.track.after[step]) <= allowed:
                result[key] = _cleared(one, step)
    for key, one in result.items():
        if one.update[step] and _parts_cancel(result, key, step):
            update = one.update.copy()
            update[step] = False
            result[key] = replace(one, update=update)
    for key, one in result.items():
        state = key[0] in ("weight", "slot") and one.bound is None
        if one.after[step] and state and _moved_along(result, key, step):
            result[key] = _cleared(one, step)
    return result


def _allowed(key: Key, one: Judged, found: Sensitivity) -> float:
    unit = max(EPS32, one.track.eps)
    if key[0] == "loss":
        return SENSITIVITY["loss"] * found.carried + unit * found.condition
    factor = SENSITIVITY["gradient"]
    here = factor * found.carried + SENSITIVITY["rounding"] * unit * found.condition
    return here * found.recent


def _measured(cell: np.void) -> float:
    """Return the relative size of a difference, infinity where that is not known."""
    if not cell["known"] or cell["mismatched"] or cell["reshaped"]:
        return float("inf")
    return float(cell["relative_l2"])


def _parts_cancel(left: Mapping[Key, Judged], key: Key, step: int) -> bool:
    """Say whether what an update leaves to be explained is no more than its parts differ by.

    Where momentum and gradient cancel, little is left of an element, and that differs by more.
    """
    one = left[key]
    sources = [("applied_gradient", key[1]), ("gradient", key[1])]
    apart = [
        scaled(other.track.after)[step]
        for source, other in left.items()
        if source in sources and not other.after[step]
    ] + [
        scaled(other.track.before)[step]
        for source, other in left.items()
        if source[0] == "slot" and split_slot(source[1])[0] == key[1]
        if other.track.before is not None and not other.before[step]
    ]
    if one.track.update is None or one.room is None or not apart:
        return False
    update = one.track.update
    brought = AMPLIFICATION * max(apart) * float(update["norm"][: step + 1].max())
    return bool(update["unexplained"][step] <= one.room[step] + brought)


def _moved_along(left: Mapping[Key, Judged], key: Key, step: int) -> bool:
    """Say whether a weight or slot differs after a step for what its gradient brought."""
    one, name = left[key], split_slot(key[1])[0] if key[0] == "slot" else key[1]
    gradient = left.get(("applied_gradient", name)) or left.get(("gradient", name))
    weight = left.get(("weight", name))
    if gradient is None or weight is None or weight.track.update is None or one.statistic:
        return False
    compared = bool(weight.track.update["present"][step]) and not weight.update[step]
    if gradient.after[step] or one.before[step] or one.external[step] or not compared:
        return False
    if key[0] == "weight":
        return True
    # Its norm is that of a sum of gradients, which may cancel.
    brought = scaled(gradient.track.after)[: step + 1].max()
    return bool(scaled(one.track.after)[step] <= GROWTH_FACTOR * brought)


def _cleared(one: Judged, step: int) -> Judged:
    """Return what is judged without a step's flag, and without that of the state which it left."""
    before, after = one.before.copy(), one.after.copy()
    after[step] = False
    if one.track.state:
        before[step + 1 : step + 2] &= one.external[step + 1 : step + 2]
    return replace(one, before=before, after=after)
