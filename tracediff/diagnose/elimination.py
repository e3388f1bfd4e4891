"""What is excluded as a cause: everything that came before a place and agrees, with the numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracediff.model import STAGES
from tracediff.names import is_loss_scale
from tracediff.onset import Judged, Onset, Place, began, stage_of

_PLURAL = {
    "data": "data",
    "state": "state",
    "forward": "layer outputs",
    "loss": "loss",
    "gradient": "gradients",
    "update": "updates",
    "metric": "metrics",
}


def agreed_before(onset: Onset, place: Place) -> tuple[str, ...]:
    """Say, stage by stage, how closely what came before agrees."""
    phrases = []
    start = began(one.track for one in onset.judged.values())
    if place.step > start:
        worst, name, bound = _largest(onset, step=None, until=place)
        last = place.step - 1
        span = f"step {start}" if last == start else f"steps {start} to {last}"
        phrases.append(f"{span}: {_closeness(worst, name, at_least=bound)}")
    for stage in STAGES:
        count, worst, name, bound = 0, 0.0, "", False
        for one in _entering(onset):
            for other in _places(one, place.step):
                if other.stage == stage and other.key < place.key and not one.noise[place.step]:
                    cell = _cell(other)
                    if not cell["present"]:
                        continue
                    count += 1
                    drift = float(cell["relative_l2"]) if cell["differs"] else 0.0
                    bound |= bool(cell["at_least"])
                    if not drift <= worst:
                        worst, name = drift, other.track.pair.name
        if count:
            tensors = "1 tensor" if count == 1 else f"{count} tensors"
            phrases.append(
                f"{_PLURAL[stage]} ({tensors}): {_closeness(worst, name, at_least=bound)}"
            )
    return tuple(phrases)


def _entering(onset: Onset) -> list[Judged]:
    """Return all but the state of a scale of the loss, without which updates are made."""
    return [
        one
        for (role, name), one in onset.judged.items()
        if not (role == "slot" and is_loss_scale(name))
    ]


def _largest(onset: Onset, *, step: int | None, until: Place) -> tuple[float, str, bool]:
    worst, name, bound = 0.0, "", False
    for one in _entering(onset):
        cells = one.track.after[: until.step if step is None else step]
        bound |= bool(cells["at_least"].any())
        drift = np.where(cells["differs"] & ~one.noise[: len(cells)], cells["relative_l2"], 0.0)
        if drift.size and not drift.max() <= worst:
            worst, name = float(drift.max()), one.track.pair.name
    return worst, name, bound


def _closeness(worst: float, name: str, *, at_least: bool) -> str:
    if math.isnan(worst):
        return f"{name} differs by an unknown amount"
    if at_least:
        seen = f"at least {worst:.2g} relative L2 ({name})" if worst else "nothing to be seen of it"
        return f"other bits, within rounding as far as digests tell: {seen}"
    if worst == 0.0:
        return "equal"
    return f"within {worst:.2g} relative L2 ({name})"


def _places(one: Judged, step: int) -> list[Place]:
    role = one.track.pair.role
    result = [Place(step, stage_of(role, "after"), one.track, "after")]
    if one.track.before is not None:
        result.append(Place(step, "state", one.track, "before"))
    return result


def _cell(place: Place) -> Any:
    cells = place.track.before if place.moment == "before" else place.track.after
    return (place.track.after if cells is None else cells)[place.step]
