"""A table of any length with a cursor; columns that do not fit are left out, names shortened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tracediff.report.terminal import display_width, shorten
from tracediff_tui.widgets.panel import Panel


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: Shown above it.
        right: Whether it stands to the right.
        drop: The larger, the sooner it is left out where there is no room; 0 stays.
        flexible: Whether it takes what is left, and is shortened first.
        style: How to colour it.
        least: It is never made narrower than this.
        cut_end: Whether a sentence stands in it: its end is cut off, not its middle.
    """

    title: str
    right: bool = False
    drop: int = 0
    flexible: bool = False
    style: str = ""
    least: int = 8
    cut_end: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its cells, and how to colour it or single cells.

    Attributes:
        cells: What stands in each column.
        style: How to colour the row.
        styles: How to colour single cells, by column.
        marks: Which characters of a cell are underlined, by column.
    """

    cells: tuple[str, ...]
    style: str = ""
    styles: Mapping[int, str] | None = None
    marks: Mapping[int, frozenset[int]] | None = None


class Listing(Panel):
    """Shows rows under a head of titles."""

    head = 1

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        id: str | None = None,  # noqa: A002 - as all widgets have it
        titled: bool = True,
    ) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.rows: Sequence[Row] = ()
        self.empty = ""
        self.head = 1 if titled else 0
        self._fitted: tuple[tuple[int, int], list[tuple[int, int]]] | None = None

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def load(self, rows: Sequence[Row], *, row: int | None = None, empty: str = "") -> None:
        """Show other rows.

        Args:
            rows: The rows.
            row: Where the cursor goes; stays where not given.
            empty: What to say where there are none.
        """
        self.rows, self.empty, self._fitted = rows, empty, None
        if row is not None:
            self.row = row
        self.reloaded()

    def fit(self, width: int) -> list[tuple[int, int]]:
        """Return which columns are shown, each with its width."""
        known = (width, id(self.rows))
        if self._fitted is None or self._fitted[0] != known:
            self._fitted = known, self._fit(width)
        return self._fitted[1]

    def _fit(self, width: int) -> list[tuple[int, int]]:
        natural = [
            max((display_width(row.cells[i]) for row in self.rows), default=0)
            for i in range(len(self.columns))
        ]
        # A column with nothing in it is not shown, whatever its title.
        natural = [
            max(size, display_width(column.title)) if size else 0
            for size, column in zip(natural, self.columns, strict=True)
        ]
        kept = [i for i, size in enumerate(natural) if size]

        def least(index: int) -> int:
            column = self.columns[index]
            return min(natural[index], column.least) if column.flexible else natural[index]

        while sum(least(i) + 2 for i in kept) > width:
            droppable = [i for i in kept if self.columns[i].drop]
            if not droppable:
                break
            kept.remove(max(droppable, key=lambda i: self.columns[i].drop))
        widths = {i: least(i) for i in kept}
        spare = width - sum(widths[i] + 2 for i in kept)
        flexible = [i for i in kept if self.columns[i].flexible]
        for position, i in enumerate(flexible):
            share = spare // (len(flexible) - position) if spare > 0 else 0
            grown = min(natural[i], widths[i] + share)
            spare -= grown - widths[i]
            widths[i] = grown
        for i in flexible:
            grown = min(natural[i], widths[i] + max(0, spare))
            spare -= grown - widths[i]
            widths[i] = grown
        return [(i, widths[i]) for i in kept]

    def draw_head(self, line: int, width: int, base: Style) -> Strip:
        """Return the titles."""
        del line
        if not self.rows and self.empty:
            return Strip([Segment(f" {self.empty}", base + Style(dim=True))])
        cells = [
            _padded(self.columns[i].title, size, self.columns[i]) for i, size in self.fit(width)
        ]
        return Strip([Segment(" " + "  ".join(cells), base + Style(dim=True))])

    def draw(self, row: int, width: int, base: Style) -> Strip:
        """Return a row."""
        shown = self.rows[row]
        here = row == self.row
        line_style = base + Style.parse(shown.style) if shown.style else base
        if here:
            line_style += Style(reverse=True) if self.has_focus else Style(bold=True)
        mark = (">" if self.ascii_only else "▸") if here else " "
        segments = [Segment(mark, line_style)]
        for position, (i, size) in enumerate(self.fit(width)):
            style = (shown.styles or {}).get(i) or self.columns[i].style
            used = line_style + Style.parse(style) if style else line_style
            if position:
                segments.append(Segment("  ", line_style))
            text = _padded(shown.cells[i], size, self.columns[i])
            marks = (shown.marks or {}).get(i)
            if marks and text.rstrip() == shown.cells[i]:
                segments += _underlined(text, marks, used)
            else:
                segments.append(Segment(text, used))
        return Strip(segments).adjust_cell_length(width, line_style)


def _underlined(text: str, marks: frozenset[int], style: Style) -> Iterator[Segment]:
    for marked, run in groupby(enumerate(text), key=lambda at: at[0] in marks):
        letters = "".join(letter for _, letter in run)
        yield Segment(letters, style + Style(underline=True) if marked else style)


def _padded(text: str, width: int, column: Column) -> str:
    if column.cut_end and display_width(text) > width:
        fitted = text[: width - 1] + "…"
        while display_width(fitted) > width:
            fitted = fitted[:-2] + "…"
    else:
        fitted = shorten(text, width)
    blanks = " " * (width - display_width(fitted))
    return blanks + fitted if column.right else fitted + blanks
