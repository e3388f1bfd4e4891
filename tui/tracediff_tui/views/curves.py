"""Scalars over the steps of a run, such as loss and learning rate, and how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from tracediff.errors import NotKept
from tracediff.report.comparison import numbers
from tracediff.trace import Run
from tracediff_tui.palette import BLUE, ORANGE
from tracediff_tui.views.charts import sparkline

if TYPE_CHECKING:
    from numpy.typing import NDArray

TITLES = {"loss": "loss", "learning_rate": "rate"}
"""The roles that are drawn, and what they are called there."""
_LEFT = 24
"""Characters before a curve of two runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One scalar of a run over its steps.

    Attributes:
        name: What it is called.
        values: One a step; NaN where it was not kept.
        kept: Where it was.
    """

    name: str
    values: NDArray[np.float64]
    kept: NDArray[np.bool_]

    def words(self, step: int, *, digits: int) -> str:
        """Return the value at a step; ``-`` where it was not kept."""
        if not (0 <= step < len(self.kept) and self.kept[step]):
            return "-"
        value = float(self.values[step])
        return numbers.number(value, digits=digits) if math.isfinite(value) else f"{value}"


def curve(run: Run, role: str, steps: int, *, cancelled: object = None) -> Curve | None:
    """Return the scalar of a role over the steps, or None where the run has none.

    Args:
        run: The run.
        role: ``loss`` or ``learning_rate``.
        steps: How many steps.
        cancelled: Called now and then; true ends it early.
    """
    tensors = [tensor for tensor in run.tensors if tensor.role == role and tensor.shape == ()]
    if not tensors:
        return None
    tensor = tensors[0]
    values, there = np.full(steps, np.nan), np.zeros(steps, np.bool_)
    kept = run.kept(tensor)[:steps]
    for step in np.flatnonzero(kept).tolist():
        if callable(cancelled) and cancelled():
            break
        try:
            values[step] = float(run.read(tensor, step))
            there[step] = True
        except NotKept:
            continue
    return Curve(tensor.name, values, there)


Pairs = Mapping[tuple[str, str], Curve | None]
"""Curves by role and side."""


def pair_text(
    curves: Pairs | None, roles: Sequence[str], step: int, width: int, *, plain: bool
) -> Text:
    """Return the curves of both runs on one scale, a step marked below the loss.

    Args:
        curves: The curves; None while they are read.
        roles: Which of them.
        step: The step, whose values stand before the curves.
        width: Of the screen.
        plain: Whether to use ASCII only.
    """
    text, room = Text(end="", no_wrap=True), max(10, width - 30)
    for role in roles:
        sides = [(curves or {}).get((role, side)) for side in "AB"]
        low, high = _range([one for one in sides if one is not None])
        steps = 0
        for side, colour, one in zip("AB", (BLUE, ORANGE), sides, strict=True):
            if one is None:
                words = "reading ..." if curves is None else "not recorded"
                text.append(f" {TITLES[role]} {side} {words}\n", "dim")
                continue
            steps = max(steps, len(one.values))
            text.append(f" {TITLES[role]} {side} {one.words(step, digits=9):<15} ")
            drawn = sparkline(one.values, room, low, high, ascii_only=plain, kept=one.kept)
            text.append(f"{drawn}\n", colour)
        if role == "loss" and steps:
            shown = min(room, steps)
            wide = room // shown if shown * 2 <= room else 1
            at = _LEFT + int(step * shown / steps) * wide
            text.append(" " * at + ("^" if plain else "▲") + "\n", "dim")
    text.rstrip()
    return text


def single_text(curves: Mapping[str, Curve | None], width: int, *, plain: bool) -> Text:
    """Return the curves of one run, by role; those that are not there yet are being read."""
    text, room = Text(end="", no_wrap=True), max(10, width - 30)
    for role, title in TITLES.items():
        one = curves.get(role)
        if one is None:
            words = "not recorded" if role in curves else "reading ..."
            text.append(f" {title} {words}\n", "dim")
            continue
        low, high = _range([one])
        text.append(f" {title:5} last {one.words(len(one.values) - 1, digits=7):<14} ")
        drawn = sparkline(one.values, room, low, high, ascii_only=plain, kept=one.kept)
        text.append(f"{drawn}\n", BLUE)
    text.rstrip()
    return text


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    known = [one.values[np.isfinite(one.values)] for one in curves]
    values = np.concatenate(known) if known else np.zeros(0)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
