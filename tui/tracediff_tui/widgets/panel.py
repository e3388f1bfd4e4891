"""The base of everything with a cursor: drawn line by line, scrolled only when the cursor leaves.

No scrollbars, no animation: an arrow key repaints two lines, which keeps slow connections usable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tracediff_tui.ascii import ascii_of
from tracediff_tui.options import options_of

if TYPE_CHECKING:
    from rich.style import Style
    from textual.events import Click, MouseScrollDown, MouseScrollUp, Resize


class Panel(Widget, can_focus=True):
    """A widget with rows and a cursor on one of them."""

    ALLOW_SELECT = False
    head = 0
    """Lines above the rows that do not scroll."""

    class Moved(Message):
        """The cursor stands elsewhere."""

        def __init__(self, panel: Panel) -> None:
            super().__init__()
            self.panel = panel

    class Opened(Message):
        """A row was clicked twice."""

        def __init__(self, panel: Panel) -> None:
            super().__init__()
            self.panel = panel

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - as all widgets have it
        super().__init__(id=id)
        self.row = 0
        self.top = 0

    @property
    def count(self) -> int:
        """The number of rows."""
        raise NotImplementedError

    @property
    def room(self) -> int:
        """Rows that fit."""
        return max(1, self.size.height - self.head)

    @property
    def ascii_only(self) -> bool:
        """Whether to draw with ASCII only."""
        return options_of(self).plain

    def draw(self, row: int, width: int, base: Style) -> Strip:
        """Return one row."""
        raise NotImplementedError

    def draw_head(self, line: int, width: int, base: Style) -> Strip:
        """Return a line of the head."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        """Return line ``y`` of the widget."""
        width, base = self.size.width, self.rich_style
        if y < self.head:
            strip = self.draw_head(y, width, base)
        elif self.top + y - self.head < self.count:
            strip = self.draw(self.top + y - self.head, width, base)
        else:
            strip = Strip([])
        if self.ascii_only:
            strip = Strip([Segment(ascii_of(one.text), one.style) for one in strip])
        # One segment a run of one style: every segment costs its colours on the line.
        return strip.adjust_cell_length(width, base).crop(0, width).simplify()

    def move(self, down: int, across: int) -> None:
        """Move the cursor; ``across`` is for panels with columns."""
        if down:
            self.select(self.row + down)
        elif across:
            self.across(across)

    def across(self, columns: int) -> None:
        """Move the cursor sideways."""

    def page(self, pages: int) -> None:
        """Move by as many rows as fit."""
        self.select(self.row + pages * max(1, self.room - 1))

    def edge(self, side: int) -> None:
        """Go to the first (-1) or last (1) of what the arrows left and right go through."""
        self.far(side)

    def far(self, side: int) -> None:
        """Go to the first (-1) or last (1) row."""
        self.select(0 if side < 0 else self.count - 1)

    def select(self, row: int) -> None:
        """Put the cursor on a row, and scroll only if it is not in view."""
        chosen = max(0, min(row, self.count - 1))
        old, self.row = self.row, chosen
        if self._scroll_to_row():
            self.refresh()
        else:
            for changed in {old, chosen}:
                self.refresh(Region(0, self.head + changed - self.top, self.size.width, 1))
        if old != chosen:
            self.post_message(self.Moved(self))

    def _scroll_to_row(self) -> bool:
        old = self.top
        if self.row < self.top:
            # A page at a time would lose the context; a third of it stays.
            self.top = max(0, self.row - (0 if self.top - self.row == 1 else self.room // 3))
        elif self.row >= self.top + self.room:
            one = self.row == self.top + self.room
            self.top = self.row - self.room + 1 + (0 if one else self.room // 3)
        self.top = max(0, min(self.top, self.count - self.room))
        return self.top != old

    def reloaded(self) -> None:
        """Say that the rows are others now."""
        self.row = max(0, min(self.row, self.count - 1))
        self._scroll_to_row()
        self.refresh()

    def on_resize(self, _event: Resize) -> None:
        """Keep the cursor in view."""
        self._scroll_to_row()
        self.refresh()

    def on_click(self, event: Click) -> None:
        """Move to where the mouse is; twice opens it."""
        if event.y < self.head or self.top + event.y - self.head >= self.count:
            return
        self.focus()
        self.select(self.top + event.y - self.head)
        self.clicked(event.x)
        if event.chain > 1:
            self.post_message(self.Opened(self))

    def clicked(self, x: int) -> None:
        """Move sideways to where the mouse is."""

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Move down with the wheel."""
        event.stop()
        self.select(self.row + 3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Move up with the wheel."""
        event.stop()
        self.select(self.row - 3)
