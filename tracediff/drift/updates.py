"""Compare what steps did to a weight, seeing through differences that the steps inherited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import single
from tracediff.drift.scratch import Scratch
from tracediff.drift.sums import BLOCK, SHORT, SUMS, block_sums, cuts, dots, total

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]
    Both = tuple[Values, Values]

AMPLIFICATION = 4.0
"""How much a relative difference of a gradient or slot may grow in an update.

Adam's update m / sqrt(v) has the relative error of m plus half that of v; other rules are nearer
to 1. Four leaves room for several slots at once.
"""
NOISE_LEVEL = 5e-6
"""Differences of a gradient's element below this share of the gradient's RMS are rounding."""
_AMPLIFIED = 1e-4
"""An element whose gradient differs by more than this, at rounding level, is noise itself."""
STATE_FEEDBACK = 1e-2
"""How much of a weight's own difference may enter its update, by decay or a constraint."""

UPDATE = np.dtype(
    [
        ("present", np.bool_),  # the updates differ, and all that it takes to compare them was kept
        ("norm", np.float64),
        ("norm_difference", np.float64),
        ("unexplained", np.float64),
        ("noise", np.float64),
        ("weight_norm", np.float64),
    ]
)
"""A weight's update in a step; what each number means stands with `UpdateDrift`."""


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


def measure_update(
    a: Both, b: Both, *, gradient: Both | None = None, slots: Sequence[Both] = ()
) -> UpdateDrift:
    """Measure how two updates of a weight differ, and how much of that was inherited.

    Args:
        a: The weight before and after the step in run A, any shape.
        b: The same in run B, of the same shape.
        gradient: The applied gradient in A and B, or None where it was not recorded.
        slots: Each slot before the step in A and B, if of the weight's shape.
    """
    state = tuple(array.reshape(1, -1) for array in (*a, *b))
    inputs = [(x.reshape(1, -1), y.reshape(1, -1)) for x, y in slots]
    fed = None if gradient is None else (gradient[0].reshape(1, -1), gradient[1].reshape(1, -1))
    found = update_rows(state, gradient=fed, slots=inputs)[0][0]
    return UpdateDrift(*(float(found[name]) for name in (UPDATE.names or ())[1:]))


