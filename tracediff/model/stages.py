"""Which of the two runs, which stage of a step, and which end of it: the places of a value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Stage = Literal["data", "state", "forward", "loss", "gradient", "update", "metric"]
Moment = Literal["before", "after"]
Side = Literal["a", "b"]

STAGES: tuple[Stage, ...] = ("data", "state", "forward", "loss", "gradient", "update", "metric")
"""The order of what happens in one step."""

STAGE_OF_ROLE: Mapping[str, Stage] = MappingProxyType(
    {
        "input": "data",
        "label": "data",
        "sample_weight": "data",
        "weight": "state",
        "slot": "state",
        "activation": "forward",
        "loss": "loss",
        "gradient": "gradient",
        "applied_gradient": "gradient",
        "learning_rate": "update",
        "metric": "metric",
    }
)
"""The stage in which a tensor of a role is seen first; state is seen again in ``update``."""
