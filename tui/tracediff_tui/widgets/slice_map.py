"""A slice of a tensor as a heat map that scrolls sideways where it is wider than its window."""

from __future__ import annotations

from tracediff_tui.views.elements import Elements
from tracediff_tui.views.picture import NOTHING
from tracediff_tui.views.slices import Slice
from tracediff_tui.widgets.heatmap import Heatmap


class SliceMap(Heatmap):
    """Draws two axes of a tensor's differences around the element under the cursor.

    Attributes:
        slice: Which part is shown; None where there is nothing to show.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - as all widgets have it
        super().__init__(id=id, labels=8)
        self.slice: Slice | None = None
        self._elements: Elements | None = None
        self._first = 0

    def clear(self, empty: str) -> None:
        """Show nothing, and say why."""
        self.slice = self._elements = None
        self.load(NOTHING, empty=empty)

    def look_at(self, elements: Elements, flat: int) -> None:
        """Show the elements of another tensor, the cursor on one; the same ones stay as they are.

        Args:
            elements: What to show.
            flat: The flat index of the element.
        """
        if elements is not self._elements:
            self._elements = elements
            size = elements.a.size
            self.slice = Slice.of(elements.a.shape, elements.index(flat)) if size else None
        self.redraw()

    def show_element(self, at: tuple[int, ...]) -> None:
        """Put the cursor on an element, in the slice through it."""
        if self.slice is not None:
            self.slice = Slice(self.slice.shape, self.slice.down, self.slice.across, at)
            self.redraw()

    def redraw(self) -> None:
        """Draw as many columns as fit, those around the cursor."""
        if self.slice is None or self._elements is None:
            self.load(NOTHING, empty="no elements")
            return
        room = max(4, self.size.width - 8 - 3)
        row, column = self.slice.cell
        if not self._first <= column < self._first + room:
            self._first = max(0, column - room // 2)
        self._first = max(0, min(self._first, self.slice.extent[1] - room))
        picture = self.slice.picture(self._elements, self._first, room)
        self.load(picture, row=row, column=column - self._first)

    def flat(self) -> int:
        """Return the flat index of the element under the cursor."""
        flat = 0
        if self.slice is not None:
            for index, extent in zip(self.slice.at, self.slice.shape, strict=True):
                flat = flat * extent + index
        return flat

    def follow(self) -> None:
        """Take the element that the cursor was put on in the window."""
        if self.slice is not None:
            self.slice = self.slice.moved(self.row, self._first + self.column)

    def move(self, down: int, across: int) -> None:
        """Move the cursor; at the edge of the window the slice scrolls."""
        if self.slice is not None:
            row, column = self.slice.cell
            self.slice = self.slice.moved(row + down, column + across)
            self.redraw()

    def turn(self, which: int) -> str:
        """Put another axis down (0) or across (1), and return the part shown in words."""
        return self._changed(self.slice.turned(which) if self.slice else None)

    def pin(self, by: int) -> str:
        """Go to another index of an axis not shown, and return the part shown in words."""
        return self._changed(self.slice.pinned(by) if self.slice else None)

    def _changed(self, chosen: Slice | None) -> str:
        if chosen is None:
            return "there is no slice"
        self.slice = chosen
        self.redraw()
        return f"slice {chosen.words()}"
