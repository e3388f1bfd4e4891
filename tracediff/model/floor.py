"""The noise floor that differences were held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tracediff.model.stages import Side

FloorSource = Literal["model", "repeats", "tolerances"]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A repeat of one of the runs compared.

    Attributes:
        path: The repeat.
        side: The run that it repeats.
        steps: How many steps it has.
        factor: How many times the largest difference among that run and its repeats is forgiven.
    """

    path: str
    side: Side
    steps: int
    factor: float


@dataclass(frozen=True, slots=True)
class Floor:
    """The noise floor that differences were held against, and how near they came to it.

    Attributes:
        source: ``model``: a model of floating-point error; ``repeats``: that, or what repeats of a
            run differ by where it is more; ``tolerances``: what the user allowed.
        repeats: The repeats.
        times: The largest difference within the level of the floor, in terms of that level; NaN
            where there is none.
        step: Where that is, or None.
        role: Its role.
        tensor: Its canonical name.
        grown: How many tensors passed the level by growth that fits rounding.
        at_least: Whether of some differences only lower bounds are known, which were held against
            the floor in their place.
    """

    source: FloorSource
    repeats: tuple[Repeat, ...]
    times: float
    step: int | None = None
    role: str | None = None
    tensor: str | None = None
    grown: int = 0
    at_least: bool = False
