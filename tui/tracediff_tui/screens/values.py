"""One tensor of a single run: what its values are like, and the largest of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import work
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from tracediff.errors import NotKept, TracediffError
from tracediff.report.terminal import printable
from tracediff_tui.keys import bindings_of
from tracediff_tui.palette import BLUE
from tracediff_tui.screens.one_tensor import OneTensor
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.charts import bars, wrapped
from tracediff_tui.views.elements import MOST, side_of
from tracediff_tui.views.kept import side_words as known_words
from tracediff_tui.views.places import Spot, label
from tracediff_tui.views.runs import DECADES, decades, largest, read_one
from tracediff_tui.views.steps import short_type
from tracediff_tui.views.summaries import Summary, summarize_one, summary_sheet
from tracediff_tui.views.tensors import side_words
from tracediff_tui.widgets.known import KnownPane
from tracediff_tui.widgets.lines import Bar, KeyBar
from tracediff_tui.widgets.listing import Column, Listing, Row

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from textual.widget import Widget


class ValuesScreen(OneTensor):
    """Values of one tensor."""

    NAME: ClassVar = "values"
    BINDINGS: ClassVar = bindings_of("values")
    no_more = "no more NaN or infinities"

    class Read(Message):
        """The value of a place is there, or why it is not."""

        def __init__(
            self, spot: Spot, values: NDArray[Any] | None, summary: Summary | None, problem: str
        ) -> None:
            super().__init__()
            self.spot, self.values, self.summary = spot, values, summary
            self.problem = problem

    def __init__(self) -> None:
        super().__init__()
        self.values: NDArray[Any] | None = None
        self.problem = ""
        self._asked: tuple[object, Spot] | None = None

    def body(self) -> Iterator[Widget]:
        """Yield facts, a histogram and the largest elements."""
        yield Bar(id="answer")
        yield Static("", id="facts", markup=False)
        yield Static("", id="histogram", markup=False)
        yield Listing([Column("index"), Column("value", right=True, style=BLUE)], id="list")
        yield KnownPane(single=True, id="known")

    @property
    def list(self) -> Listing:
        """The largest elements."""
        return self.elements_list

    def is_state(self, spot: Spot) -> bool:
        """Say whether the tensor has a value before and after a step."""
        return self.tracediff.a.tensor(*spot.key).table == "state"

    def present(self) -> None:
        """Show the tensor that the application is at."""
        app = self.tracediff
        run, spot = app.a, app.spot
        if spot is None:
            first = next((t for t in run.tensors if t.role == "weight"), None) or run.tensors[0]
            spot = app.spot = Spot(first.key, 0)
        tensor = run.tensor(*spot.key)
        when = f", {spot.shown} the update" if tensor.table == "state" else ""
        shape = "varies" if tensor.shape is None else ",".join(map(str, tensor.shape))
        self.bar("answer").say(
            f" {printable(label(spot.key))} · step {spot.step}{when} · "
            f"{short_type(tensor.dtype)}[{shape}]"
        )
        if self._asked != (run, spot):
            self._asked = (run, spot)
            self.values, self.summary, self.problem = None, None, ""
            self.read()
        self._draw()

    @work(thread=True, exclusive=True, group="values")
    def read(self) -> None:
        """Read the value."""
        worker, run, spot = get_current_worker(), self.tracediff.a, self.tracediff.spot
        if spot is None:
            return
        values, summary, problem = None, None, ""
        try:
            try:
                values = read_one(run, spot)
            except NotKept:
                summary = summarize_one(run, spot, cancelled=lambda: worker.is_cancelled)
        except TracediffError as error:
            problem = error.message + (f"\n{error.hint}" if error.hint else "")
        if not worker.is_cancelled:
            self.post_message(self.Read(spot, values, summary, problem))

    def on_values_screen_read(self, message: Read) -> None:
        """Show the value, unless another place was asked for since."""
        if message.spot == self.tracediff.spot:
            self.values, self.problem = message.values, message.problem
            self.summary = message.summary
            self.set_class(self.summary is not None, "-known")
            self._draw()
            self.home_pane().focus()
            self.show_status()

    def _draw(self) -> None:
        facts, histogram = self.query_one("#facts", Static), self.query_one("#histogram", Static)
        spot, summary = self.tracediff.spot, self.summary
        self.query_one(KeyBar).relabel(
            moment=f"Value: {spot.shown}" if spot else "Value",
            next="Next element" if summary is None else "Next NaN",
            open="Open" if summary is None else "Go to step",
        )
        if summary is not None:
            words = known_words(summary.here.a.statistics)
            said = wrapped(summary.said(), self.size.width)
            facts.update(Text(f" {words}\n{said}", no_wrap=True))
            histogram.update("")
            self.draw_known(summary)
            return
        if self.values is None:
            facts.update(Text(wrapped(self.problem or "reading ...", self.size.width)))
            histogram.update("")
            self.list.load((), empty="no elements to show")
            return
        facts.update(Text(f" {side_words(side_of(self.values))}", no_wrap=True))
        plain = self.tracediff.options.plain
        lines = bars(DECADES, decades(self.values), min(70, self.size.width), ascii_only=plain)
        histogram.styles.height = len(lines) + 1
        histogram.styles.width = "1fr"
        text = "\n".join(f" {line}" for line in ["absolute value", *lines])
        histogram.update(Text(text, no_wrap=True))
        self.list.load([Row(cells) for cells in largest(self.values, MOST)])

    def status(self) -> str:
        """Return the element under the cursor."""
        if self.problem:
            return self.problem.replace("\n", " · ")
        if self.summary is not None:
            return self.summary.words(self.known.steps.row)
        rows = self.list.rows
        if not rows:
            return ""
        return " · ".join([*rows[self.list.row].cells, f"{self.list.row + 1} of {len(rows)} shown"])

    def sheet(self) -> Sheet:
        """Return the value."""
        spot = self.tracediff.spot
        if self.summary is not None and spot is not None:
            return summary_sheet(self.summary, f"{label(spot.key)} at step {spot.step}", [])
        if self.values is None or spot is None:
            return Sheet("nothing is shown")
        return Sheet(
            f"{label(spot.key)} at step {spot.step}",
            (side_words(side_of(self.values)),),
            ("index", "value"),
            tuple(row.cells for row in self.list.rows),
            {"tensor": spot.key[1], "role": spot.key[0], "step": spot.step, "value": spot.shown},
            {"value": self.values},
        )

    def action_jump(self, by: int) -> None:
        """Go to the next element; without elements, to the next step with NaN or infinities."""
        if not self.jump_known(by):
            self.list.select(self.list.row + by)

    def action_open(self) -> None:
        """Go to the chosen step, where there are no elements to go to."""
        self.open_known()

    def action_tensor(self, by: int) -> None:
        """Go to another tensor."""
        app = self.tracediff
        keys = [tensor.key for tensor in app.a.tensors if tensor.same_as is None]
        if app.spot is not None:
            at = keys.index(app.spot.key) if app.spot.key in keys else 0
            app.spot = Spot(keys[max(0, min(at + by, len(keys) - 1))], app.spot.step)
            self.show()
