"""The screen of a single run: norms of every tensor over the steps, loss and learning rate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import work
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from tracediff.errors import TracediffError
from tracediff.report.terminal import printable
from tracediff_tui import palette
from tracediff_tui.columns import Columns, columns, ticks, zoomed
from tracediff_tui.keys import bindings_of
from tracediff_tui.screens.base import View
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.curves import Curve, curve, single_text
from tracediff_tui.views.drawing import key_text
from tracediff_tui.views.overview import KINDS
from tracediff_tui.views.picture import Picture
from tracediff_tui.views.runs import METRICS, RunGrid
from tracediff_tui.widgets.heatmap import Heatmap
from tracediff_tui.widgets.lines import Bar, KeyBar

if TYPE_CHECKING:
    from textual.widget import Widget

_REPORT_EVERY = 0.2


class RunScreen(View):
    """A run by itself."""

    NAME: ClassVar = "run"
    BINDINGS: ClassVar = bindings_of("run")

    class Read(Message):
        """More rows are known."""

        def __init__(self, done: int, total: int) -> None:
            super().__init__()
            self.done, self.total = done, total

    def __init__(self) -> None:
        super().__init__()
        self.grid: RunGrid | None = None
        self.metric = 0
        self.kind = 0
        self.even = False
        self.folded: frozenset[str] = frozenset()
        self.range: tuple[int, int] | None = None
        self.numbers: list[int | str] = []
        self.columns: Columns | None = None
        self.curves: dict[str, Curve | None] = {}
        self.read_rows = (0, 0)

    def body(self) -> Iterator[Widget]:
        """Yield facts, the heat map, curves and the legend."""
        yield Bar(id="answer")
        yield Heatmap(id="map", labels=30)
        yield Static("", id="curves", markup=False)
        yield Static("", id="legend", markup=False)

    @property
    def map(self) -> Heatmap:
        """The heat map."""
        return self.query_one(Heatmap)

    def present(self) -> None:
        """Show the run as far as it is read."""
        app = self.tracediff
        if self.grid is None or self.grid.run is not app.a:
            self.grid = RunGrid.of(app.a)
            self.read()
        run = app.a
        stack = run.about.get("stack") or {}
        self.bar("answer").say(
            f" {printable(str(stack.get('label', 'unknown stack')))} · {run.steps} steps · "
            f"{len(run.tensors)} tensors",
            f"{run.status} ",
        )
        self.query_one(KeyBar).relabel(
            metric=f"Metric: {METRICS[self.metric][0]}",
            kinds=f"Kinds: {KINDS[self.kind][0]}",
            next="Next NaN",
        )
        self._draw()
        self._draw_curves()
        self._legend()

    @work(thread=True, exclusive=True, group="run")
    def read(self) -> None:
        """Read every value once."""
        worker, grid, told = get_current_worker(), self.grid, 0.0
        if grid is None:
            return

        def report(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > _REPORT_EVERY or done == total:
                told = time.monotonic()
                self.post_message(self.Read(done, total))

        for role in ("loss", "learning_rate"):
            try:
                found = curve(grid.run, role, grid.run.steps, cancelled=lambda: worker.is_cancelled)
            except TracediffError as error:
                grid.problems.append(error.message)
                found = None
            self.curves[role] = found
        try:
            grid.fill(cancelled=lambda: worker.is_cancelled, report=report)
        except TracediffError as error:
            grid.problems.append(error.message)
            self.post_message(self.Read(len(grid.rows), len(grid.rows)))

    def on_run_screen_read(self, message: Read) -> None:
        """Show what was read."""
        self.read_rows = (message.done, message.total)
        self._draw()
        self._draw_curves()
        self.show_status()

    def _draw(self) -> None:
        grid = self.grid
        assert grid is not None  # made in present
        shown = grid.shown(KINDS[self.kind][1], self.keep(), self.folded)
        self.numbers = shown
        plain = self.tracediff.options.plain
        labels = tuple(self._label(one, plain=plain) for one in shown)
        start, stop = self.range or (0, max(1, grid.run.steps))
        self.columns = columns(start, stop, self.map.room_across(labels), even=self.even)
        levels = grid.levels(self.metric)
        picture = np.full((len(shown), len(self.columns)), palette.ABSENT, np.uint8)
        if grid.run.steps:
            worst = palette.worst_in(levels[:, :stop], self.columns.starts)
            for at, one in enumerate(shown):
                if isinstance(one, int):
                    picture[at] = worst[one]
        self.map.load(
            Picture(
                labels,
                picture,
                axis=ticks(self.columns),
                title="step" if len(self.columns) == stop - start else "step (log)",
                width=self.columns.width,
                strong=frozenset(i for i, one in enumerate(shown) if isinstance(one, str)),
            ),
            row=None if self.map.count else 1,
            empty="nothing passes: Esc ends the filter, t shows all kinds",
        )

    def _label(self, one: int | str, *, plain: bool) -> str:
        if isinstance(one, str):
            folded = one in self.folded
            sign = ("+" if plain else "▸") if folded else ("-" if plain else "▾")
            return f"{sign} {printable(one)}"
        assert self.grid is not None  # as in _draw
        row = self.grid.rows[one]
        return f"  {row.name}"

    def _draw_curves(self) -> None:
        text = single_text(self.curves, self.size.width, plain=self.tracediff.options.plain)
        self.query_one("#curves", Static).update(text)

    def _legend(self) -> None:
        _, title, _, words = METRICS[self.metric]
        plain = self.tracediff.options.plain
        levels = [(0, "zero"), *enumerate(words, start=1), (palette.BROKEN, "nan/inf")]
        entries = [
            (palette.glyph(level, ascii_only=plain), palette.style(level), word)
            for level, word in [*levels, (palette.UNKNOWN, "unreadable")]
        ]
        text = key_text(title, entries, self.size.width, plain=plain)
        self.query_one("#legend", Static).update(text)

    def _cell(self) -> tuple[int, int] | None:
        """Return the row of the grid and the step under the cursor."""
        if not self.numbers or self.columns is None or self.grid is None:
            return None
        one = self.numbers[min(self.map.row, len(self.numbers) - 1)]
        if isinstance(one, str) or not self.grid.run.steps:
            return None
        first, last = self.columns.span(self.map.column)
        odd = np.flatnonzero(self.grid.odd[one, first : last + 1])
        return one, first + int(odd[0]) if odd.size else first

    def status(self) -> str:
        """Return all about the cell under the cursor, and how far reading is."""
        assert self.grid is not None or not self.numbers  # rows come from the grid
        cell = self._cell()
        words = self.grid.words(*cell) if cell is not None and self.grid is not None else ""
        done, total = self.read_rows
        if done < total:
            words = f"read {done} of {total} rows · {words}"
        elif self.grid is not None and self.grid.problems:
            words = f"{words} · {self.grid.problems[0]}"
        return words

    def sheet(self) -> Sheet:
        """Return the rows shown."""
        numbers = [one for one in self.numbers if isinstance(one, int)]
        return self.grid.sheet(numbers) if self.grid else Sheet("reading ...")

    def moved(self, panel: Widget) -> None:
        """Take the place with the cursor."""
        del panel
        cell = self._cell()
        if cell is not None and self.grid is not None:
            self.tracediff.spot = self.grid.rows[cell[0]].spot(cell[1])

    def action_open(self) -> None:
        """Open the tensor under the cursor; on a layer, fold or unfold it."""
        if self._cell() is None:
            self.action_space()
            return
        self.moved(self.map)
        self.tracediff.go("values")

    def action_space(self) -> None:
        """Fold or unfold the layer under the cursor."""
        if self.numbers and self.grid is not None:
            one = self.numbers[min(self.map.row, len(self.numbers) - 1)]
            group = one if isinstance(one, str) else self.grid.rows[one].group
            self.folded = self.folded ^ {group}
            self._draw()
            if group in self.numbers:
                self.map.select(self.numbers.index(group))
            self.show_status()

    def action_folds(self) -> None:
        """Fold all layers, or unfold all."""
        if self.grid is not None:
            groups = frozenset(row.group for row in self.grid.rows)
            self.folded = frozenset() if self.folded else groups
            self.show()

    def action_jump(self, by: int) -> None:
        """Go to the next row with NaN or infinities, where they first stand."""
        if self.grid is None or self.columns is None:
            return
        places = self.grid.broken()
        cell = self._cell()
        at = places.index(cell) if cell in places else (-1 if by > 0 else 0)
        if not 0 <= at + by < len(places):
            self.tell("no more NaN or infinities" if places else "no NaN and no infinity was met")
            return
        number, step = places[at + by]
        self.folded -= {self.grid.rows[number].group}
        self.range = None
        self._draw()
        if number in self.numbers:
            self.map.select(self.numbers.index(number))
            self.map.select_column(self.columns.of(step))
        self.show_status()

    def arrive(self) -> None:
        """Put the cursor where the application is."""
        spot = self.tracediff.spot
        self.show()
        if spot is None or self.grid is None or self.columns is None:
            return
        for row, one in enumerate(self.numbers):
            if isinstance(one, int) and self.grid.rows[one].spot(spot.step) == spot:
                self.map.select(row)
        self.map.select_column(self.columns.of(spot.step))
        self.show_status()

    def action_metric(self) -> None:
        """Colour by the next measure."""
        self.metric = (self.metric + 1) % len(METRICS)
        self.show()

    def action_kinds(self) -> None:
        """Show the tensors of the next kind."""
        self.kind = (self.kind + 1) % len(KINDS)
        self.show()

    def action_zoom(self, by: int) -> None:
        """Show half as many steps around the cursor, or twice as many."""
        total = self.tracediff.a.steps
        if self.columns is None or not total:
            return
        centre = self.columns.span(self.map.column)[0]
        self.range = zoomed(self.range, total, centre, closer=by > 0)
        self.show()

    def action_whole(self) -> None:
        """Show all steps; if they are shown, change between log-spaced and even columns."""
        self.even = not self.even if self.range is None else self.even
        self.range = None
        self.show()

    def action_step(self, by: int) -> None:
        """Move by steps."""
        self.map.across(by)
