"""Compare what steps did to a weight, seeing through differences that the steps inherited."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import compiled, native
from tracediff.drift.products import square
from tracediff.drift.scratch import Scratch
from tracediff.drift.single import suits
from tracediff.drift.single_updates import Inputs, update_sums
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
    moves = np.zeros(rows, SUMS)
    noise_level = np.zeros(rows)
    if usable and gradient is not None:
        noise_level = noise_levels(*gradient)
    squares = np.zeros((rows, len(_SQUARES)))
    for row, cut in _left_over(state, pairs, noise_level if usable else None, squares, moves):
        with np.errstate(over="ignore", invalid="ignore"):
            found, moved = _summed(
                [cut(array) for array in state],
                [(cut(x), cut(y)) for x, y in pairs],
                noise_level[row] if usable else None,
                unit,
            )
        squares[row] += found
        moves[row] = moved if elements <= SHORT else total(np.concatenate([moves[row], moved]))
    return update_records(squares, moves), moves


def update_records(squares: NDArray[np.float64], moves: NDArray[np.void]) -> NDArray[np.void]:
    """Return records of `UPDATE`.

    Args:
        squares: Of what is unexplained, of noise, and of both weights after the step; shape
            (updates, 4).
        moves: The sums of the updates as such, a record of `SUMS` each.
    """
    result = np.zeros(len(moves), UPDATE)
    norms = dict(zip(_SQUARES, np.sqrt(squares).T, strict=True))
    result["present"] = True
    larger = np.maximum(moves["square_a"], moves["square_b"])
    result["norm"], result["norm_difference"] = np.sqrt(larger), np.sqrt(moves["square_difference"])
    result["unexplained"], result["noise"] = norms["unexplained"], norms["noise"]
    result["weight_norm"] = np.maximum(norms["after_a"], norms["after_b"])
    return result


def noise_levels(a: Values, b: Values) -> NDArray[np.float64]:
    """Return up to where differences of elements of a gradient are rounding, for each row."""
    squares = np.maximum(_squares(a), _squares(b))
    return np.asarray(NOISE_LEVEL * np.sqrt(squares / max(1, a.shape[1])))


def inputs_of(pairs: Sequence[Both], noise_level: float | None) -> Inputs:
    """Return what went into an update of a row, with the shares that this module names."""
    return Inputs(pairs, noise_level, STATE_FEEDBACK, AMPLIFICATION, _AMPLIFIED)


_SQUARES = ("unexplained", "noise", "after_a", "after_b")


def _left_over(
    state: Sequence[Values],
    pairs: Sequence[Both],
    noise_level: NDArray[np.float64] | None,
    squares: NDArray[np.float64],
    moves: NDArray[np.void],
) -> Iterator[tuple[slice, Callable[[Values], Values]]]:
    """Sum up long rows of float32, and yield the `cuts` of all that take float64."""
    rows, elements = state[0].shape
    every = [*state, *(array for pair in pairs for array in pair)]
    done = np.zeros(rows, bool)
    passes = native.PASSES
    add = update_sums if passes is None else partial(compiled.update_sums, passes)
    for number in range(rows if elements > SHORT and suits(*every) else 0):
        with np.errstate(over="ignore", invalid="ignore"):
            level = None if noise_level is None else float(noise_level[number])
            inputs = inputs_of([(x[number], y[number]) for x, y in pairs], level)
            found = add([x[number] for x in state], inputs, moves[number, ...])
        if found is not None:
            done[number] = True
            squares[number] = found
    for row, cut in cuts(rows, elements):
        if not done[row].all():
            yield row, cut


def _squares(values: Values) -> NDArray[np.float64]:
    """Return the square of the L2 norm of each row."""
    rows, elements = values.shape
    result = np.full(rows, np.nan)
    if elements > SHORT and suits(values):
        result[:] = [square(row) for row in values]
    left = np.isnan(result)
    result[left] = 0.0
    for row, cut in cuts(rows, elements):
        if left[row].any():
            wide = _scratch.wide("squares", cut(values))
            with np.errstate(over="ignore", invalid="ignore"):
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
