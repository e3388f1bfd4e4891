"""Compare what one step did to a weight, seeing through differences that the step inherited."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AMPLIFICATION = 4.0
"""How much a relative difference of a gradient or slot may grow in an update.

Adam's update m / sqrt(v) has the relative error of m plus half that of v; other rules are nearer
to 1. Four leaves room for several slots at once.
"""
NOISE_LEVEL = 5e-6
"""Differences of a gradient's element below this share of the gradient's RMS are rounding."""
_AMPLIFIED = 1e-4
"""An element whose gradient differs by more than this, at rounding level, is noise itself."""


@dataclass(frozen=True, slots=True)
class UpdateDrift:
    """How the change that a step made to a weight differs between two runs.

    Attributes:
        norm: The larger of the L2 norms of both changes.
        norm_difference: L2 norm of the difference of the changes.
        unexplained: L2 norm of what is left after allowing each element `AMPLIFICATION` times the
            relative difference of the gradient and slots that went into it, and `STATE_FEEDBACK`
            times the difference of the weight itself.
        noise: L2 norm of the difference over those elements whose gradient is rounding noise in
            both runs, which adaptive optimizers turn into updates of full size.
        weight_norm: The larger of the L2 norms of the weight after the step.
    """

    norm: float
    norm_difference: float
    unexplained: float
    noise: float
    weight_norm: float


STATE_FEEDBACK = 1e-2
"""How much of a weight's own difference may enter its update, by decay or a constraint."""


def measure_update(
    a: tuple[NDArray[np.generic], NDArray[np.generic]],
    b: tuple[NDArray[np.generic], NDArray[np.generic]],
    *,
    gradient: tuple[NDArray[np.generic], NDArray[np.generic]] | None = None,
    slots: Sequence[tuple[NDArray[np.generic], NDArray[np.generic]]] = (),
) -> UpdateDrift:
    """Measure how two updates of a weight differ, and how much of that was inherited.

    Args:
        a: The weight before and after the step in run A, any shape.
        b: The same in run B, of the same shape.
        gradient: The applied gradient in A and B, or None where it was not recorded.
        slots: Each slot before the step in A and B, if of the weight's shape.
    """
    before_a, after_a, before_b, after_b = (_flat(array) for array in (*a, *b))
    update_a, update_b = after_a - before_a, after_b - before_b
    difference = np.abs(update_a - update_b)
    larger = np.maximum(np.abs(update_a), np.abs(update_b))
    inherited = np.zeros_like(difference)
    noisy = np.zeros(difference.shape, bool)
    for pair in ([gradient] if gradient is not None else []) + list(slots):
        one, other = _flat(pair[0]), _flat(pair[1])
        if one.size == difference.size == other.size:
            inherited = np.maximum(inherited, _relative(one, other))
    if gradient is not None:
        one, other = _flat(gradient[0]), _flat(gradient[1])
        if one.size == difference.size == other.size:
            rms = max(_norm(one), _norm(other)) / math.sqrt(max(1, one.size))
            noisy = (np.abs(one - other) <= NOISE_LEVEL * rms) & (inherited > _AMPLIFIED)
    allowed = AMPLIFICATION * inherited * larger + STATE_FEEDBACK * np.abs(before_a - before_b)
    unexplained = np.maximum(difference - allowed, 0.0)
    return UpdateDrift(
        norm=max(_norm(update_a), _norm(update_b)),
        norm_difference=_norm(difference),
        unexplained=_norm(unexplained),
        noise=_norm(difference[noisy]),
        weight_norm=max(_norm(after_a), _norm(after_b)),
    )


def _flat(array: NDArray[np.generic]) -> NDArray[np.float64]:
    return array.astype(np.float64).reshape(-1)


def _norm(values: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.dot(values, values)))


def _relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.maximum(np.abs(a), np.abs(b))
    return np.divide(np.abs(a - b), size, out=np.zeros_like(size), where=size > 0.0)