def update_rows(
    state: Sequence[Values],
    *,
    gradient: Both | None = None,
    slots: Sequence[Both] = (),
    unit: np.dtype[Any] | None = None,
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Measure many updates of one weight at once.

    Args:
        state: The weight before and after the steps in A, before and after in B; each of shape
            (rows, elements).
        gradient: The applied gradient in A and B, or None; used if of that shape.
        slots: Each slot before the steps in A and B; used if of that shape.
        unit: The dtype in whose units in the last place updates are compared; None for no such.

    Returns:
        A record of `UPDATE` a row, and one of `SUMS` over the updates as such.
    """
    rows, elements = state[0].shape
    shape = (rows, elements)
    usable = gradient is not None and gradient[0].shape == shape == gradient[1].shape
    pairs = [gradient] if usable and gradient is not None else []
    pairs += [pair for pair in slots if pair[0].shape == shape == pair[1].shape]
    result, moves = np.zeros(rows, UPDATE), np.zeros(rows, SUMS)
    noise_level = np.zeros(rows)
    if usable and gradient is not None:
        squares = np.maximum(_squares(gradient[0]), _squares(gradient[1]))
        noise_level = NOISE_LEVEL * np.sqrt(squares / max(1, elements))
    squares = np.zeros((rows, len(_SQUARES)))
    quick = elements > SHORT and single.suits(*state, *(array for pair in pairs for array in pair))
    for number in range(rows if quick else 0):
        level = float(noise_level[number]) if usable else None
        fed = [(x[number], y[number]) for x, y in pairs]
        squares[number], moves[number] = _quick([x[number] for x in state], fed, level, unit)
    for row, cut in () if quick else cuts(rows, elements):
        with np.errstate(over="ignore", invalid="ignore"):
            found, moved = _summed(
                [cut(array) for array in state],
                [(cut(x), cut(y)) for x, y in pairs],
                noise_level[row] if usable else None,
                unit,
            )
        squares[row] += found
        moves[row] = moved if elements <= SHORT else total(np.concatenate([moves[row], moved]))
    norms = dict(zip(_SQUARES, np.sqrt(squares).T, strict=True))
    result["present"] = True
    larger = np.maximum(moves["square_a"], moves["square_b"])
    result["norm"], result["norm_difference"] = np.sqrt(larger), np.sqrt(moves["square_difference"])
    result["unexplained"], result["noise"] = norms["unexplained"], norms["noise"]
    result["weight_norm"] = np.maximum(norms["after_a"], norms["after_b"])
    return result, moves


_SQUARES = ("unexplained", "noise", "after_a", "after_b")


def _quick(
    state: Sequence[Values],
    pairs: Sequence[Both],
    noise_level: float | None,
    unit: np.dtype[Any] | None,
) -> tuple[NDArray[np.float64], NDArray[np.void]]:
    """Return the sums of `_SQUARES` and of `SUMS` over a long row of float32."""
    size = state[0].size
    starts = range(0, size, single.BLOCK)
    moves = np.zeros(len(starts), SUMS)
    squares = np.zeros(len(_SQUARES))
    shares = STATE_FEEDBACK, AMPLIFICATION, _AMPLIFIED
    with np.errstate(over="ignore", invalid="ignore"):
        for number, start in enumerate(starts):
            span = slice(start, start + single.BLOCK)
            here = [array[span] for array in state]
            fed = [(x[span], y[span]) for x, y in pairs]
            record = moves[number : number + 1].reshape(())
            found = single.update_sums(
                here, fed, noise_level=noise_level, shares=shares, moves=record
            )
            if found is None:
                level = None if noise_level is None else np.array([noise_level])
                wide, moves[number] = _summed(here, fed, level, unit)
                found = tuple(wide[0])
            squares += found
    result = total(moves)
    result["same_sign"] = -1
    return squares, result[0]


def _squares(values: Values) -> NDArray[np.float64]:
    """Return the square of the L2 norm of each row."""
    result = np.zeros(len(values))
    for row, cut in cuts(*values.shape):
        part = cut(values)
        with np.errstate(over="ignore", invalid="ignore"):
            quick = single.square(part) if part.ndim == 1 and single.suits(part) else np.nan
        if not np.isnan(quick):
            result[row] += quick
            continue
        wide = _scratch.wide("squares", part)
        result[row] += dots(wide, wide)
    return result


def _summed(
    state: Sequence[Values],
    pairs: Sequence[Both],
    noise_level: NDArray[np.float64] | None,
    unit: np.dtype[Any] | None,
) -> tuple[NDArray[np.float64], NDArray[np.void]]:
    """Return the sums of `_SQUARES` and of `SUMS` over a block."""
    wide = [_scratch.wide(f"state {number}", array) for number, array in enumerate(state)]
    one, other = (
        np.subtract(wide[k + 1], wide[k], out=_scratch.get(f"update {k}", wide[k], np.float64))
        for k in (0, 2)
    )
    weights = [dots(wide[k], wide[k]) for k in (1, 3)]
    moves = block_sums(one, other, unit)
    difference = _scratch.get("difference", wide[0], np.float64)
    np.abs(np.subtract(one, other, out=difference), out=difference)
    rest = _scratch.get("rest", wide[0], np.float64)
    np.abs(np.subtract(wide[0], wide[2], out=rest), out=rest)
    rest *= -STATE_FEEDBACK
    rest += difference
    noise: Any = 0.0
    if pairs:
        inherited, first = _inherited(pairs)
        if noise_level is not None:
            noisy = (first <= noise_level) & (inherited > _AMPLIFIED)
            if noisy.any():
                alone = np.where(noisy, difference, 0.0)
                noise = dots(alone, alone)
        inherited *= AMPLIFICATION
        larger = np.maximum(np.abs(one, out=one), np.abs(other, out=other), out=difference)
        inherited *= larger
        rest -= inherited
    np.maximum(rest, 0.0, out=rest)
    sums = np.zeros((moves.size, len(_SQUARES)))
    for number, value in enumerate((dots(rest, rest), noise, *weights)):
        sums[:, number] = value
    return sums, moves.reshape(-1)


def _inherited(pairs: Sequence[Both]) -> tuple[Values, Values]:
    """Return the largest relative difference of what went in, and the first one's difference."""
    result = first = None
    for a, b in pairs:
        wide_a, wide_b = _scratch.wide("input a", a), _scratch.wide("input b", b)
        apart = np.abs(wide_a - wide_b)
        size = np.maximum(np.abs(wide_a), np.abs(wide_b))
        relative = np.divide(apart, size, out=np.zeros_like(apart), where=size > 0.0)
        result = relative if result is None else np.maximum(result, relative, out=result)
        first = apart if first is None else first
    assert result is not None  # the caller has at least one pair
    assert first is not None
    return result, first


_scratch = Scratch(BLOCK)
