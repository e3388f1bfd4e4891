"""The one line in which a filter, a place or a file is typed."""

from __future__ import annotations

from textual.widgets import Input


class Prompt(Input):
    """An input that is there only while it is needed."""

    def __init__(self) -> None:
        super().__init__(compact=True, select_on_focus=False)
        self.cursor_blink = False
        self.what = ""

    def open(self, what: str, word: str, value: str) -> None:
        """Ask for something.

        Args:
            what: ``filter``, ``goto`` or ``export``.
            word: What to show while nothing is typed.
            value: What is there already.
        """
        self.what = what
        self.placeholder = word
        self.value = value
        self.cursor_position = len(value)
        self.add_class("-open")
        self.focus()
