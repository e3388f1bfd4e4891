"""The slots of a weight, and whether they take part in updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tracediff.names import optimizer_settings, split_slot
from tracediff.trace import Run, Tensor


def slots_of(run: Run, weight: str) -> list[Tensor]:
    """Return the slots of a weight in the order of the run's tensors."""
    return [one for one in run.tensors if one.role == "slot" and split_slot(one.name)[0] == weight]


def is_idle(run: Run, slot: Tensor) -> bool:
    """Say whether a slot is a momentum that is written at every step, and read with factor 0."""
    if split_slot(slot.name)[1] != "momentum":
        return False
    optimizer = run.about.get("optimizer")
    config: Any = optimizer.get("config") if isinstance(optimizer, Mapping) else None
    return isinstance(config, Mapping) and "momentum" in config.keys() - optimizer_settings(config)


def is_used(run: Run, slot: Tensor) -> bool:
    """Say whether a slot takes part in updates: whether its value ever changes.

    Keras 2.3 keeps momentum slots at momentum 0, and a ``vhat`` of shape (1,) without AMSGrad.
    """
    partner = run.find("weight", split_slot(slot.name)[0])
    if partner is not None and slot.shape == (1,) and partner.shape not in ((1,), ()):
        return False
    if run.steps == 0 or is_idle(run, slot):
        return False
    digests = np.concatenate([run.digests(slot, "before")[:1], run.digests(slot, "after")])
    return bool((digests != digests[0]).any())
