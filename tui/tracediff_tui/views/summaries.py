"""What is known of a tensor whose elements were not kept: digests, statistics, sketches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.compare import Examination
from tracediff.report.comparison import numbers
from tracediff.trace import Run
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.kept import HOLDS, Reader, Side, how_to_record, is_estimate
from tracediff_tui.views.places import Spot, cells_of, names_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = (
    "step",
    "digests",
    "rel L2",
    "A norm",
    "B norm",
    "A min",
    "B min",
    "A max",
    "B max",
    "A mean",
    "B mean",
    "A nan/inf",
    "B nan/inf",
    "kept",
)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a tensor at one step.

    Attributes:
        step: The step.
        present: Whether both runs have it.
        differs: Whether it differs, which its digests tell.
        relative_l2: How far apart; NaN where that is not known.
        estimated: Whether that comes from sketches of more elements than they have numbers.
        at_least: Whether it is a lower bound, from statistics.
        a: What A holds.
        b: What B holds; None where one run is looked at by itself.
    """

    step: int
    present: bool
    differs: bool
    relative_l2: float
    estimated: bool
    at_least: bool
    a: Side
    b: Side | None

    def cells(self) -> tuple[str, ...]:
        """Return the row as `HEADER` lists it; what is only of two runs is empty for one."""
        kept = self.a.kept
        apart = digests = ""
        if self.b is not None:
            digests = "-" if not self.present else "differ" if self.differs else "equal"
            apart = numbers.number(self.relative_l2) if self.present else "-"
            apart = f"≈{apart}" if self.estimated and self.differs else apart
            apart = f"≥{apart}" if self.at_least else apart
            kept = kept if kept == self.b.kept else f"{kept} | {self.b.kept}"
        statistics = [
            _number(side, name, digits)
            for name, digits in (("norm", 5), ("min", 3), ("max", 3), ("mean", 3))
            for side in (self.a, self.b)
        ]
        return str(self.step), digests, apart, *statistics, _odd(self.a), _odd(self.b), kept

    @property
    def elements(self) -> bool:
        """Whether elements can be shown."""
        return self.a.kept == "elements" and (self.b is None or self.b.kept == "elements")


def _number(side: Side | None, name: str, digits: int) -> str:
    if side is None:
        return ""
    found = side.statistics
    return "-" if found is None else numbers.number(getattr(found, name), digits=digits)


def _odd(side: Side | None) -> str:
    if side is None:
        return ""
    return "-" if side.statistics is None else f"{side.statistics.nan}/{side.statistics.inf}"


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What is known of a tensor over all steps, and why that is all.

    Attributes:
        spot: The place that was asked for.
        why: Why there are no elements there.
        how: How to record them.
        rows: A row for each compared step.
    """

    spot: Spot
    why: str
    how: str
    rows: tuple[Known, ...]

    @property
    def here(self) -> Known:
        """The row of the place."""
        return self.rows[self.spot.step]

    def said(self) -> str:
        """Return why there are no elements, and how to have them."""
        kept = [row.step for row in self.rows if row.elements]
        there = ""
        if kept:
            shown = ", ".join(map(str, kept[:6])) + (" ..." if len(kept) > 6 else "")
            there = f"; elements are there at {len(kept)} steps: {shown}"
        return f"{self.why}{there}\n{self.how}"

    def words(self, row: int) -> str:
        """Return a row in full."""
        known = self.rows[min(row, len(self.rows) - 1)]
        cells = known.cells()
        return " · ".join(
            f"{title.removeprefix('A ') if known.b is None else title} {cell}"
            for title, cell in zip(HEADER, cells, strict=True)
            if cell not in ("", "-")
        )

    def next(self, step: int, by: int) -> int | None:
        """Return the next step (``by`` 1) or the one before (-1) that differs, or None.

        Of one run, the next with NaN or infinities.
        """
        at = step + by
        while 0 <= at < len(self.rows):
            row = self.rows[at]
            found = row.a.statistics
            broken = row.b is None and found is not None and bool(found.nan or found.inf)
            if row.differs or broken:
                return at
            at += by
        return None

    def norms(self, side: str) -> NDArray[np.float64]:
        """Return the norm of one run's values (``a`` or ``b``) over the steps."""
        found = [row.a if side == "a" else row.b for row in self.rows]
        return np.array(
            [
                math.nan if one is None or one.statistics is None else one.statistics.norm
                for one in found
            ]
        )

    def apart(self) -> NDArray[np.float64]:
        """Return how far apart the runs are over the steps."""
        return np.array([row.relative_l2 if row.present else math.nan for row in self.rows])


