"""Screen 1: the whole run, tensors by steps, with the first divergence and its cause above."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual.widgets import Static

from tracediff.report.terminal import printable
from tracediff_tui import palette
from tracediff_tui.columns import zoomed
from tracediff_tui.keys import bindings_of, key_of
from tracediff_tui.screens.base import View
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.answer import answer, before_answer
from tracediff_tui.views.drawing import Drawn, Frame, draw, labels_of, legend_text
from tracediff_tui.views.overview import KINDS, Line
from tracediff_tui.views.picture import Picture
from tracediff_tui.views.places import Spot, onsets
from tracediff_tui.widgets.heatmap import Heatmap
from tracediff_tui.widgets.lines import Bar, KeyBar

if TYPE_CHECKING:
    from textual.widget import Widget

_MANY = 60
"""With more rows than this, layers begin folded but for the one where the runs part."""


class OverviewScreen(View):
    """The heat map of a comparison."""

    NAME: ClassVar = "overview"
    BINDINGS: ClassVar = bindings_of("overview")

    def __init__(self) -> None:
        super().__init__()
        self.metric = 0
        self.kind = 0
        self.hide_equal = False
        self.even = False
        self.folded: frozenset[str] | None = None
        self.range: tuple[int, int] | None = None
        self.lines: tuple[Line, ...] = ()
        self.drawn: Drawn | None = None
        self._shown: Spot | None = None

    def body(self) -> Iterator[Widget]:
        """Yield the answer, its cause, the heat map and its legend."""
        yield Bar(id="answer")
        yield Bar(id="cause")
        yield Heatmap(id="map", labels=30)
        yield Static("", id="legend", markup=False)

    @property
    def map(self) -> Heatmap:
        """The heat map."""
        return self.query_one(Heatmap)

    def present(self) -> None:
        """Show the comparison; before it is there, the rows that it will have."""
        self._answer()
        self._legend()
        self.query_one(KeyBar).relabel(
            metric=f"Metric: {palette.METRICS[self.metric].id}",
            kinds=f"Kinds: {KINDS[self.kind][0]}",
            differing="Show equal" if self.hide_equal else "Hide equal",
            next="Next onset",
        )
        app = self.tracediff
        overview = app.overview
        if overview is None:
            # The shape of the screen at once; the levels follow.
            names = tuple(f"  {printable(name)}" for name in self._layers())
            blank = np.full((len(names), 0), palette.ABSENT, np.uint8)
            self.map.load(Picture(names, blank, axis="comparing ..."))
            return
        if self.folded is None:
            first = app.spot or (onsets(overview.found) or (None,))[0]
            home = {overview.entries[overview.number[first.key]].group} if first else set()
            many = len(overview.entries) > _MANY
            self.folded = frozenset(set(overview.groups()) - home) if many else frozenset()
        keep = self.keep()
        self.lines = overview.lines(
            folded=self.folded if keep is None else frozenset(),
            kind=self.kind,
            keep=keep,
            differing=self.hide_equal,
        )
        self._draw()

    def _layers(self) -> list[str]:
        layers = dict.fromkeys(t.layer for t in self.tracediff.a.tensors if t.layer)
        return list(layers)

    def _draw(self) -> None:
        overview = self.tracediff.overview
        assert overview is not None  # called when it is there
        frame = Frame(
            palette.METRICS[self.metric], self.range, self.even, self.tracediff.options.plain
        )
        labels = labels_of(overview, self.lines, frame)
        self.drawn = drawn = draw(overview, self.lines, frame, self.map.room_across(labels))
        spot = self.tracediff.spot
        row: int | None = None
        column: int | None = None
        if spot is not None and spot != self._shown:
            row, column = self._row_of(spot), drawn.column_of(spot)
            self._shown = spot
        empty = "nothing passes: Esc ends the filter, t shows all kinds, = shows equal rows"
        self.map.load(drawn.picture, row=row, column=column, empty=empty)

    def _row_of(self, spot: Spot) -> int | None:
        overview = self.tracediff.overview
        assert overview is not None  # as in _draw
        number = overview.number.get(spot.key)
        for row, line in enumerate(self.lines):
            if line.entry == number or (line.folded and number in line.members):
                return row
        return None

    def _span(self) -> tuple[int, int]:
        assert self.drawn is not None  # a cell is there only then
        return self.drawn.span(self.map.column)

    def _answer(self) -> None:
        app = self.tracediff
        if app.found is None:
            lines = before_answer(app.problem)
        else:
            reload = app.options.config.shown(key_of("reload"))
            lines = answer(app.found, width=self.size.width, plain=app.options.plain, reload=reload)
        for bar, said in zip(("answer", "cause"), lines, strict=True):
            self.bar(bar).say(*said)

    def _legend(self) -> None:
        plain, width = self.tracediff.options.plain, self.size.width
        text = legend_text(palette.METRICS[self.metric], width, plain=plain)
        self.query_one("#legend", Static).update(text)

    def status(self) -> str:
        """Return all about the cell under the cursor."""
        overview = self.tracediff.overview
        if overview is None or not self.lines or self.drawn is None:
            return ""
        line = self.lines[self.map.row]
        return overview.describe(line, palette.METRICS[self.metric], *self._span())

    def sheet(self) -> Sheet:
        """Return the rows shown."""
        overview = self.tracediff.overview
        if overview is None:
            return Sheet("comparing ...")
        # A folded layer is written with all that is in it.
        lines = [
            Line(line.group, (number,), number)
            for line in self.lines
            if line.entry is None or len(line.members) == 1
            for number in line.members
            if overview.entries[number].judged is not None
        ]
        return overview.sheet(lines, palette.METRICS[self.metric])

    def moved(self, panel: Widget) -> None:
        """Take the place with the cursor, so that other screens open there."""
        del panel
        self._take()

    def _take(self) -> None:
        overview = self.tracediff.overview
        if overview is None or not self.lines or self.drawn is None:
            return
        line = self.lines[self.map.row]
        number, step = overview.worst_step(line, palette.METRICS[self.metric], *self._span())
        entry = overview.entries[number]
        if entry.judged is not None:
            spot = Spot(entry.key, max(step, 0), "before" if step < 0 else "after")
            self.tracediff.spot = self._shown = spot

    def action_open(self) -> None:
        """Open a fold; else the step of the cell."""
        if self.tracediff.overview is None:
            # Whoever is faster than the comparison gets there when it is done.
            self.tracediff.waiting += 1
            return
        if not self.lines:
            return
        line = self.lines[self.map.row]
        if line.folded:
            self.action_space()
            return
        self._take()
        self.tracediff.go("step")

    def action_space(self) -> None:
        """Fold or unfold the layer under the cursor."""
        if not self.lines or self.folded is None:
            return
        group = self.lines[self.map.row].group
        self.folded = self.folded ^ {group}
        self.present()
        rows = [row for row, line in enumerate(self.lines) if line.group == group]
        if rows:
            self.map.select(rows[0])
        self.show_status()

    def action_folds(self) -> None:
        """Fold all layers, or unfold all."""
        overview = self.tracediff.overview
        if overview is not None:
            self.folded = frozenset() if self.folded else frozenset(overview.groups())
            self._again()

    def action_jump(self, by: int) -> None:
        """Go to the next onset: where another tensor first parts, in the order of the run."""
        app = self.tracediff
        if app.found is None:
            return
        spots = onsets(app.found)
        if not spots:
            self.tell("no tensor parts")
            return
        at = spots.index(app.spot) if app.spot in spots else (-1 if by > 0 else 0)
        position = at + by
        if not 0 <= position < len(spots):
            self.tell("no more onsets")
            return
        app.spot = spots[position]
        self.arrive()
        self.tell(f"onset {position + 1} of {len(spots)} · {self.status()}")

    def arrive(self) -> None:
        """Show the place that the application holds now, whatever hides it."""
        app = self.tracediff
        if app.spot is not None and app.overview is not None and self.folded is not None:
            group = app.overview.entries[app.overview.number[app.spot.key]].group
            self.folded -= {group}
            self.filter, self._shown = "", None
            start, stop = self.range or (0, app.steps)
            if not start <= app.spot.step < stop:
                self.range = None
            roles = KINDS[self.kind][1]
            if roles and app.spot.key[0] not in roles:
                self.kind = 0
        self.show()

    def action_metric(self) -> None:
        """Colour by the next measure."""
        self.metric = (self.metric + 1) % len(palette.METRICS)
        self._again()

    def action_kinds(self) -> None:
        """Show the tensors of the next kind."""
        self.kind = (self.kind + 1) % len(KINDS)
        self._again()

    def action_differing(self) -> None:
        """Hide or show what is equal throughout."""
        self.hide_equal = not self.hide_equal
        self._again()

    def action_zoom(self, by: int) -> None:
        """Show half as many steps around the cursor, or twice as many."""
        if self.drawn is None:
            return
        centre = max(0, self._span()[0])
        self.range = zoomed(self.range, self.tracediff.steps, centre, closer=by > 0)
        self._again()

    def action_whole(self) -> None:
        """Show all steps; if they are shown, change between log-spaced and even columns."""
        if self.range is not None:
            self.range = None
        else:
            self.even = not self.even
        self._again()

    def action_step(self, by: int) -> None:
        """Move by steps."""
        self.map.across(by)

    def _again(self) -> None:
        self._shown = None
        self.present()
        self.show_status()
