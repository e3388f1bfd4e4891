"""Screen 3: one tensor of both runs, down to the bits of an element."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from tracediff.errors import NotKept, TracediffError
from tracediff_tui.keys import bindings_of
from tracediff_tui.palette import BLUE, ORANGE
from tracediff_tui.screens.one_tensor import OneTensor
from tracediff_tui.sheet import Sheet
from tracediff_tui.views import tensors
from tracediff_tui.views.charts import wrapped
from tracediff_tui.views.elements import (
    HEADER,
    SORTS,
    Elements,
    differing_bits,
    look,
)
from tracediff_tui.views.panes import drift_picture, facts_text, histograms
from tracediff_tui.views.places import Spot
from tracediff_tui.views.steps import step_lines
from tracediff_tui.views.summaries import Summary, summarize, summary_sheet
from tracediff_tui.widgets.heatmap import Heatmap
from tracediff_tui.widgets.known import KnownPane
from tracediff_tui.widgets.lines import Bar, KeyBar
from tracediff_tui.widgets.listing import Column, Listing, Row
from tracediff_tui.widgets.slice_map import SliceMap

if TYPE_CHECKING:
    from textual.widget import Widget


class TensorScreen(OneTensor):
    """Elements of one tensor."""

    NAME: ClassVar = "tensor"
    BINDINGS: ClassVar = bindings_of("tensor")

    class Looked(Message):
        """The elements of a place are there, or why they are not."""

        def __init__(
            self, spot: Spot, elements: Elements | None, summary: Summary | None, problem: str
        ) -> None:
            super().__init__()
            self.spot, self.elements, self.summary = spot, elements, summary
            self.problem = problem

    def __init__(self) -> None:
        super().__init__()
        self.elements: Elements | None = None
        self.problem = ""
        self.sort = 0
        self.fields = False
        self._asked: tuple[object, Spot] | None = None

    def body(self) -> Iterator[Widget]:
        """Yield facts, histograms, slice, drift and the worst elements."""
        yield Bar(id="answer")
        yield Static("", id="facts", markup=False)
        with Horizontal(id="lower"):
            yield Static("", id="histogram", markup=False)
            yield Static("", id="relative", markup=False)
            yield SliceMap(id="slice")
        yield Heatmap(id="drift", labels=12)
        yield Listing(
            [
                Column("index"),
                Column("A", right=True, style=BLUE),
                Column("B", right=True, style=ORANGE),
                Column("A bits", drop=2, style=BLUE),
                Column("B bits", drop=2, style=ORANGE),
                Column("ulp", right=True, drop=3),
                Column("rel", right=True, drop=4),
                Column("abs", right=True, drop=1),
            ],
            id="list",
        )
        yield KnownPane(id="known")

    @property
    def worst(self) -> Listing:
        """The worst elements."""
        return self.elements_list

    @property
    def slice_map(self) -> SliceMap:
        """Two axes through the element under the cursor."""
        return self.query_one(SliceMap)

    def is_state(self, spot: Spot) -> bool:
        """Say whether the tensor has a value before and after a step."""
        found = self.tracediff.found
        return found is not None and found.case.onset.judged[spot.key].track.state

    def present(self) -> None:
        """Show the tensor that the application is at."""
        app = self.tracediff
        self._relabel()
        if app.found is None or app.spot is None:
            words = "the comparison is not there yet" if app.found is None else "the runs are equal"
            self.bar("answer").say(f" {words}")
            return
        if self._asked is None or self._asked != (app.found, app.spot):
            self._asked = (app.found, app.spot)
            self.elements, self.summary, self.problem = None, None, ""
            self.read()
        self._draw()

    def _relabel(self) -> None:
        spot = self.tracediff.spot
        self.query_one(KeyBar).relabel(
            sort=f"Sort: {SORTS[self.sort]}" if self.summary is None else "",
            bits="" if self.summary is not None else "Hex" if self.fields else "Bits",
            axis="Axis" if self.summary is None else "",
            next="Next worst" if self.summary is None else "Next that differs",
            open="Open" if self.summary is None else "Go to step",
            moment=f"Value: {spot.shown}" if spot else "Value",
        )

    @work(thread=True, exclusive=True, group="tensor")
    def read(self) -> None:
        """Read and measure the elements."""
        worker, app = get_current_worker(), self.tracediff
        found, spot = app.found, app.spot
        if found is None or spot is None:
            return
        elements, summary, problem = None, None, ""
        try:
            try:
                elements = look(found, spot, cancelled=lambda: worker.is_cancelled)
            except NotKept as error:
                summary = summarize(
                    found, spot, error.message, cancelled=lambda: worker.is_cancelled
                )
        except TracediffError as error:
            problem = error.message + (f"\n{error.hint}" if error.hint else "")
        if not worker.is_cancelled:
            self.post_message(self.Looked(spot, elements, summary, problem))

    def on_tensor_screen_looked(self, message: Looked) -> None:
        """Show the elements, unless another place was asked for since."""
        if message.spot != self.tracediff.spot:
            return
        self.elements, self.problem = message.elements, message.problem
        self.summary = message.summary
        self.worst.row = self.worst.top = 0
        self.set_class(self.summary is not None, "-known")
        self._relabel()
        self._draw()
        if not (self.focused is not None and self.focused.display) or self.focused in (
            self.worst,
            self.known.steps,
        ):
            self.home_pane().focus()
        self.show_status()

    def _draw(self) -> None:
        app = self.tracediff
        assert app.found is not None and app.spot is not None  # noqa: PT018 - as in present
        self.bar("answer").say(f" {tensors.title(app.found, app.spot)}")
        tall, plain = self.has_class("-tall"), app.options.plain
        lines = tensors.facts(app.found, app.spot, self.elements, self.summary, wide=tall)
        known = self.elements is not None or self.summary is not None
        facts = facts_text(lines, self.size.width, sided=known, plain=plain)
        self._draw_drift()
        if self.summary is not None:
            facts.append("\n" + wrapped(self.summary.said(), self.size.width), "bold")
            self.query_one("#facts", Static).update(facts)
            self.draw_known(self.summary)
            return
        self.query_one("#facts", Static).update(facts)
        histogram = self.query_one("#histogram", Static)
        relative = self.query_one("#relative", Static)
        if self.elements is None:
            histogram.update("" if self.problem else " reading ...")
            if self.problem:
                facts.append("\n" + wrapped(self.problem, self.size.width), "bold")
                self.query_one("#facts", Static).update(facts)
            relative.update("")
            self.slice_map.clear("no elements to show")
            self.worst.load((), empty="no elements to show" if self.problem else "reading ...")
            return
        wide, plain = self.has_class("-wide"), app.options.plain
        left, right = histograms(self.elements, SORTS[self.sort], wide=wide, plain=plain)
        histogram.update(left)
        relative.update(right)
        rows = self._rows()
        self.worst.load(rows, empty="all elements are equal")
        order = self.elements.orders[SORTS[self.sort]]
        self.slice_map.look_at(self.elements, int(order[0]) if len(order) else 0)

    def _draw_drift(self) -> None:
        app, drift = self.tracediff, self.query_one("#drift", Heatmap)
        overview, spot = app.overview, app.spot
        if overview is None or spot is None:
            return
        drift.load(*drift_picture(overview, spot, drift.room_across(("drift",))))

    def _rows(self) -> list[Row]:
        elements = self.elements
        assert elements is not None  # called when they are there
        order = elements.orders[SORTS[self.sort]]
        cells = (elements.row(int(flat), fields=self.fields) for flat in order)
        return [Row(row, marks=differing_bits(row)) for row in cells]

    def _flat(self) -> int | None:
        elements = self.elements
        if elements is None or not elements.a.size:
            return None
        if self.focused is self.slice_map:
            return self.slice_map.flat()
        order = elements.orders[SORTS[self.sort]]
        return int(order[self.worst.row]) if self.worst.row < len(order) else None

    def status(self) -> str:
        """Return the element under the cursor, in full."""
        if self.problem:
            return self.problem.replace("\n", " · ")
        if self.summary is not None:
            return self.summary.words(self.known.steps.row)
        flat = self._flat()
        if self.elements is None:
            return ""
        if flat is None:
            return "all elements are equal"
        cells = dict(zip(HEADER, self.elements.row(flat), strict=True))
        # What the table may leave out in a narrow terminal comes first.
        order = ("index", "rel", "ulp", "abs", "A", "B", "A bits", "B bits")
        words = [f"{name} {cells[name]}" if name != "index" else cells[name] for name in order]
        if self.focused is self.worst:
            listed, total = len(self.worst.rows), self.elements.drift.different
            if listed < total:
                words.insert(4, f"the worst {listed} of {total} that differ")
        return " · ".join(words)

    def line(self) -> str:
        """Return the row under the cursor."""
        flat = self._flat()
        if self.summary is not None:
            return "  ".join(self.summary.rows[self.known.steps.row].cells())
        if self.elements is None or flat is None:
            return self.status()
        return "  ".join(self.elements.row(flat, fields=self.fields))

    def copies(self) -> dict[str, Callable[[], str]]:
        """Offer the element as Python."""
        return {**super().copies(), "as Python": self._python}

    def _python(self) -> str:
        flat = self._flat()
        if self.elements is None or flat is None:
            return "None"
        return tensors.python_of(self.elements, flat)

    def sheet(self) -> Sheet:
        """Return facts and worst elements."""
        app = self.tracediff
        if app.found is None or app.spot is None:
            return Sheet("nothing is shown")
        if self.summary is not None:
            lines = tensors.facts(app.found, app.spot, None, self.summary)
            return summary_sheet(self.summary, tensors.title(app.found, app.spot), lines)
        return tensors.tensor_sheet(
            app.found, app.spot, self.elements, [row.cells for row in self.worst.rows]
        )

    def moved(self, panel: Widget) -> None:
        """Keep the cursors of the panes on one element, and the step with the drift's."""
        if self.elements is None:
            return
        if panel.id == "list":
            flat = self._flat()
            if flat is not None and self.elements is not None:
                self.slice_map.show_element(self.elements.index(flat))
        elif panel is self.slice_map:
            self.slice_map.follow()

    def action_move(self, down: int, across: int) -> None:
        """Move in the pane; along the drift, by steps."""
        pane = self.pane
        if pane.id == "drift" and across:
            self.action_step(across)
        else:
            super().action_move(down, across)
            self.show_status()

    def action_open(self) -> None:
        """Show the chosen element in the slice, or go back from there; of steps, go to one."""
        if self.open_known():
            return
        (self.worst if self.pane.id != "list" else self.slice_map).focus()
        self.show_status()

    def action_jump(self, by: int) -> None:
        """Go to the next of the worst elements; without elements, to the next step that differs."""
        if self.jump_known(by):
            return
        self.worst.focus()
        self.worst.select(self.worst.row + by)
        self.show_status()

    def action_tensor(self, by: int) -> None:
        """Go to the tensor before or after this one, in the order in which the step ran."""
        app = self.tracediff
        if app.found is None or app.spot is None:
            return
        spots = [line.spot for line in step_lines(app.found, app.spot.step)]
        state = Spot(app.spot.key, app.spot.step, app.spot.moment)
        at = spots.index(state) if state in spots else 0
        app.spot = spots[max(0, min(at + by, len(spots) - 1))]
        self.show()

    def action_sort(self) -> None:
        """Sort the worst elements by another measure."""
        if self._without():
            return
        self.sort = (self.sort + 1) % len(SORTS)
        self.worst.row = self.worst.top = 0
        self.show()

    def action_bits(self) -> None:
        """Show bits as hex, or as sign, exponent and mantissa."""
        if self._without():
            return
        self.fields = not self.fields
        self.show()

    def _without(self) -> bool:
        if self.elements is None:
            self.tell("no elements were kept here")
        return self.elements is None

    def action_axis(self, which: int) -> None:
        """Put another axis into the slice."""
        self.tell(self.slice_map.turn(which))

    def action_pin(self, by: int) -> None:
        """Go to the next index of an axis that is not shown."""
        self.tell(self.slice_map.pin(by))
