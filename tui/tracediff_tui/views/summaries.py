"""What is known of a tensor whose elements were not kept: digests, statistics, sketches."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.compare import Examination
from tracediff.compare.parts import Judged
from tracediff.errors import TracediffError
from tracediff.model import Moment
from tracediff.report.comparison import phrases
from tracediff.report.terminal import printable
from tracediff.trace import SKETCH_ERROR, Run, Sketch, Statistics, Tensor
from tracediff_tui.sheet import Sheet
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
_MOST_BYTES = 64 << 20
"""Of values that were kept no more is read than this to compute what a row says of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """What one run holds of a tensor at one step.

    Attributes:
        kept: ``elements``, ``sketch``, ``digest``, or ``-`` where nothing was observed.
        statistics: Those of the value; None where there are none.
    """

    kept: str
    statistics: Statistics | None


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a tensor at one step.

    Attributes:
        step: The step.
        present: Whether both runs have it.
        differs: Whether it differs, which its digests tell.
        relative_l2: How far apart; NaN where that is not known.
        estimated: Whether that comes from sketches of more elements than they have numbers.
        a: What A holds.
        b: What B holds; None where one run is looked at by itself.
    """

    step: int
    present: bool
    differs: bool
    relative_l2: float
    estimated: bool
    a: Side
    b: Side | None

    def cells(self) -> tuple[str, ...]:
        """Return the row as `HEADER` lists it; what is only of two runs is empty for one."""
        kept = self.a.kept
        apart = digests = ""
        if self.b is not None:
            digests = "-" if not self.present else "differ" if self.differs else "equal"
            apart = phrases.number(self.relative_l2) if self.present else "-"
            apart = f"≈{apart}" if self.estimated and self.differs else apart
            kept = kept if kept == self.b.kept else f"{kept} | {self.b.kept}"
        numbers = [
            _number(side, name, digits)
            for name, digits in (("norm", 5), ("min", 3), ("max", 3), ("mean", 3))
            for side in (self.a, self.b)
        ]
        return str(self.step), digests, apart, *numbers, _odd(self.a), _odd(self.b), kept

    @property
    def elements(self) -> bool:
        """Whether elements can be shown."""
        return self.a.kept == "elements" and (self.b is None or self.b.kept == "elements")


def _number(side: Side | None, name: str, digits: int) -> str:
    if side is None:
        return ""
    found = side.statistics
    return "-" if found is None else phrases.number(getattr(found, name), digits=digits)


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
        _Reader(run, None if name is None else run.find(spot.key[0], name), moment)
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
    reader = _Reader(run, tensor, moment)
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
            a=side,
            b=None,
        )
        rows.append(known)
    why = f"here the run holds {_HOLDS[reader.kept(spot.step)]}"
    return Summary(spot, why, how_to_record((run,), {spot.key[1]}, spot), tuple(rows))


_HOLDS = {
    "elements": "all elements",
    "sketch": "only a sketch and statistics",
    "digest": "only a digest and statistics",
    "-": "nothing",
}


def is_estimate(cell: np.void) -> bool:
    """Say whether a cell's distance has the error of a sketch; of few elements it is exact."""
    return bool(
        cell["known"]
        and cell["estimated"]
        and not Sketch(np.zeros(0), size=int(cell["size"])).exact
    )


def estimate_words(cell: np.void) -> str:
    """Return what a distance that comes from sketches is good to; empty where it is no such."""
    if not (cell["known"] and cell["estimated"]):
        return ""
    if not is_estimate(cell):
        return f"exact, from sketches of {int(cell['size'])} elements"
    return (
        f"estimated from sketches of {int(cell['size'])} elements, "
        f"off by {100 * SKETCH_ERROR:.1f} % (rms)"
    )


def how_to_record(runs: tuple[Run, ...], names: Collection[str], spot: Spot) -> str:
    """Return what keeps the elements of a tensor."""
    listed = ", ".join(f'"{printable(name)}"' for name in sorted(names))
    steps = ""
    if any((run.about.get("schedule") or {}).get("steps") for run in runs):
        steps = f', steps="{spot.step}:{spot.step + 1}"'
    return f'to see elements: TraceCallback(..., level="full", tensors=[{listed}]{steps})'


def why_not_kept(found: Examination, spot: Spot) -> str:
    """Return what each run holds of a place whose elements are not there in both."""
    judged = found.case.onset.judged[spot.key]
    moment = spot.moment if judged.track.state else "after"
    sides = []
    for side, run, name in zip(
        "AB", (found.case.a, found.case.b), names_of(found, spot.key), strict=True
    ):
        tensor = None if name is None else run.find(spot.key[0], name)
        sides.append((side, _HOLDS[_Reader(run, tensor, moment).kept(spot.step)]))
    if sides[0][1] == sides[1][1]:
        return f"here the runs hold {sides[0][1]}"
    return "here " + ", ".join(f"{side} holds {words}" for side, words in sides)


class _Reader:
    """Reads what one run holds of a tensor, equal values once."""

    def __init__(self, run: Run, tensor: Tensor | None, moment: Moment) -> None:
        self.run, self.tensor, self.moment = run, tensor, moment
        self._known: dict[bytes, Statistics | None] = {}
        self._left = _MOST_BYTES
        if tensor is not None:
            self._digests = run.digests(tensor, moment)
            self._kept = run.kept(tensor, moment)
            self._sketched = run.sketched(tensor, moment)

    def kept(self, step: int) -> str:
        """Say what is kept at a step."""
        if self.tensor is None or step >= len(self._digests) or not self._digests[step].any():
            return "-"
        if self._kept[step]:
            return "elements"
        return "sketch" if self._sketched[step] else "digest"

    def at(self, step: int) -> Side:
        """Return what there is at a step."""
        kept = self.kept(step)
        if kept == "-" or self.tensor is None:
            return Side(kept, None)
        key = self._digests[step].tobytes()
        if key not in self._known:
            self._known[key] = self._statistics(step, kept)
        return Side(kept, self._known[key])

    def _statistics(self, step: int, kept: str) -> Statistics | None:
        assert self.tensor is not None  # there is nothing to read otherwise
        if kept == "elements":
            if self._left <= 0:
                return None
            self._left -= 8 * math.prod(self.tensor.shape or (1,))
        try:
            return self.run.statistics(self.tensor, step, self.moment)
        except TracediffError:
            return None


def side_words(found: Statistics | None) -> str:
    """Return what one run's value is like, as far as that was recorded."""
    if found is None:
        return "no statistics were recorded"
    number = phrases.number
    return (
        f"min {number(found.min)} max {number(found.max)} mean {number(found.mean)} "
        f"std {number(found.std)} norm {number(found.norm, digits=6)} "
        f"nan {found.nan} inf {found.inf}"
    )


def cell_of(judged: Judged, spot: Spot) -> np.void:
    """Return the cell of a track at a place."""
    cell: np.void = cells_of(judged.track, spot.moment)[spot.step]
    return cell


def summary_sheet(summary: Summary, title: str, lines: list[str]) -> Sheet:
    """Return what is known of a tensor for export."""
    role, name = summary.spot.key

    def side(one: Side | None) -> dict[str, object] | None:
        if one is None:
            return None
        stats = one.statistics
        numbers = {} if stats is None else {key: getattr(stats, key) for key in _FIELDS}
        return {"kept": one.kept, **numbers}

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
