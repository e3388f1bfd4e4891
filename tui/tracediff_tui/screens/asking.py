"""The prompt of every screen: filters, places to go to, files to write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.screen import Screen
from textual.suggester import SuggestFromList

from tracediff.errors import TracediffError
from tracediff_tui import sheet as sheets
from tracediff_tui.screens.prompt import Prompt
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.places import label, parse_spot
from tracediff_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tracediff_tui.app import TracediffApp


class Asking(Screen[None]):
    """A screen with a prompt."""

    NAME: ClassVar[str]
    filter: str

    @property
    def tracediff(self) -> TracediffApp:
        """The application."""
        return self.app  # type: ignore[return-value] # there is no other app

    def show(self) -> None:
        """Show what there is now."""
        raise NotImplementedError

    def present(self) -> None:
        """Fill the body."""
        raise NotImplementedError

    def show_status(self) -> None:
        """Fill the status line."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        """Show a message."""
        raise NotImplementedError

    def sheet(self) -> Sheet:
        """Return what is shown, for export."""
        raise NotImplementedError

    def action_filter(self) -> None:
        """Ask for a filter."""
        self.ask("filter", "/", self.filter)

    def action_goto(self) -> None:
        """Ask where to go."""
        app = self.tracediff
        keys = app.found.case.onset.judged if app.found else [t.key for t in app.a.tensors]
        self.ask("goto", "go to:", "", suggest=[label(key) for key in keys])

    def action_export(self) -> None:
        """Ask for a file."""
        self.ask("export", "write to:", f"tracediff-{self.NAME}.md")

    def ask(self, what: str, word: str, value: str, *, suggest: list[str] | None = None) -> None:
        """Open the prompt."""
        prompt = self.query_one(Prompt)
        prompt.suggester = SuggestFromList(suggest, case_sensitive=False) if suggest else None
        prompt.open(what, word, value)

    def close_prompt(self) -> None:
        """Close the prompt and go back to the panel."""
        self.query_one(Prompt).remove_class("-open")
        self.home_pane().focus()

    def home_pane(self) -> Panel:
        """Return the panel that the keys begin in: the list where there is one."""
        return self.query("#list, #map").first(Panel)

    def on_input_changed(self, event: Prompt.Changed) -> None:
        """Filter as the user types."""
        prompt = event.input
        if isinstance(prompt, Prompt) and prompt.what == "filter" and prompt.has_class("-open"):
            self.filter = event.value
            self.present()
            self.show_status()

    def on_input_submitted(self, event: Prompt.Submitted) -> None:
        """Do what the prompt was opened for."""
        prompt = event.input
        assert isinstance(prompt, Prompt)  # there is no other input
        self.close_prompt()
        try:
            if prompt.what == "goto":
                self.go_to(event.value)
            elif prompt.what == "export":
                self.export(Path(event.value))
        except TracediffError as error:
            self.tell(f"{error.message}{f' ({error.hint})' if error.hint else ''}")

    def go_to(self, text: str) -> None:
        """Go to a step, a tensor, or both.

        Raises:
            UnknownName: There is no such place.
        """
        app = self.tracediff
        if app.found is not None:
            keys = tuple(app.found.case.onset.judged)
        else:
            keys = tuple(tensor.key for tensor in app.a.tensors)
        app.spot = parse_spot(text, keys=keys, run=app.a, steps=app.steps, at=app.spot)
        self.arrive()

    def arrive(self) -> None:
        """Show the place that the application holds now."""
        self.show()

    def export(self, path: Path) -> None:
        """Write what is shown.

        Raises:
            UsageError: It cannot be written there, or not so.
        """
        written = sheets.write(self.sheet(), path, svg=self.app.export_screenshot())
        self.tell(f"written: {written}")