def summarize(
    found: Examination, spot: Spot, why: str, *, cancelled: Callable[[], bool] = lambda: False
) -> Summary | None:
    """Return what is known of a tensor at every step; None where it was cancelled.

    Raises:
        TracediffError: A table cannot be read.
    """
    judged = found.case.onset.judged[spot.key]
    moment = spot.moment if judged.track.state else "after"
    cells = cells_of(judged.track, moment)
    sides = [
        Reader(run, None if name is None else run.find(spot.key[0], name), moment)
        for run, name in zip((found.case.a, found.case.b), names_of(found, spot.key), strict=True)
    ]
    rows = []
    for step in range(found.case.steps):
        if cancelled():
            return None
        cell = cells[step]
        rows.append(
            Known(
                step,
                present=bool(cell["present"]),
                differs=bool(cell["differs"]),
                relative_l2=float(cell["relative_l2"]) if cell["known"] else math.nan,
                estimated=is_estimate(cell),
                at_least=bool(cell["at_least"]),
                a=sides[0].at(step),
                b=sides[1].at(step),
            )
        )
    names = {name for name in names_of(found, spot.key) if name is not None}
    return Summary(spot, why, how_to_record(found.case.recorded, names, spot), tuple(rows))


def summarize_one(
    run: Run, spot: Spot, *, cancelled: Callable[[], bool] = lambda: False
) -> Summary | None:
    """Return what is known of a tensor of a single run; None where it was cancelled.

    Raises:
        TracediffError: A table cannot be read.
    """
    tensor = run.tensor(*spot.key)
    moment = spot.moment if tensor.table == "state" else "after"
    reader = Reader(run, tensor, moment)
    rows = []
    for step in range(run.steps):
        if cancelled():
            return None
        side = reader.at(step)
        known = Known(
            step,
            present=side.kept != "-",
            differs=False,
            relative_l2=math.nan,
            estimated=False,
            at_least=False,
            a=side,
            b=None,
        )
        rows.append(known)
    why = f"here the run holds {HOLDS[reader.kept(spot.step)]}"
    return Summary(spot, why, how_to_record((run,), {spot.key[1]}, spot), tuple(rows))


def summary_sheet(summary: Summary, title: str, lines: list[str]) -> Sheet:
    """Return what is known of a tensor for export."""
    role, name = summary.spot.key

    def side(one: Side | None) -> dict[str, object] | None:
        if one is None:
            return None
        stats = one.statistics
        fields = {} if stats is None else {key: getattr(stats, key) for key in _FIELDS}
        return {"kept": one.kept, **fields}

    return Sheet(
        title,
        (*lines, summary.why, summary.how),
        HEADER,
        tuple(row.cells() for row in summary.rows),
        data={
            "tensor": name,
            "role": role,
            "step": summary.spot.step,
            "value": summary.spot.shown,
            "steps": [
                {
                    "step": row.step,
                    "differs": row.differs if row.present and row.b is not None else None,
                    "relative_l2": row.relative_l2,
                    "estimated": row.estimated,
                    "at_least": row.at_least,
                    "a": side(row.a),
                    "b": side(row.b),
                }
                for row in summary.rows
            ],
        },
        arrays={
            "step": np.array([row.step for row in summary.rows]),
            "differs": np.array([row.differs for row in summary.rows]),
            "relative_l2": summary.apart(),
            "norm_a": summary.norms("a"),
            "norm_b": summary.norms("b"),
        },
    )


_FIELDS = ("size", "mean", "std", "norm", "min", "max", "nan", "inf")
