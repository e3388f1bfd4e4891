"""The tables of drift, of tensors and of layers: which rows in which order, and their cells."""

from __future__ import annotations

import math

from tracediff.model import DriftRow, GrowthFit, LayerPart, LayerRow
from tracediff.report.comparison._numbers import least, number, whole
from tracediff.report.terminal import printable

DRIFT_HEADER = (
    "tensor",
    "role",
    "bits",
    "beyond",
    "first",
    "median",
    "last",
    "max",
    "ulp",
    "cosine",
    "growth",
)
DRIFT_ALIGN = "llrrrrrrrrl"
DRIFT_SPARE = ("median", "cosine", "first", "ulp", "last")
"""Columns that a narrow terminal goes without, the least missed first."""
SHORT_ROLES = {"applied_gradient": "applied", "learning_rate": "rate", "sample_weight": "weighting"}


def drift_cells(row: DriftRow) -> list[str]:
    """Return the cells of a tensor's row in the table of drift, in the order of the header."""
    drift = row.relative_l2
    marks = [growth(row)]
    if row.noise_driven:
        marks.append("noise")
    elif row.origin:
        marks.append("origin")
    return [
        printable(row.tensor),
        SHORT_ROLES.get(row.role, row.role),
        "-" if row.first_step is None else str(row.first_step),
        "-" if row.first_significant_step is None else str(row.first_significant_step),
        least(drift.first, at_least=row.at_least, digits=2),
        least(drift.median, at_least=row.at_least, digits=2),
        least(drift.last, at_least=row.at_least, digits=2),
        least(drift.max, at_least=row.at_least, digits=2),
        whole(row.max_ulp),
        "" if row.cosine is None else f"{row.cosine:.3f}",
        ", ".join(marks),
    ]


def growth(row: DriftRow | LayerPart) -> str:
    """Return the shape of a drift with what was fitted to it.

    Examples: ``jump @37``, ``exponential x2/12`` (it doubles in 12 steps), ``linear +3e-08`` (a
    step).
    """
    fit = row.growth_fit
    if row.growth == "jump" and row.jump_step is not None:
        return f"jump @{row.jump_step}"
    if fit is None or fit.rate is None:
        return str(row.growth)
    if row.growth == "linear":
        return f"linear {fit.rate:+.1g}"
    return str(row.growth) if fit.doubling_steps is None else f"exponential x2/{_steps(fit)}"


def _steps(fit: GrowthFit) -> str:
    return number(fit.doubling_steps, digits=2 if (fit.doubling_steps or 0.0) < _WHOLE else 4)


_WHOLE = 100.0
"""From so many steps on, doubling is told to whole steps."""

LAYERS = "The largest relative L2 of any step, of a layer's tensors taken together"
LAYER_HEADER = (
    "layer",
    "bits",
    "beyond",
    "output",
    "gradient",
    "slots",
    "update",
    "weight",
    "growth",
)
LAYER_ALIGN = "lrrrrrrrl"
LAYER_SPARE = ("slots", "output", "gradient")
"""Columns that a narrow terminal goes without, the least missed first."""


def layer_cells(row: LayerRow) -> list[str]:
    """Return the cells of a layer's row in the table of layers, in the order of the header."""
    marks = []
    course = next((part for part in map(row.part, ("weight", "activation")) if part), None)
    if course is None and row.parts:
        course = row.parts[0]
    if course is not None:
        marks.append(growth(course))
    if row.origin:
        marks.append("origin")
    applied = row.part("applied_gradient")
    return [
        printable(row.layer),
        "-" if row.first_step is None else str(row.first_step),
        "-" if row.first_significant_step is None else str(row.first_significant_step),
        _largest(row.part("activation")),
        _largest(row.part("gradient") or applied),
        _largest(*(part for part in row.parts if part.role == "slot")),
        _largest(row.part("update")),
        _largest(row.part("weight")),
        ", ".join(marks),
    ]


def _largest(*parts: LayerPart | None) -> str:
    """Return the largest drift of any part; nothing where there is none."""
    known = [part.relative_l2.max for part in parts if part is not None]
    if not known:
        return ""
    at_least = any(part.at_least for part in parts if part is not None)
    largest = math.nan if any(map(math.isnan, known)) else max(known)
    return least(largest, at_least=at_least, digits=2)


def ranked_layers(rows: tuple[LayerRow, ...]) -> list[LayerRow]:
    """Return the layers that differ: those that diverge first, then in execution order."""

    def key(row: LayerRow) -> tuple[float, bool, int]:
        beyond = math.inf if row.first_significant_step is None else row.first_significant_step
        return beyond, not row.origin, row.order

    return sorted((row for row in rows if row.first_step is not None), key=key)


def ranked(rows: tuple[DriftRow, ...]) -> list[DriftRow]:
    """Return the rows that differ: those that diverge first, then by first bit and size."""

    def key(row: DriftRow) -> tuple[float, bool, float, float]:
        beyond = math.inf if row.first_significant_step is None else row.first_significant_step
        first = math.inf if row.first_step is None else row.first_step
        largest = row.relative_l2.max
        return beyond, not row.origin, first, -(math.inf if math.isnan(largest) else largest)

    return sorted((row for row in rows if row.first_step is not None), key=key)
