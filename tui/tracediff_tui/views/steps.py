"""One step in the order in which it ran, and the course of loss and learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tracediff.compare import Examination
from tracediff.compare.parts import Judged, Place, recorded_step, stage_of
from tracediff.model import DriftRow, Moment
from tracediff.report.comparison import numbers
from tracediff.report.terminal import printable
from tracediff.trace import Run
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.places import Key, Shown, Spot, label

HEADER = ("#", "stage", "tensor", "shape", "rel L2", "ulp", "abs", "first", "verdict")


@dataclass(frozen=True, slots=True, eq=False)
class StepLine:
    """One tensor at one point of the step.

    Attributes:
        spot: Where it is.
        cells: What is shown, in the order of `HEADER`.
        verdict: ``equal``, ``rounding``, ``noise``, ``origin``, ``inherited``, ``diverged`` ...
        relative_l2: How far apart; NaN where not known.
        max_abs: Largest absolute difference.
        max_ulp: Largest distance in ulp, or None.
    """

    spot: Spot
    cells: tuple[str, ...]
    verdict: str
    relative_l2: float
    max_abs: float
    max_ulp: int | None


def step_lines(found: Examination, step: int) -> tuple[StepLine, ...]:
    """Return what was observed in a step, in the order in which it ran."""
    rows = {(row.role, row.tensor): row for row in found.comparison.drift}
    places: list[tuple[Place, Judged, Key]] = []
    for key, judged in found.case.onset.judged.items():
        moments: tuple[Moment, ...] = ("before", "after") if judged.track.state else ("after",)
        for moment in moments:
            cells = judged.track.before if moment == "before" else judged.track.after
            if cells is not None and cells["present"][step]:
                place = Place(step, stage_of(key[0], moment), judged.track, moment)
                places.append((place, judged, key))
    places.sort(key=lambda one: one[0].key)
    return tuple(
        _line(found, number, place, judged, rows[key])
        for number, (place, judged, key) in enumerate(places, start=1)
    )


def _line(found: Examination, number: int, place: Place, judged: Judged, row: DriftRow) -> StepLine:
    before = place.moment == "before" and judged.track.state
    shown: Shown = "before" if before else "after"
    cells = judged.track.before if before else judged.track.after
    assert cells is not None  # only state has a `before`
    cell = cells[place.step]
    key = judged.track.pair.key
    relative = float(cell["relative_l2"]) if cell["known"] else math.nan
    maximum = float(cell["max_abs"]) if cell["known"] else math.nan
    bound = bool(cell["at_least"])
    counted = judged.track.floats and cell["known"] and not (cell["estimated"] or bound)
    ulp = int(cell["max_ulp"]) if counted else None
    verdict = _verdict(found, place, judged, differs=bool(cell["differs"]))
    first = row.first_significant_step if row.first_significant_step is not None else row.first_step
    return StepLine(
        Spot(key, place.step, shown),
        (
            str(number),
            place.stage,
            printable(label(key)),
            shape_words(found, key),
            "nan/inf" if cell["mismatched"] else numbers.least(relative, at_least=bound),
            numbers.whole(ulp),
            numbers.least(maximum, at_least=bound),
            "-" if first is None else str(first),
            verdict,
        ),
        verdict,
        relative,
        maximum,
        ulp,
    )


def _verdict(found: Examination, place: Place, judged: Judged, *, differs: bool) -> str:
    """Put what the comparison found about a place into one word."""
    if not differs:
        return "equal"
    onset = found.case.onset
    key = judged.track.pair.key
    first = onset.firsts.get(key)
    before = place.moment == "before" and judged.track.state
    significant = bool((judged.before if before else judged.after)[place.step])
    here = first is not None and (first.step, first.stage) == (place.step, place.stage)
    if here:
        return "origin" if key in onset.origins else "inherited"
    if judged.noise[place.step]:
        return "noise"
    if not significant:
        return "rounding"
    if first is None:
        return "grown rounding"
    return "rounding" if place.key < first.key else "diverged"


def shape_words(found: Examination, key: Key) -> str:
    """Return the type and shape of a tensor, of both runs where they are not the same."""
    pair = found.case.onset.judged[key].track.pair
    sides = [
        _shape(run, key[0], name)
        for run, name in ((found.case.a, pair.a), (found.case.b, pair.b))
        if name is not None
    ]
    return sides[0] if len(set(sides)) == 1 else " ⇄ ".join(sides)


def _shape(run: Run, role: str, name: str) -> str:
    tensor = run.find(role, name)
    if tensor is None:
        return "-"
    return (
        f"{short_type(tensor.dtype)}[{','.join(map(str, tensor.shape or ()))}]"
        if (tensor.shape is not None)
        else f"{short_type(tensor.dtype)}[varies]"
    )


def short_type(dtype: str) -> str:
    """Return an element type in few letters.

    Example:
        >>> short_type("float32"), short_type("bfloat16"), short_type("int64")
        ('f32', 'bf16', 'i64')
    """
    return (
        dtype.replace("bfloat", "bf").replace("float", "f").replace("uint", "u").replace("int", "i")
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Where a step stands in both runs; of B None at a step without a partner.

    Attributes:
        step: Its number.
        epoch: Its epoch.
        batch: Its batch within the epoch.
    """

    step: tuple[int, int | None]
    epoch: tuple[int, int | None]
    batch: tuple[int, int | None]


def batch_of(found: Examination, step: int) -> Batch:
    """Return where a step stands in both runs."""
    a, b = found.case.a, found.case.b
    other = recorded_step(b, step)
    alone = other is None
    return Batch(
        (step, other),
        (int(a.epoch[step]), None if alone else int(b.epoch[step])),
        (int(a.batch[step]), None if alone else int(b.batch[step])),
    )


def batch_words(where: Batch) -> list[str]:
    """Return where a step stands in both runs, in words."""
    if where.step[1] is None:
        words = [f"epoch {where.epoch[0]}, batch {where.batch[0]}", "B has no such step"]
    else:
        words = [f"epoch {_both(where.epoch)}, batch {_both(where.batch)}"]
        if where.step[0] != where.step[1]:
            words.append(f"B's step {where.step[1]}")
    return words


def _both(values: tuple[int, int | None]) -> str:
    return str(values[0]) if values[0] == values[1] else f"{values[0]} ⇄ {values[1]}"


def step_sheet(found: Examination, step: int, lines: tuple[StepLine, ...]) -> Sheet:
    """Return a step for export."""
    where = batch_of(found, step)
    return Sheet(
        title=f"Step {step} of {found.case.steps}",
        facts=(
            "; ".join(
                [*batch_words(where), f"steps are paired by {found.comparison.steps.alignment}"]
            ),
        ),
        header=HEADER,
        rows=tuple(line.cells for line in lines),
        data={
            "step": step,
            "tensors": [
                {
                    "tensor": line.spot.key[1],
                    "role": line.spot.key[0],
                    "stage": line.cells[1],
                    "moment": line.spot.moment,
                    "relative_l2": line.relative_l2,
                    "max_abs": line.max_abs,
                    "max_ulp": line.max_ulp,
                    "verdict": line.verdict,
                }
                for line in lines
            ],
        },
        arrays={
            "tensor": np.array([label(line.spot.key) for line in lines]),
            "relative_l2": np.array([line.relative_l2 for line in lines]),
            "max_abs": np.array([line.max_abs for line in lines]),
        },
    )
