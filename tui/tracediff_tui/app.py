"""The application: the runs and the place that all screens share; compares in a worker."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.message import Message
from textual.worker import get_current_worker

from tracediff.compare import Examination, examine
from tracediff.errors import NothingComparable, TracediffError
from tracediff.trace import Run, open_trace
from tracediff_tui import commands
from tracediff_tui.options import Options
from tracediff_tui.screens.base import View
from tracediff_tui.screens.findings import FindingsScreen
from tracediff_tui.screens.overview import OverviewScreen
from tracediff_tui.screens.run import RunScreen
from tracediff_tui.screens.settings import SettingsScreen
from tracediff_tui.screens.step import StepScreen
from tracediff_tui.screens.tensor import TensorScreen
from tracediff_tui.screens.values import ValuesScreen
from tracediff_tui.views.overview import Overview
from tracediff_tui.views.places import Spot, first_spot, parse_spot

if TYPE_CHECKING:
    from textual.screen import Screen

_REPORT_EVERY = 0.05
_LOOK_EVERY = 2.0
_GONE = getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0)


class Cancelled(Exception):
    """Ends a comparison that nobody waits for any more."""


class TracediffApp(App[None]):
    """Shows two runs, or one.

    Attributes:
        a: The first run.
        b: The second run, or None.
        found: What comparing them found, once it is there.
        overview: The same as a heat map.
        spot: Where the user is.
        problem: What went wrong, or None.
        finding: The number of the finding that was looked at last.
        setting_wanted: Whether the configuration is to open where that finding speaks of it.
        waiting: How often the user asked to go deeper before there was anything to show.
    """

    TITLE = "tracediff"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar = {
        "overview": OverviewScreen,
        "step": StepScreen,
        "tensor": TensorScreen,
        "findings": FindingsScreen,
        "settings": SettingsScreen,
        "run": RunScreen,
        "values": ValuesScreen,
    }
    BINDINGS: ClassVar = []

    class Progress(Message):
        """So many bytes of so many are compared."""

        def __init__(self, done: int, total: int) -> None:
            super().__init__()
            self.done, self.total = done, total

    class Compared(Message):
        """The comparison is there."""

        def __init__(self, found: Examination, overview: Overview) -> None:
            super().__init__()
            self.found, self.overview = found, overview

    class Failed(Message):
        """There will be no comparison."""

        def __init__(self, problem: TracediffError) -> None:
            super().__init__()
            self.problem = problem

    def __init__(self, a: Run, b: Run | None = None, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or Options()
        self.animation_level = "none"
        self.a, self.b = a, b
        self.found: Examination | None = None
        self.overview: Overview | None = None
        self.spot: Spot | None = None
        self.finding = 0
        self.setting_wanted = False
        self.problem: TracediffError | None = None
        self.done: tuple[int, int] | None = None
        self.history: list[str] = []
        self.waiting = 0
        self._at_known = True
        if self.options.theme:
            self.theme = self.options.theme
        self.set_keymap(self.options.config.keymap())

    @property
    def home(self) -> str:
        """The screen that everything begins at."""
        return "overview" if self.b is not None else "run"

    @property
    def steps(self) -> int:
        """How many steps there are to look at."""
        return self.found.case.steps if self.found is not None else self.a.steps

    async def on_mount(self) -> None:
        """Show the first screen at once, and start to compare."""
        await self.switch_mode(self.home)
        if hasattr(select, "poll") and not self.is_headless:
            self.set_interval(_LOOK_EVERY, self._leave_a_closed_terminal)
        if self.b is not None:
            self.compare()
        elif self.options.at:
            self._begin_at(tuple(tensor.key for tensor in self.a.tensors))
            if self.spot is not None:
                self.go("values")

    def _leave_a_closed_terminal(self) -> None:
        """End where the terminal is gone: the signal that says so may be ignored, as by nohup."""
        asked = select.poll()
        asked.register(sys.__stdin__.fileno() if sys.__stdin__ else 0, select.POLLIN)
        if any(event & _GONE for _, event in asked.poll(0)):
            # Nothing can be written any more, not even what puts a terminal back to how it was.
            os._exit(1)

    @work(thread=True, exclusive=True, group="compare")
    def compare(self) -> None:
        """Compare both runs, and report how far it is."""
        worker, reported = get_current_worker(), 0.0
        assert self.b is not None  # a single run is not compared

        def progress(done: int, total: int) -> None:
            nonlocal reported
            if worker.is_cancelled:
                raise Cancelled
            now = time.monotonic()
            if now - reported > _REPORT_EVERY or done == total:
                reported = now
                self.post_message(self.Progress(done, total))

        try:
            found = examine(
                self.a,
                self.b,
                align=self.options.align,
                repeats=self.options.repeats,
                progress=progress,
                cache=self.options.cache,
            )
            overview = Overview(found)
        except Cancelled:
            return
        except TracediffError as problem:
            self.post_message(self.Failed(problem))
            return
        if not worker.is_cancelled:
            self.post_message(self.Compared(found, overview))

    def on_tracediff_app_progress(self, message: Progress) -> None:
        """Say how far the comparison is."""
        self.done = (message.done, message.total)
        if isinstance(self.screen, View):
            self.screen.show_status()

    def on_tracediff_app_compared(self, message: Compared) -> None:
        """Show what was found."""
        again, self.done = self.found is not None, None
        self.found, self.overview = message.found, message.overview
        if not again:
            self.spot = first_spot(self.found)
            self._begin_at(tuple(self.found.case.onset.judged))
        self.show_again()
        if not again:
            self._go_deeper()

    def on_tracediff_app_failed(self, message: Failed) -> None:
        """Leave if there is nothing to look at; else say what went wrong, and stay."""
        self.problem, self.done = message.problem, None
        if isinstance(message.problem, NothingComparable):
            self.exit()
        self.show_again()

    def _begin_at(self, keys: tuple[tuple[str, str], ...]) -> None:
        """Go to where the command line says."""
        if not self.options.at:
            return
        try:
            # A tensor that is named is the weight, unless its role is named too.
            at = None if ":" in self.options.at else self.spot
            self.spot = parse_spot(self.options.at, keys=keys, run=self.a, steps=self.steps, at=at)
        except TracediffError as problem:
            hint = f" ({problem.hint})" if problem.hint else ""
            self.notify(f"--at: {problem.message}{hint}", severity="warning", markup=False)
            self._at_known = False

    def _go_deeper(self) -> None:
        """Go where the command line says, or as deep as Enter was pressed before."""
        deeper = ["step", "tensor"][: self.waiting]
        if self.options.at and self._at_known:
            deeper = ["tensor"] if ":" in self.options.at else ["step"]
        if self.spot is not None and deeper and self.current_mode == self.home:
            self.history += [self.home, *deeper[:-1]]
            self.switch_mode(deeper[-1])

    def show_again(self) -> None:
        """Let the screen in front show what there is now."""
        for screen in self.screen_stack:
            if isinstance(screen, View):
                screen.show()

    def go(self, name: str) -> None:
        """Show another screen, and remember this one for the way back."""
        if name == self.current_mode:
            return
        self.history.append(self.current_mode)
        del self.history[:-50]
        self.switch_mode(name)

    def go_back(self) -> None:
        """Show the screen before; the first one stays."""
        if self.history:
            self.switch_mode(self.history.pop())
        elif self.current_mode != self.home:
            self.switch_mode(self.home)

    def reload(self) -> None:
        """Open the traces again, and compare again."""
        try:
            opened = [open_trace(run.path).runs for run in (self.a, self.b) if run is not None]
        except TracediffError as problem:
            self.notify(problem.message, severity="error", markup=False)
            return
        self.a = opened[0][0]
        if self.b is not None:
            self.b = opened[1][0]
            self.problem = None
            self.compare()
        self.show_again()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key of the screen as a command, and Textual's own."""
        yield from commands.commands_of(screen)
        yield from super().get_system_commands(screen)
