"""The shape of a drift over the steps: none, constant, linear, a jump, or exponential.

A description for the reader of a report. No verdict hangs on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracediff.model import Growth

if TYPE_CHECKING:
    from numpy.typing import NDArray

JUMP_FACTOR = 10.0
"""A step-to-step factor of the running maximum beyond which the drift jumped."""
ROUNDING_LEVEL = 1e-6
"""Relative L2 below which a rise from nothing is rounding coming in, not a jump."""
_STEADY = 3.0
"""Less growth than this between the first and the last quarter counts as constant."""


def growth(series: NDArray[np.float64]) -> tuple[Growth, int | None]:
    """Name the shape of a drift.

    The running maximum is looked at from the first non-zero entry on. A rise by more than
    `JUMP_FACTOR` in one step, to above `ROUNDING_LEVEL`, is a jump (the largest one is named); a
    drift that starts above rounding at the first entry did not jump, it was there. Otherwise: less
    than threefold growth between the medians of the first and the last quarter is ``constant``;
    else the better of two least-squares fits to the logarithm decides, a straight line over steps
    (``exponential``) or over the logarithm of steps (a power of the step count: ``linear``).

    Args:
        series: Relative L2 per step, >= 0; NaN where it is not known.

    Returns:
        The shape, and the index of the jump where there is one.

    Example:
        >>> growth(np.array([0.0, 0.0, 0.3, 0.31, 0.3]))
        ('jump', 2)
        >>> growth(np.linspace(1e-7, 1e-5, 50))
        ('linear', None)
        >>> growth(1e-8 * 1.3 ** np.arange(60))
        ('exponential', None)
    """
    known = np.nan_to_num(series, nan=0.0, posinf=1e300)
    nonzero = np.flatnonzero(known > 0.0)
    if not nonzero.size:
        return "none", None
    envelope = np.maximum.accumulate(known)
    floored = np.maximum(envelope, ROUNDING_LEVEL)
    ratios = floored[1:] / floored[:-1]
    if ratios.size and ratios.max() > JUMP_FACTOR:
        return "jump", int(np.argmax(ratios)) + 1
    values = known[nonzero[0] :]
    values = values[values > 0.0]
    if values.size < 4:
        return "constant", None
    quarter = max(1, values.size // 4)
    if np.median(values[-quarter:]) < _STEADY * np.median(values[:quarter]):
        return "constant", None
    steps = np.arange(1.0, values.size + 1.0)
    logs = np.log(values)
    exponential = _residual(steps, logs)
    linear = _residual(np.log(steps), logs)
    return ("exponential" if exponential < linear else "linear"), None


def _residual(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    design = np.stack([x, np.ones_like(x)], axis=1)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(np.sum((design @ solution - y) ** 2))
