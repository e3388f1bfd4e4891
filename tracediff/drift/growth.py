"""The shape of a drift over the steps: none, constant, linear, a jump, or exponential.

A description for the reader of a report. No verdict hangs on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tracediff.model import Growth, GrowthFit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

JUMP_FACTOR = 10.0
"""A step-to-step factor of the running maximum beyond which the drift jumped."""
ROUNDING_LEVEL = 1e-6
"""Relative L2 below which a rise from nothing is rounding coming in, not a jump."""
STEADY_FACTOR = 3.0
"""Less growth than this between the first and the last quarter counts as constant.

The medians of the quarters stand at an eighth and at seven eighths of the steps. Errors of random
sign, which add up as the root of the step count, grow by sqrt(7) = 2.6 between these; errors of one
sign, which something makes at every step, by 7.
"""
_FEWEST = 4
"""Steps that a fit takes at least."""
_LEVELLED = 0.25
"""Share of the steps that a drift must stay level for at the end, to count as levelled off."""
_EXACT = 1e-12
"""Mean square of logarithms below which two fits are both exact."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a drift goes on over the steps.

    Attributes:
        shape: What it is called.
        jump: The index of the jump, for shape ``jump``.
        fit: What was fitted, with steps as indices of the series; None where nothing was.
    """

    shape: Growth
    jump: int | None = None
    fit: GrowthFit | None = None

    def moved(self, by: int) -> Course:
        """Return the same with the indices moved, to 0 at least."""
        fit = self.fit
        if fit is not None:
            ends = (max(0, fit.first_step + by), max(0, fit.last_step + by))
            fit = replace(fit, first_step=ends[0], last_step=ends[1])
        return Course(self.shape, None if self.jump is None else max(0, self.jump + by), fit)


def growth(series: Numbers, *, shape: Growth | None = None) -> Course:
    """Name the shape of a drift, and fit it.

    The running maximum is looked at from the first non-zero entry on. A rise by more than
    `JUMP_FACTOR` in one step, to above `ROUNDING_LEVEL`, is a jump (the largest one is named); a
    drift that starts above rounding at the first entry did not jump, it was there. Otherwise:
    growth by less than `STEADY_FACTOR` between the medians of the first and the last quarter is
    ``constant``;
    else the better of two least-squares fits to the logarithm decides, a straight line over steps
    (``exponential``) or over the logarithm of steps (a power of the step count: ``linear``). Either
    may level off: its last quarter or more is a constant then, if the Bayesian information
    criterion (Schwarz, The Annals of Statistics 6, 1978) favours that, and the line is fitted to
    what comes before.

    Args:
        series: Relative L2 per step, >= 0; NaN where it is not known.
        shape: What to call it where that is known already; it is only fitted then.

    Returns:
        The shape, the jump where there is one, and the fit of a shape that grows.

    Example:
        >>> growth(np.array([0.0, 0.0, 0.3, 0.31, 0.3])).jump
        2
        >>> growth(np.linspace(1e-7, 1e-5, 50)).shape
        'linear'
        >>> round(growth(1e-8 * 2.0 ** (np.arange(60) / 3)).fit.doubling_steps, 6)
        3.0
    """
    known = np.nan_to_num(series, nan=0.0, posinf=1e300)
    places = np.flatnonzero(known > 0.0)
    if not places.size:
        return Course("none")
    if shape is None:
        there = np.flatnonzero(~np.isnan(series))
        envelope = np.maximum(np.maximum.accumulate(known[there]), ROUNDING_LEVEL)
        # Over unknown steps it may have grown by as much at each.
        ratios = (envelope[1:] / envelope[:-1]) ** (1.0 / np.diff(there))
        if ratios.size and ratios.max() > JUMP_FACTOR:
            jump = int(there[np.argmax(ratios) + 1])
            return Course("jump", jump, _two_levels(series, jump))
    values = known[places]
    if values.size < _FEWEST:
        return Course(shape or "constant")
    quarter = values.size // 4
    if shape is None and np.median(values[-quarter:]) < STEADY_FACTOR * np.median(values[:quarter]):
        return Course("constant")
    # Step counts of the drift itself: the first step at which it is not zero is number one.
    steps = (places - places[0] + 1).astype(np.float64)
    logs = np.log(values)
    straight, power = _fitted(steps, logs), _fitted(np.log(steps), logs)
    if shape is None:
        shape = "exponential" if straight.criterion < power.criterion else "linear"
    first, count = int(places[0]), straight.count if shape == "exponential" else power.count
    last = int(places[count - 1])
    if shape == "exponential":
        doubling = float(np.log(2.0) / straight.slope) if straight.slope > 0.0 else None
        return Course(
            shape, None, GrowthFit(straight.slope, doubling, None, straight.r_squared, first, last)
        )
    slope, r_squared, _ = _line(steps[:count], values[:count])
    return Course(shape, None, GrowthFit(slope, None, power.slope, r_squared, first, last))


@dataclass(frozen=True, slots=True)
class _Fit:
    """A line through the first ``count`` points, and a level through the rest."""

    slope: float
    r_squared: float
    count: int
    criterion: float


def _fitted(x: Numbers, y: Numbers) -> _Fit:
    size = len(x)
    whole = _line(x, y)[2]
    # Sums over the first k points, for every k at once; centred, so that squares do not cancel.
    along, up = x - x.mean(), y - y.mean()
    counts = np.arange(1.0, size + 1.0)
    xx, xy, yy = (np.cumsum(one) for one in (along * along, along * up, up * up))
    sx, sy = np.cumsum(along), np.cumsum(up)
    spread = xx - sx * sx / counts
    with np.errstate(divide="ignore", invalid="ignore"):
        line = yy - sy * sy / counts - (xy - sx * sy / counts) ** 2 / spread
    rest = size - counts
    with np.errstate(divide="ignore", invalid="ignore"):
        level = (yy[-1] - yy) - (sy[-1] - sy) ** 2 / rest
    broken = np.maximum(line, 0.0) + np.maximum(level, 0.0)
    allowed = (counts >= 2 * _FEWEST) & (rest >= max(_FEWEST, _LEVELLED * size))
    broken = np.where(allowed, np.nan_to_num(broken, nan=np.inf), np.inf)
    best = int(np.argmin(broken))
    # A line has two numbers; one that levels off has the level and the place besides.
    candidates = [(_criterion(whole, size, 2), size)]
    if np.isfinite(broken[best]):
        candidates.append((_criterion(float(broken[best]), size, 4), best + 1))
    criterion, count = min(candidates)
    slope, r_squared, _ = _line(x[:count], y[:count])
    if slope <= 0.0:
        # What did not grow did not level off.
        criterion, count = candidates[0]
        slope, r_squared, _ = _line(x, y)
    return _Fit(slope, r_squared, count, criterion)


def _criterion(squares: float, size: int, numbers: int) -> float:
    return float(size * np.log(max(squares / size, _EXACT)) + numbers * np.log(size))


def _line(x: Numbers, y: Numbers) -> tuple[float, float, float]:
    """Return the slope of the least-squares line, the variance it explains, and what it leaves.

    The second is a share, the third a sum of squares.
    """
    along, up = x - x.mean(), y - y.mean()
    spread = float(along @ along)
    slope = float(along @ up) / spread if spread > 0.0 else 0.0
    left = _squares(up - slope * along)
    return slope, _explained(left, _squares(up)), left


def _squares(values: Numbers) -> float:
    return float(values @ values)


def _explained(left: float, total: float) -> float:
    return 1.0 - left / total if total > 0.0 else 1.0


def _two_levels(series: Numbers, jump: int) -> GrowthFit:
    """Return how well a level before and one after a jump describe a drift."""
    places = np.flatnonzero(~np.isnan(series))
    # Nobody's drift is that large, and squares of it would overflow.
    values = np.minimum(series[places], 1e150)
    sides = [one for one in (values[places < jump], values[places >= jump]) if one.size]
    left = sum(_squares(one - one.mean()) for one in sides)
    share = _explained(left, _squares(values - values.mean()))
    return GrowthFit(None, None, None, share, int(places[0]), int(places[-1]))
