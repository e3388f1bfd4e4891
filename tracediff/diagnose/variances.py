"""Tell by which factor the variances differ that batch normalisation takes into its moving ones.

A moving variance hides them: it keeps all but a few per cent of what it was. What a step put in is
(after - momentum before) / (1 - momentum). Frameworks multiply it by N / (N - 1), or by no more
than 1, with N the values of a channel in the batch; that is one factor for all channels at every
step, which rounding is not, however small beside the moving variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.names import class_name, model_layers
from tracediff.tolerance import EPS32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tracediff.model import Pair
    from tracediff.trace import Run

    Values = NDArray[np.float64]

_STEPS = 40
"""Steps that are looked at, at most."""
_LEAST = 1e-4
"""How far a factor must be from 1: variances of large means lose digits, and some are biased."""
_CLEAR = 10.0
"""How many standard errors of its estimate it must be from 1 besides."""
_FITS = 0.5
"""Part of what the factor explains that may be left, where more is left than rounding."""
_ROUNDING = 2.0
"""Epsilons of the moving variance that rounding leaves in one update of it, root mean square."""


@dataclass(frozen=True, slots=True)
class VarianceFactor:
    """One factor between the variances that went into two moving ones.

    Attributes:
        value: B's over A's.
        error: The standard error of that.
        step: The first of the steps that it was told from.
        steps: How many these were.
    """

    value: float
    error: float
    step: int
    steps: int


def variance_factor(a: Run, b: Run, pair: Pair, steps: Iterable[int]) -> VarianceFactor | None:
    """Return the factor between the variances of the batches, or None where there is no one.

    Args:
        a: The first run.
        b: The second run, aligned.
        pair: A moving variance.
        steps: Those at which it differs, and all that went in agrees; in order.
    """
    momentum = _momentum(a, pair)
    if momentum is None or momentum != _momentum(b, pair) or not 0.0 < momentum < 1.0:
        return None
    chosen, rows = [], []
    for step in list(steps)[:_STEPS]:
        a_ends, b_ends = (_ends(run, name, step) for run, name in ((a, pair.a), (b, pair.b)))
        if a_ends is not None and b_ends is not None and a_ends.shape == b_ends.shape:
            chosen.append(step)
            rows.append((a_ends, b_ends))
    if len(rows) < 2:
        return None  # One batch might have its factor by chance.
    found = _fitted(np.concatenate(rows, axis=-1), momentum)
    return None if found is None else VarianceFactor(*found, chosen[0], len(chosen))


def _momentum(run: Run, pair: Pair) -> float | None:
    for layer in model_layers(run.about):
        if layer.get("name") != pair.layer:
            continue
        value = (layer.get("config") or {}).get("momentum")
        normalises = "BatchNormalization" in class_name(layer.get("class"))
        return float(value) if normalises and isinstance(value, (int, float)) else None
    return None


def _ends(run: Run, name: str | None, step: int) -> Values | None:
    """Return a moving variance before and after a step; (2, channels)."""
    tensor = None if name is None else run.find("weight", name)
    if tensor is None or tensor.dtype != "float32" or step >= run.steps:
        return None
    if not all(run.kept(tensor, moment)[step] for moment in ("before", "after")):
        return None
    ends = (run.read(tensor, step, moment) for moment in ("before", "after"))
    return np.stack([one.astype(np.float64).reshape(-1) for one in ends])


def _fitted(ends: Values, momentum: float) -> tuple[float, float] | None:
    """Return the factor and its standard error, or None where it is none, or 1.

    B's update less A's is (1 - m) ((f - 1) s + d (s - v)) and rounding, with s what A took in, v
    what stood there, and d the relative rounding of 1 - m. Both are fitted by least squares.

    Args:
        ends: Before and after, of A and of B; (2, 2, channels of all steps).
        momentum: Of the moving variance.
    """
    (before, after), (before_b, after_b) = ends
    if not np.isfinite(ends).all():
        return None
    share = 1.0 - momentum
    entered = (after - momentum * before) / share
    apart = (after_b - momentum * before_b) - (after - momentum * before)
    terms = share * np.stack([entered, entered - before], axis=1)
    values, _, rank, _ = np.linalg.lstsq(terms, apart)
    if rank < 2 or len(apart) <= 2:
        return None
    left = apart - terms @ values
    noise = float(np.sqrt(left @ left / (len(left) - 2)))
    error = noise * float(np.sqrt(np.linalg.inv(terms.T @ terms)[0, 0]))
    explained = float(np.linalg.norm(terms[:, 0] * values[0]) / np.sqrt(len(apart)))
    rounding = _ROUNDING * EPS32 * float(np.sqrt(np.mean(after * after)))
    clear = abs(values[0]) > max(_LEAST, _CLEAR * error)
    return (
        (1.0 + float(values[0]), error)
        if clear and noise <= max(rounding, _FITS * explained)
        else None
    )
