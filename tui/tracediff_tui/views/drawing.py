"""Draws an overview: which columns there are, the levels in them, and the marks of origins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from tracediff_tui import palette
from tracediff_tui.ascii import ascii_of
from tracediff_tui.columns import Columns, columns, ticks
from tracediff_tui.palette import Metric
from tracediff_tui.views.overview import Line, Overview
from tracediff_tui.views.picture import Picture
from tracediff_tui.views.places import Spot

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.style import Style

_WIDEST = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """How to draw.

    Attributes:
        metric: What to colour by.
        range: The steps shown, or None for all.
        even: Whether columns are evenly wide and not log-spaced.
        plain: Whether to use ASCII only.
    """

    metric: Metric
    range: tuple[int, int] | None
    even: bool
    plain: bool


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A picture, and what its columns stand for.

    Attributes:
        picture: The picture.
        columns: The steps of its columns.
        lead: 1 where a column before them stands for the state before step 0, else 0.
    """

    picture: Picture
    columns: Columns
    lead: int

    def span(self, column: int) -> tuple[int, int]:
        """Return the first and last step of a column; -1 is before step 0."""
        column -= self.lead
        return (-1, -1) if column < 0 else self.columns.span(column)

    def column_of(self, spot: Spot) -> int:
        """Return the column of a place."""
        if spot.shown == "before" and spot.step == 0 and self.lead:
            return 0
        return self.lead + self.columns.of(spot.step)


def draw(overview: Overview, lines: Sequence[Line], frame: Frame, room: int) -> Drawn:
    """Return the picture of some lines in ``room`` characters."""
    start, stop = frame.range or (0, overview.steps)
    # Before step 0 stands in a column of its own: state may part before anything ran.
    lead = 1 if start == 0 else 0
    found = columns(start, stop, room - lead, even=frame.even)
    if lead and found.width > 1:
        width = max(1, min(_WIDEST, room // (len(found) + 1)))
        found = Columns(found.starts, found.stop, width)
    grid = overview.grid(frame.metric)
    worst = palette.worst_in(grid[:, 1 : stop + 1], found.starts)
    levels = np.zeros((len(lines), lead + len(found)), np.uint8)
    for row, line in enumerate(lines):
        members = list(line.members)
        levels[row, lead:] = _merged(worst[members])
        if lead:
            levels[row, 0] = _merged(grid[members, :1])[0]
    picture = Picture(
        labels_of(overview, lines, frame),
        levels,
        axis=" " * (lead * found.width) + ticks(found),
        title=_title(overview, frame, found),
        width=found.width,
        marks=_marks(overview, lines, frame, found, lead),
        strong=frozenset(row for row, line in enumerate(lines) if line.entry is None),
    )
    return Drawn(picture, found, lead)


def _title(overview: Overview, frame: Frame, found: Columns) -> str:
    if frame.range is not None:
        return f"steps {frame.range[0]}-{frame.range[1] - 1}"
    if len(found) == overview.steps:
        return "step"
    return "step (even)" if frame.even else "step (log)"


def labels_of(overview: Overview, lines: Sequence[Line], frame: Frame) -> tuple[str, ...]:
    """Return what stands before the lines; layers with a sign that says whether they are folded."""
    opened, closed = ("-", "+") if frame.plain else ("▾", "▸")

    def label(line: Line) -> str:
        if line.entry is None:
            return f"{closed if line.folded else opened} {overview.label(line)}"
        return f"  {overview.label(line)}"

    return tuple(map(label, lines))


def _marks(
    overview: Overview, lines: Sequence[Line], frame: Frame, found: Columns, lead: int
) -> dict[tuple[int, int], str]:
    sign = palette.PLAIN_ORIGIN if frame.plain else palette.ORIGIN
    rows: dict[int, int] = {}
    for row, line in enumerate(lines):
        if line.entry is not None:
            rows[line.entry] = row
        elif line.folded:
            rows |= dict.fromkeys(line.members, row)
    marks = {}
    onset = overview.found.case.onset
    for key in onset.origins:
        place = onset.firsts[key]
        at = rows.get(overview.number[key])
        if at is None:
            continue
        if place.moment == "before" and place.track.state and place.step == 0:
            if lead:
                marks[at, 0] = sign
        elif found.starts[0] <= place.step < found.stop:
            marks[at, lead + found.of(place.step)] = sign
    return marks


def _merged(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the worst of several rows, column by column."""
    return palette.worst_in(levels.T.copy(), np.zeros(1, np.int64))[:, 0]


def legend_text(metric: Metric, width: int, *, plain: bool) -> Text:
    """Return the legend of a metric in lines of a width."""
    origin = palette.PLAIN_ORIGIN if plain else palette.ORIGIN
    levels = [
        (palette.glyph(level, ascii_only=plain), palette.style(level), words)
        for level, words in palette.legend(metric)
    ]
    return key_text(metric.title, [*levels, (origin, "bold", "origin")], width, plain=plain)


def key_text(
    title: str, entries: Sequence[tuple[str, Style | str, str]], width: int, *, plain: bool
) -> Text:
    """Return a legend, a line broken between its entries only.

    Args:
        title: What stands before it.
        entries: Of each, the glyph, how it is coloured, and what it means.
        width: Of the lines.
        plain: Whether to use ASCII only.
    """
    text, used = Text(f" {title}: ", end=""), len(title) + 3
    for glyph, style, said in entries:
        words = ascii_of(said) if plain else said
        if used + len(words) + 2 > width:
            text.append("\n ")
            used = 1
        text.append(glyph, style)
        text.append(f" {words}  ")
        used += len(words) + 4
    return text
