"""Rows of levels under an axis of steps, with a cursor on one cell; one segment a run of one level.

The labels stand at the left and do not scroll sideways; columns are chosen to fit the width.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tracediff.report.terminal import display_width, shorten
from tracediff_tui import palette
from tracediff_tui.views.picture import NOTHING, Picture
from tracediff_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Heatmap(Panel):
    """Draws a `Picture`."""

    head = 1

    def __init__(self, *, id: str | None = None, labels: int = 24) -> None:  # noqa: A002
        super().__init__(id=id)
        self.picture = NOTHING
        self.column = 0
        self.most = labels
        self.empty = ""

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.picture.labels)

    @property
    def columns(self) -> int:
        """The number of columns."""
        return int(self.picture.levels.shape[1])

    def label_width(self, labels: tuple[str, ...] | None = None) -> int:
        """Return how wide the labels are; at most a third of the widget."""
        wanted = max(map(display_width, labels or self.picture.labels), default=0)
        return max(8, min(wanted, self.most, self.size.width // 3))

    def room_across(self, labels: tuple[str, ...]) -> int:
        """Return how many characters the columns may take beside these labels."""
        return max(1, self.size.width - self.label_width(labels) - 3)

    def load(
        self,
        picture: Picture,
        row: int | None = None,
        column: int | None = None,
        *,
        empty: str = "",
    ) -> None:
        """Show another picture, and put the cursor there."""
        self.picture, self.empty = picture, empty
        if row is not None:
            self.row = row
        if column is not None:
            self.column = column
        self.column = max(0, min(self.column, self.columns - 1))
        self.reloaded()

    def across(self, columns: int) -> None:
        """Move the cursor sideways."""
        self.select_column(self.column + columns)

    def edge(self, side: int) -> None:
        """Go to the first or last column."""
        self.select_column(0 if side < 0 else self.columns - 1)

    def select_column(self, column: int) -> None:
        """Put the cursor on a column."""
        chosen = max(0, min(column, self.columns - 1))
        if chosen != self.column:
            self.column = chosen
            self.select(self.row)
            self.post_message(self.Moved(self))

    def clicked(self, x: int) -> None:
        """Move to the column under the mouse."""
        column = (x - self.label_width() - 2) // self.picture.width
        if 0 <= column < self.columns:
            self.select_column(column)

    def draw_head(self, line: int, width: int, base: Style) -> Strip:
        """Return the axis."""
        del line, width
        if not self.picture.labels and self.empty:
            return Strip([Segment(f" {self.empty}", base + Style(dim=True))])
        size = self.label_width()
        title = shorten(self.picture.title, size)
        left = f" {title}{' ' * (size - display_width(title))} "
        return Strip([Segment(left + self.picture.axis, base + Style(dim=True))])

    def draw(self, row: int, width: int, base: Style) -> Strip:
        """Return a row: label and levels."""
        del width
        picture, size = self.picture, self.label_width()
        here = row == self.row
        label = _shortened(picture.labels[row], size)
        label_style = base + Style(bold=row in picture.strong or here)
        mark = (">" if self.ascii_only else "▸") if here else " "
        padded = f"{mark}{label}{' ' * (size - display_width(label))} "
        segments = [Segment(padded, label_style + Style(reverse=True) if here else label_style)]
        levels = picture.levels[row]
        if len(levels):
            segments += self._cells(row, levels, base)
        return Strip(segments)

    def _cells(self, row: int, levels: NDArray[np.uint8], base: Style) -> list[Segment]:
        marks = {c: m for (r, c), m in (self.picture.marks or {}).items() if r == row}
        special = set(marks)
        if row == self.row:
            special.add(self.column)
        breaks = {0, len(levels), *(np.flatnonzero(np.diff(levels)) + 1).tolist()}
        for column in special:
            breaks |= {column, min(column + 1, len(levels))}
        edges = sorted(breaks)
        width = self.picture.width
        result = []
        for start, stop in itertools.pairwise(edges):
            level = int(levels[start])
            text = palette.glyph(level, ascii_only=self.ascii_only) * ((stop - start) * width)
            style = base + palette.style(level)
            if start in marks:
                # The rest of the cell keeps its level's colour.
                rest = text[0] * (width - 1)
                here = row == self.row and start == self.column
                mark_style = style + Style(color="#ffffff", bold=True, reverse=here)
                result += [Segment(marks[start], mark_style), Segment(rest, style)]
                continue
            if row == self.row and start == self.column:
                style += Style(reverse=True, bold=True)
                if level in (palette.EQUAL, palette.ABSENT):
                    style = base + Style(reverse=True)
            result.append(Segment(text, style))
        return result


_SIGN = 2
"""Characters before a name."""


def _shortened(text: str, width: int) -> str:
    """Shorten a name in its middle, and leave the sign of a fold before it."""
    if display_width(text) <= width:
        return text
    return text[:_SIGN] + shorten(text[_SIGN:], width - _SIGN)
