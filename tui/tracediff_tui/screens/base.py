"""What all screens share: head, prompt, status and keys, and the actions that mean the same."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.css.query import NoMatches
from textual.screen import Screen
from textual.suggester import SuggestFromList

from tracediff.errors import TracediffError, UsageError
from tracediff.report.terminal import printable
from tracediff_tui import sheet as sheets
from tracediff_tui.keys import KEYS, TITLES, footer_of
from tracediff_tui.screens.prompt import Prompt
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.overview import matcher
from tracediff_tui.views.places import label, parse_spot
from tracediff_tui.widgets.lines import Bar, KeyBar
from tracediff_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize, ScreenResume
    from textual.widget import Widget

    from tracediff_tui.app import TracediffApp

NARROWEST, SHORTEST = 60, 15


class View(Screen[None]):
    """One of the screens; `NAME` is its name in the registry of keys."""

    NAME: ClassVar[str]
    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (116, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar = [(0, "-short"), (28, "-tall")]

    def __init__(self) -> None:
        super().__init__()
        self.filter = ""
        self.message = ""

    @property
    def tracediff(self) -> TracediffApp:
        """The application."""
        return self.app  # type: ignore[return-value] # there is no other app

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Bar(id="head")
        yield from self.body()
        yield Prompt()
        yield Bar(id="status")
        yield KeyBar(footer_of(self.NAME))

    def body(self) -> Iterator[Widget]:
        """Yield what stands between head and status."""
        raise NotImplementedError

    @property
    def pane(self) -> Panel:
        """The panel that the keys move in."""
        focused = self.focused
        return focused if isinstance(focused, Panel) else self.query(Panel).first()

    def on_mount(self) -> None:
        """Put the cursor into the first panel."""
        self.query(Panel).first().focus()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        """Show what there is now."""
        self.call_after_refresh(self.show)

    def on_resize(self, _event: Resize) -> None:
        """Fill the new size."""
        self.call_after_refresh(self.show)

    def show(self) -> None:
        """Show what there is now."""
        self.show_head()
        self.present()
        self.show_status()

    def present(self) -> None:
        """Fill the body."""
        raise NotImplementedError

    def status(self) -> str:
        """Return what the status line says."""
        raise NotImplementedError

    def sheet(self) -> Sheet:
        """Return what is shown, for export."""
        raise NotImplementedError

    def line(self) -> str:
        """Return the line under the cursor, for copying."""
        return self.status()

    def copies(self) -> dict[str, Callable[[], str]]:
        """Return what else can be copied, by name."""
        return {"as command line": self.command_line}

    def command_line(self) -> str:
        """Return the command that begins where the user is."""
        app = self.tracediff
        paths = [run.path for run in (app.a, app.b) if run is not None]
        words = ["tracediff", "tui", *paths]
        if app.spot is not None:
            words += ["--at", f"{app.spot.step}:{label(app.spot.key)}"]
        return shlex.join(words)

    def show_head(self) -> None:
        """Say whose runs these are, and which screen this is."""
        app = self.tracediff
        runs = [f"A {printable(app.a.path)}"]
        if app.b is not None:
            runs.append(f"B {printable(app.b.path)}")
        number = next(key.shown for key in KEYS if key.id == self.NAME)
        joint = "  <>  " if app.options.plain else "  ⇄  "
        self.bar("head").say(" " + joint.join(runs), f"{number} {TITLES[self.NAME]} ")

    def show_status(self) -> None:
        """Say how far the comparison is, what went wrong, or all about the cursor."""
        app = self.tracediff
        if self.size.width < NARROWEST or self.size.height < SHORTEST:
            text = f"the terminal is small: {NARROWEST}x{SHORTEST} and more shows everything"
        elif self.message:
            text, self.message = self.message, ""
        elif app.problem is not None and app.found is None:
            hint = f" ({app.problem.hint})" if app.problem.hint else ""
            text = f"error: {app.problem.message}{hint}"
        elif app.done is not None:
            done, total = app.done
            text = f"comparing: {done} of {total} tensors" if done < total else "explaining ..."
        elif app.b is not None and app.found is None:
            text = "comparing ..."
        else:
            text = self.status()
        self.bar("status").say(f" {text}")

    def tell(self, text: str) -> None:
        """Show a message in the status line until the cursor moves."""
        self.message = text
        self.show_status()

    def bar(self, name: str) -> Bar:
        """Return one of the one-line widgets."""
        return self.query_one(f"#{name}", Bar)

    def keep(self) -> Callable[[str], bool] | None:
        """Return what says whether a line passes the filter; an unfinished pattern passes all."""
        try:
            return matcher(self.filter)
        except UsageError:
            return None

    # What the keys do.

    def on_panel_moved(self, message: Panel.Moved) -> None:
        """Follow the cursor."""
        self.moved(message.panel)
        self.show_status()

    def moved(self, panel: Panel) -> None:
        """Answer a cursor that moved."""

    def on_panel_opened(self, message: Panel.Opened) -> None:
        """Open what was clicked twice."""
        message.panel.focus()
        self.action_open()

    async def on_key_bar_pressed(self, message: KeyBar.Pressed) -> None:
        """Do what a clicked key does."""
        await self.run_action(message.key.action)

    def action_open(self) -> None:
        """Go deeper."""

    def action_back(self) -> None:
        """End the prompt, then the filter; then go to the screen before."""
        prompt = self.query_one(Prompt)
        if prompt.has_class("-open") or self.filter:
            self.filter = ""
            self.close_prompt()
            self.show()
        else:
            self.tracediff.go_back()

    def action_move(self, down: int, across: int) -> None:
        """Move the cursor."""
        self.pane.move(down, across)

    def action_page(self, pages: int) -> None:
        """Move by a screenful."""
        self.pane.page(pages)

    def action_space(self) -> None:
        """Move a screenful down, where there is nothing to fold."""
        self.pane.page(1)

    def action_edge(self, side: int) -> None:
        """Go to the first or last step, or line."""
        self.pane.edge(side)

    def action_far(self, side: int) -> None:
        """Go to the first or last row."""
        self.pane.far(side)

    def action_pane(self, by: int) -> None:
        """Go to another pane."""
        if by > 0:
            self.focus_next(Panel)
        else:
            self.focus_previous(Panel)
        self.show_status()

    def action_go(self, name: str) -> None:
        """Show another screen."""
        self.tracediff.go(name)

    def action_reload(self) -> None:
        """Read the traces again."""
        self.tracediff.reload()

    def action_palette(self) -> None:
        """Show all commands."""
        self.app.action_command_palette()

    def action_keys(self) -> None:
        """Show the keys of this screen."""
        from tracediff_tui.screens.help import KeysScreen

        self.app.push_screen(KeysScreen(self.NAME))

    def action_explain(self) -> None:
        """Explain this screen."""
        from tracediff_tui.screens.help import ExplainScreen

        self.app.push_screen(ExplainScreen(self.NAME))

    def action_copy(self) -> None:
        """Send the line under the cursor to the terminal's clipboard."""
        self.copy(self.line())

    def copy(self, text: str) -> None:
        """Send a text to the terminal's clipboard."""
        self.app.copy_to_clipboard(text)
        self.tell(f"sent to the terminal's clipboard: {text}")

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
        try:
            self.query(Panel).first().focus()
        except NoMatches:  # the screen is going away
            return

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
