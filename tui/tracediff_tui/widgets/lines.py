"""Single lines: the head of a screen, its status, and the keys at the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from tracediff.report.terminal import display_width, shorten
from tracediff_tui.ascii import ascii_of
from tracediff_tui.options import options_of
from tracediff_tui.registry import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.events import Click


class Bar(Static):
    """One line with something at the left and something at the right; a click sends a message."""

    class Clicked(Message):
        """The line was clicked."""

        def __init__(self, bar: Bar) -> None:
            super().__init__()
            self.bar = bar

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002
        super().__init__("", id=id, classes=classes, markup=False)
        self.left = self.right = ""

    def say(self, left: str, right: str = "") -> None:
        """Show two texts."""
        if (left, right) != (self.left, self.right):
            self.left, self.right = left, right
            self.refresh()

    def render(self) -> Text:
        """Return the line, its left part shortened where there is no room."""
        width = self.size.width
        room = width - (display_width(self.right) + 2 if self.right else 0)
        left, right = self.left, self.right
        plain = options_of(self).plain
        if plain:
            left, right = ascii_of(left), ascii_of(right)
        if room < 12:
            return Text(shorten(left, max(1, width)), no_wrap=True, end="")
        if display_width(left) > room:
            left = left[: max(0, room - 1)]
            while display_width(left) > room - 1:
                left = left[:-1]
            left += "~" if plain else "…"
        gap = width - display_width(left) - display_width(right)
        return Text(left + " " * max(0, gap) + right, no_wrap=True, end="")

    def on_click(self) -> None:
        """Tell the screen."""
        self.post_message(self.Clicked(self))


class KeyBar(Widget):
    """The keys that work here, as many as fit; each can be clicked."""

    ALLOW_SELECT = False

    class Pressed(Message):
        """A key was clicked."""

        def __init__(self, key: Key) -> None:
            super().__init__()
            self.key = key

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self._keys = tuple(keys)
        self._labels: dict[str, str] = {}

    def relabel(self, **labels: str) -> None:
        """Show other labels for some keys, to say how things stand; none takes a key away."""
        if any(self._labels.get(key) != label for key, label in labels.items()):
            self._labels.update(labels)
            self.refresh()

    def _fitting(self) -> list[tuple[Key, str]]:
        options = options_of(self)
        texts = []
        for key in self._keys:
            shown = options.config.shown(key)
            shown = "Enter" if options.plain and shown == "⏎" else shown
            label = self._labels.get(key.id, key.label)
            if label:
                texts.append((key, f"{shown} {label}"))
        # Help and the way out are always there; the rest by rank.
        last = [one for one in texts if one[0].id in ("keys", "quit")]
        room = self.size.width - sum(len(text) + 2 for _, text in last)
        chosen = []
        for one in texts:
            if one in last:
                continue
            room -= len(one[1]) + 2
            if room < 0:
                break
            chosen.append(one)
        return chosen + last

    def render_line(self, y: int) -> Strip:
        """Return the line."""
        del y
        base = self.rich_style
        segments = []
        for _, text in self._fitting():
            shown, _, label = text.partition(" ")
            segments += [
                Segment(" " + shown, base + Style(bold=True)),
                Segment(f" {label}", base),
            ]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_click(self, event: Click) -> None:
        """Send the key under the mouse."""
        at = 0
        for key, text in self._fitting():
            at += len(text) + 1
            if event.x < at:
                self.post_message(self.Pressed(key))
                return
