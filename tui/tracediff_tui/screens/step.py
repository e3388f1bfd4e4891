"""Screen 2: one step in the order in which it ran, and the curves of loss and learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import work
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from tracediff.compare import Examination
from tracediff.compare.parts import recorded_step
from tracediff.errors import TracediffError
from tracediff.report.comparison import phrases
from tracediff_tui.keys import bindings_of
from tracediff_tui.palette import ORANGE
from tracediff_tui.screens.base import View
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.cells import cell_words
from tracediff_tui.views.curves import Curve, curve, pair_text
from tracediff_tui.views.places import Spot, onsets
from tracediff_tui.views.steps import (
    HEADER,
    StepLine,
    batch_of,
    batch_words,
    step_lines,
    step_sheet,
)
from tracediff_tui.widgets.lines import Bar, KeyBar
from tracediff_tui.widgets.listing import Column, Listing, Row

if TYPE_CHECKING:
    from textual.widget import Widget

_DIM = ("equal", "noise", "rounding", "grown rounding")
_SORTS = ("order", "size")
Curves = dict[tuple[str, str], Curve | None]


class StepScreen(View):
    """What happened in one step."""

    NAME: ClassVar = "step"
    BINDINGS: ClassVar = bindings_of("step")

    class CurvesRead(Message):
        """The curves are there."""

        def __init__(self, curves: Curves, problem: str) -> None:
            super().__init__()
            self.curves, self.problem = curves, problem

    def __init__(self) -> None:
        super().__init__()
        self.lines: tuple[StepLine, ...] = ()
        self.hide_equal = False
        self.only_origins = False
        self.sort = 0
        self.curves: Curves | None = None
        self._of: object = None
        self._shown: Spot | None = None

    def body(self) -> Iterator[Widget]:
        """Yield the step's place, its tensors, and the curves."""
        yield Bar(id="answer")
        titles = dict(zip(HEADER, HEADER, strict=True))
        yield Listing(
            [
                Column(titles["#"], right=True, drop=4),
                Column("stage"),
                Column("tensor", flexible=True, least=28),
                Column("shape", drop=5),
                Column("rel L2", right=True),
                Column("ulp", right=True, drop=2),
                Column("abs", right=True, drop=3),
                Column("first", right=True, drop=1),
                Column("verdict"),
            ],
            id="list",
        )
        yield Static("", id="curves", markup=False)

    @property
    def list(self) -> Listing:
        """The table."""
        return self.query_one(Listing)

    @property
    def step(self) -> int:
        """The step shown."""
        spot = self.tracediff.spot
        return spot.step if spot is not None else 0

    def present(self) -> None:
        """Show the step that the application is at."""
        app = self.tracediff
        self.query_one(KeyBar).relabel(
            origins="All" if self.only_origins else "Origins only",
            sort=f"Sort: {_SORTS[self.sort]}",
            differing="Show equal" if self.hide_equal else "Hide equal",
            next="Next onset",
        )
        if app.found is None:
            self.list.load((), empty="the comparison is not there yet")
            return
        keep = self.keep()
        lines = [
            line
            for line in step_lines(app.found, self.step)
            if (not self.hide_equal or line.verdict != "equal")
            and (not self.only_origins or line.verdict == "origin")
            and (keep is None or keep(" ".join(line.cells)))
        ]
        if self.sort:
            lines.sort(key=lambda one: -np.nan_to_num(one.relative_l2, nan=np.inf))
        self.lines = tuple(lines)
        row = None
        if app.spot is not None and app.spot != self._shown:
            row = self._row_of(app.spot)
            self._shown = app.spot
        mark = "" if app.options.plain else " ●"
        self.list.load(
            [_row(line, mark) for line in self.lines],
            row=row,
            empty=self._empty(app.found),
        )
        self._place()
        if self._of is not app.found:
            self._of, self.curves = app.found, None
            self.read_curves()
        self._draw_curves()

    def _empty(self, found: Examination) -> str:
        if recorded_step(found.case.b, self.step) is None:
            return "nothing to compare: B has no such step"
        if self.only_origins:
            return "no origin in this step: o shows all"
        return "nothing passes: Esc ends the filter, = shows what is equal"

    def _row_of(self, spot: Spot) -> int | None:
        same = [row for row, line in enumerate(self.lines) if line.spot.key == spot.key]
        exact = [row for row in same if self.lines[row].spot.shown == spot.shown]
        # An update stands where the state after the step does.
        return exact[0] if exact else same[-1] if same else None

    def _place(self) -> None:
        found = self.tracediff.found
        assert found is not None  # called when it is there
        where = batch_words(batch_of(found, self.step))
        self.bar("answer").say(
            " · ".join([f" Step {self.step} of {found.case.steps}", *where]),
            f"steps paired by {found.comparison.steps.alignment} ",
        )

    @work(thread=True, exclusive=True, group="curves")
    def read_curves(self) -> None:
        """Read loss and learning rate of both runs."""
        worker, found = get_current_worker(), self.tracediff.found
        if found is None:
            return
        curves: Curves = {}
        problem = ""
        for role in ("loss", "learning_rate"):
            for side, run in (("A", found.case.a), ("B", found.case.b)):
                try:
                    curves[role, side] = curve(
                        run, role, found.case.steps, cancelled=lambda: worker.is_cancelled
                    )
                except TracediffError as error:
                    curves[role, side], problem = None, error.message
        if not worker.is_cancelled:
            self.post_message(self.CurvesRead(curves, problem))

    def on_step_screen_curves_read(self, message: CurvesRead) -> None:
        """Show the curves."""
        self.curves = message.curves
        self._draw_curves()
        if message.problem:
            self.tell(message.problem)

    def _draw_curves(self) -> None:
        height = self.size.height
        roles = ("loss", "learning_rate") if height >= 28 else ("loss",) if height >= 20 else ()
        plain = self.tracediff.options.plain
        text = pair_text(self.curves, roles, self.step, self.size.width, plain=plain)
        self.query_one("#curves", Static).update(text)

    def status(self) -> str:
        """Return the tensor under the cursor, with what is known of the first difference."""
        found = self.tracediff.found
        if found is None or not self.lines:
            return ""
        line = self.lines[self.list.row]
        compared = found.comparison
        first = compared.first_divergence or compared.first_bit_difference
        key = (first.role, first.tensor) if first else None
        if (
            first is not None
            and line.spot.key == key
            and line.spot.step == first.step
            and (compared.first_divergence is None or line.verdict == "origin" or not first.origin)
        ):
            return f"{phrases.place(first)}: {phrases.size(first)}"
        judged = found.case.onset.judged[line.spot.key]
        measured = cell_words(judged, self.step, line.spot.shown)
        return " · ".join([line.cells[2], f"step {self.step}", line.verdict, *measured])

    def line(self) -> str:
        """Return the row under the cursor."""
        return "  ".join(self.lines[self.list.row].cells) if self.lines else ""

    def sheet(self) -> Sheet:
        """Return the rows shown."""
        found = self.tracediff.found
        return step_sheet(found, self.step, self.lines) if found else Sheet("comparing ...")

    def moved(self, panel: Widget) -> None:
        """Take the place with the cursor."""
        del panel
        if self.lines:
            self.tracediff.spot = self._shown = self.lines[self.list.row].spot

    def action_open(self) -> None:
        """Open the tensor under the cursor."""
        if self.lines:
            self.tracediff.spot = self._shown = self.lines[self.list.row].spot
            self.tracediff.go("tensor")

    def action_step(self, by: int) -> None:
        """Go to another step, at the same tensor."""
        app = self.tracediff
        if app.found is None or app.spot is None:
            return
        step = max(0, min(self.step + by, app.steps - 1))
        app.spot = Spot(app.spot.key, step, app.spot.shown)
        self.show()

    def action_move(self, down: int, across: int) -> None:
        """Move among the tensors, or to another step."""
        if across:
            self.action_step(across)
        else:
            super().action_move(down, across)

    def action_jump(self, by: int) -> None:
        """Go to the next onset, which may be in another step."""
        app = self.tracediff
        spots = onsets(app.found) if app.found else ()
        at = spots.index(app.spot) if app.spot in spots else (-1 if by > 0 else 0)
        if not 0 <= at + by < len(spots):
            self.tell("no more onsets")
            return
        app.spot = spots[at + by]
        self.filter = ""
        self.show()

    def action_origins(self) -> None:
        """Keep only origins, or show all."""
        self.only_origins = not self.only_origins
        self._again()

    def action_differing(self) -> None:
        """Hide or show what is equal."""
        self.hide_equal = not self.hide_equal
        self._again()

    def action_sort(self) -> None:
        """Sort by the order in which things ran, or by the size of the difference."""
        self.sort = (self.sort + 1) % len(_SORTS)
        self._again()

    def _again(self) -> None:
        self._shown = None
        self.present()
        self.show_status()


def _row(line: StepLine, mark: str) -> Row:
    verdict = line.verdict + mark if line.verdict == "origin" else line.verdict
    cells = (*line.cells[:-1], verdict)
    if line.verdict == "origin":
        return Row(cells, styles={8: f"bold {ORANGE}"})
    return Row(cells, style="dim" if line.verdict in _DIM else "")
