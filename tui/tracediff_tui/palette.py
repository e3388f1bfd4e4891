"""Levels of difference and how they look: a glyph and a colour for each, never colour alone.

Pure: knows numbers and styles, no widgets. A level means the same on every screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.style import Style

if TYPE_CHECKING:
    from numpy.typing import NDArray

EQUAL, WORST = 0, 6
BROKEN, RESHAPED, UNKNOWN, ALONE, ABSENT = 7, 8, 9, 10, 11
"""Beyond the seven levels: NaN or infinity on one side, another shape, a difference of unknown
size (values not kept), no partner, nothing recorded."""

_SEVERITY = np.array([2, 3, 4, 5, 6, 7, 8, 11, 10, 9, 1, 0], np.uint8)
_BY_SEVERITY = np.argsort(_SEVERITY).astype(np.uint8)

GLYPHS = "·▁▂▃▄▅▆!#~? "
ASCII_GLYPHS = ".-:=+*%!#~? "
ORIGIN, PLAIN_ORIGIN = "◆", "O"
_RAMP = ("#213b6e", "#4c556c", "#6c6e72", "#8b8779", "#aca074", "#d1bb65")
_LIGHTER = ("#52668e", "#737a8c", "#8c8e91", "#a5a196", "#beb593", "#dbca87")
BLUE, ORANGE = "#56a8e8", "#e69f00"
"""The colours of run A and run B."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure of difference and the limits between its levels.

    Attributes:
        id: How it is called.
        title: What it is, for a legend.
        field: The field of a track's cells that holds it.
        limits: Six upper limits: a value up to the first is level 1, beyond the last but one 6.
        words: The meaning of the levels 1 to 6.
    """

    id: str
    title: str
    field: str
    limits: tuple[float, ...]
    words: tuple[str, ...]


METRICS = (
    Metric(
        "rel",
        "relative L2",
        "relative_l2",
        (1e-5, 1e-3, 1e-1),
        ("≤1ulp", "≤16ulp", "<1e-5", "<1e-3", "<1e-1", "≥1e-1"),
    ),
    Metric(
        "ulp",
        "largest distance in ulp",
        "max_ulp",
        (1, 16, 256, 65536, 2.0**24),
        ("≤1", "≤16", "≤256", "≤65536", "≤2^24", ">2^24"),
    ),
    Metric(
        "abs",
        "largest absolute difference",
        "max_abs",
        (1e-9, 1e-7, 1e-5, 1e-3, 1e-1),
        ("≤1e-9", "≤1e-7", "≤1e-5", "≤1e-3", "≤0.1", ">0.1"),
    ),
    Metric(
        "cos",
        "1 - cosine",
        "cosine",
        (1e-14, 1e-10, 1e-6, 1e-4, 1e-2),
        ("≤1e-14", "≤1e-10", "≤1e-6", "≤1e-4", "≤0.01", ">0.01"),
    ),
    Metric(
        "tol",
        "times what rounding explains",
        "tolerance",
        (0.01, 0.1, 1.0, 10.0, 100.0),
        ("≤0.01", "≤0.1", "≤1", "≤10", "≤100", ">100"),
    ),
)
"""What the overview can colour by; `m` goes round."""


def levels(
    metric: Metric, cells: NDArray[np.void], tolerance: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return the level of every cell of a track under a metric.

    Args:
        metric: By what.
        cells: The cells of a track.
        tolerance: The relative L2 that rounding explains, one a cell.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric.id == "rel":
            values = cells["relative_l2"]
            result = 3 + np.searchsorted(metric.limits, values, side="right")
            result = np.where(cells["max_ulp"] <= 16, 2, result)
            result = np.where(cells["max_ulp"] <= 1, 1, result)
            # Integers have no ulp: their cells say 0, which is no distance.
            integers = (cells["max_ulp"] == 0) & (values > 0)
            graded = 3 + np.searchsorted(metric.limits, values, side="right")
            result = np.where(integers, graded, result)
        else:
            result = 1 + np.searchsorted(metric.limits, _measured(metric, cells, tolerance))
            if metric.id != "tol":
                # A sketch tells norms, and nothing of single elements.
                result = np.where(cells["estimated"], UNKNOWN, result)
        # A lower bound within rounding says nothing of how much it is; one beyond, that it is that.
        beyond = (cells["relative_l2"] > tolerance) & (metric.id in ("rel", "tol"))
        result = np.where(cells["at_least"] & ~beyond, UNKNOWN, result)
    result = np.where(cells["differs"], result, EQUAL)
    result = np.where(cells["differs"] & ~cells["known"], UNKNOWN, result)
    result = np.where(cells["mismatched"] > 0, BROKEN, result)
    result = np.where(cells["reshaped"], RESHAPED, result)
    return np.where(cells["present"], result, ABSENT).astype(np.uint8)


def _measured(
    metric: Metric, cells: NDArray[np.void], tolerance: NDArray[np.float64]
) -> NDArray[np.float64]:
    if metric.id == "tol":
        return np.asarray(np.nan_to_num(cells["relative_l2"] / tolerance, nan=0.0))
    if metric.id == "cos":
        return np.asarray(1.0 - np.nan_to_num(cells["cosine"], nan=1.0))
    return np.asarray(cells[metric.field], np.float64)


def element_levels(
    distance: NDArray[np.float64], relative: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return the levels of single elements, by distance in ulp and relative error."""
    result = 3 + np.searchsorted(METRICS[0].limits, np.nan_to_num(relative, nan=0.0), side="right")
    result = np.where(distance <= 16, 2, result)
    result = np.where(distance <= 1, 1, result)
    result = np.where(distance == 0, EQUAL, result)
    result = np.where((distance == 0) & (relative > 0), 3, result)
    return np.where(np.isnan(relative), BROKEN, result).astype(np.uint8)


def worst_in(grid: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the worst level in each bin of steps: never a mean.

    Args:
        grid: Levels, one row a tensor, one column a step.
        starts: Where each bin begins; the last one reaches to the end.
    """
    if not grid.size or not len(starts):
        return np.zeros((len(grid), len(starts)), np.uint8)
    return np.asarray(_BY_SEVERITY[np.maximum.reduceat(_SEVERITY[grid], starts, axis=1)])


def severity(level: int) -> int:
    """Return where a level stands among all, for sorting; the worst is largest."""
    return int(_SEVERITY[level])


def glyph(level: int, *, ascii_only: bool = False) -> str:
    """Return the character that stands for a level."""
    return (ASCII_GLYPHS if ascii_only else GLYPHS)[level]


def style(level: int) -> Style:
    """Return how a level is coloured; the glyph says the same without colour."""
    if 1 <= level <= WORST:
        return Style(color=_LIGHTER[level - 1], bgcolor=_RAMP[level - 1])
    if level in (BROKEN, RESHAPED):
        return Style(color="#fee838", bgcolor="#000000", bold=True)
    if level == UNKNOWN:
        return Style(color="#dcd8c8", bgcolor="#4c556c")
    return Style(dim=True)


def legend(metric: Metric) -> list[tuple[int, str]]:
    """Return every level with its meaning under a metric, for the legend."""
    words = [(0, "equal"), *enumerate(metric.words, start=1)]
    return [
        *words,
        (BROKEN, "nan/inf"),
        (RESHAPED, "shape"),
        (UNKNOWN, "not kept"),
        (ALONE, "no partner"),
    ]
