"""Figures that rows of the report have in common, taken from tracks and series of drift."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import Track
from tracediff.model import RelativeL2, Stage
from tracediff.onset import first_true, stage_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ratio(above: float, below: float) -> float:
    """Return a ratio, NaN where there is none."""
    return above / below if below > 0.0 else math.nan


def nan_safe(function: Callable[[Any], Any], values: NDArray[np.float64]) -> float:
    """Return a figure of the values that are known: 0 of none at all, NaN of unknown ones only."""
    known = values[~np.isnan(values)]
    if not values.size:
        return 0.0
    return float(function(known)) if known.size else math.nan


def smallest(values: NDArray[np.float64]) -> float | None:
    """Return the smallest of the values that are known, or None."""
    known = values[~np.isnan(values)]
    return float(known.min()) if known.size else None


def summarised(series: NDArray[np.float64], *, apart: NDArray[np.bool_]) -> RelativeL2:
    """Return the summary of a drift.

    Args:
        series: Relative L2 at each step that was compared.
        apart: At which of these bits differ.
    """
    differing = series[apart]
    return RelativeL2(
        first=float(differing[0]) if differing.size else 0.0,
        median=nan_safe(np.median, series),
        last=float(series[-1]) if series.size else math.nan,
        max=nan_safe(np.max, series),
    )


def first_bits(track: Track) -> tuple[int | None, Stage | None]:
    """Return the step and the stage at which the bits of a tensor first differ."""
    after = first_true(track.after["differs"])
    if track.before is not None:
        before = first_true(track.before["differs"])
        if before is not None and (after is None or before <= after):
            return before, "state"
    return after, None if after is None else stage_of(track.pair.role, "after")
