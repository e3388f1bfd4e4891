"""What all screens share: head, prompt, status and keys, and the actions that mean the same."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from tracediff.errors import UsageError
from tracediff.report.terminal import printable
from tracediff_tui.keys import footer_of
from tracediff_tui.registry import KEYS, TITLES
from tracediff_tui.screens.asking import Asking
from tracediff_tui.screens.prompt import Prompt
from tracediff_tui.views.overview import matcher
from tracediff_tui.views.places import label
from tracediff_tui.widgets.lines import Bar, KeyBar
from tracediff_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize, ScreenResume
    from textual.widget import Widget


NARROWEST, SHORTEST = 60, 15
"""Below this a terminal does not show what a screen is for."""
WIDE_ENOUGH, HIGH_ENOUGH = 80, 24
"""Below this some columns and lines are left out."""


class View(Asking):
    """One of the screens; `NAME` is its name in the registry of keys."""

    NAME: ClassVar[str]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-narrow"),
        (116, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (28, "-tall"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.filter = ""
        self.message = ""
        self._due = False

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
        return focused if isinstance(focused, Panel) else self.home_pane()

    def on_mount(self) -> None:
        """Put the cursor into the first panel."""
        self.home_pane().focus()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        """Show what there is now."""
        self._soon()

    def on_resize(self, _event: Resize) -> None:
        """Fill the new size."""
        small = self.size.width < WIDE_ENOUGH or self.size.height < HIGH_ENOUGH
        at_least = f"{WIDE_ENOUGH}x{HIGH_ENOUGH}"
        self.message = f"below {at_least} some columns and lines are left out" if small else ""
        self._soon()

    def _soon(self) -> None:
        """Show what there is once, when everything has its size."""
        if not self._due:
            self._due = True
            self.call_after_refresh(self._show_due)

    def _show_due(self) -> None:
        self._due = False
        self.show()

    def show(self) -> None:
        """Show what there is now."""
        self.show_head()
        self.present()
        self.show_status()

    def status(self) -> str:
        """Return what the status line says."""
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
        paths = [run.path for run in (app.a, app.b) if run is not None]
        if sum(map(len, paths)) + 40 > self.size.width:
            names = [path.replace("\\", "/").rstrip("/").split("/")[-1] for path in paths]
            paths = names if len(set(names)) == len(names) else paths
        runs = [f"{side} {printable(path)}" for side, path in zip("AB", paths, strict=False)]
        number = next(app.options.config.shown(key) for key in KEYS if key.id == self.NAME)
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
            text = f"comparing: {100 * done // total} %" if done < total else "explaining ..."
        elif app.b is not None and app.found is None:
            text = "comparing ..."
        else:
            text = self.status()
        pane = self.pane
        self.bar("status").say(f" {text}", f"{pane.row + 1}/{pane.count} " if pane.count else "")

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

    def on_bar_clicked(self, message: Bar.Clicked) -> None:
        """Show all commands: a click on the head does what the key does."""
        if message.bar.id == "head":
            self.action_palette()

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
        """Show another screen; of a single run, the one that answers to it."""
        if self.tracediff.b is None:
            name = {"overview": "run", "step": "run", "tensor": "values"}.get(name, name)
        if name == "findings" and self.tracediff.b is None:
            self.tell("findings need two runs: tracediff tui A B")
            return
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
