"""Overlays: the keys of a screen, and what the screen shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tracediff.report.terminal import table
from tracediff_tui import palette
from tracediff_tui.keys import keys_of
from tracediff_tui.registry import TITLES

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tracediff_tui.app import TracediffApp

EXPLAINED = {
    "overview": (
        "Every tensor that both runs recorded is a row, every step a column, layers in forward "
        "order. A cell shows the worst of its steps, never a mean, on a fixed scale: a colour "
        "means the same in every session. The first column is the state before step 0. Columns "
        "grow with the step, because runs part early; 0 makes them even, z zooms. A diamond marks "
        "an origin: a tensor that differs although all that it was computed from agrees."
    ),
    "step": (
        "What one step did, in the order in which it ran: data, state, forward, loss, gradient, "
        "update, metric. An origin differs beyond rounding while everything it was computed from "
        "agrees; what is inherited follows from something before it. Grey rows are equal, or "
        "within what rounding explains."
    ),
    "tensor": (
        "One tensor of both runs, element by element. The histograms count how far elements are "
        "apart; the list below has the worst, by absolute difference, ulp or relative error (u), "
        "in decimal and in bits (x). The slice shows two axes; r and R change them, p moves along "
        "the others. v changes between the state after the step, before it, and the update."
    ),
    "findings": (
        "What explains the divergence, best first, with the evidence and what a finding leaves "
        "open. A line that ends in an arrow leads to the place it speaks of."
    ),
    "settings": (
        "Environment and configuration as the runs recorded them: ≠ differs, + only in B, - only "
        "in A, ≈ the same in another spelling. A setting that a finding speaks of leads to it."
    ),
    "run": (
        "One run: every tensor is a row, every step a column, coloured by the norm of its value "
        "relative to the largest in its row. ! marks NaN or infinity, X what cannot be read."
    ),
    "values": (
        "One tensor of one run: what its values are like, the largest elements, and where NaN and "
        "infinities stand."
    ),
}


class Overlay(ModalScreen[None]):
    """A box over the screen that any of the usual keys closes."""

    BINDINGS: ClassVar = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "Close", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
        Binding("pageup,b", "scroll(-10)", show=False),
    ]

    def __init__(self, screen: str) -> None:
        super().__init__()
        self.about = screen

    @property
    def plain(self) -> bool:
        """Whether to use ASCII only."""
        app: TracediffApp = self.app  # type: ignore[assignment] # there is no other app
        return app.options.plain

    def text(self) -> str:
        """Return what the box says."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """Lay out the box."""
        with VerticalScroll(id="box"):
            yield Static(self.text(), markup=False)

    def action_scroll(self, lines: int) -> None:
        """Scroll the box."""
        self.query_one("#box").scroll_relative(y=lines, animate=False)

    def on_click(self) -> None:
        """Close."""
        self.dismiss()


class KeysScreen(Overlay):
    """The keys that work on a screen."""

    def text(self) -> str:
        """Return the registry's part for the screen, and the legend."""
        app: TracediffApp = self.app  # type: ignore[assignment] # there is no other app
        shown = app.options.config.shown
        rows = [
            (shown(key).replace("⏎", "Enter") if self.plain else shown(key), key.label, key.help)
            for key in sorted(keys_of(self.about), key=lambda key: key.rank or 99)
        ]
        lines = [f"{TITLES[self.about]}: keys", "", *table(rows)]
        if self.about in ("overview", "step", "tensor"):
            lines += ["", "Levels"]
            for metric in palette.METRICS if self.about == "overview" else palette.METRICS[:1]:
                levels = [
                    f"{palette.glyph(level, ascii_only=self.plain)} {words}"
                    for level, words in palette.legend(metric)
                ]
                lines += [f"  {metric.title}:", f"    {'  '.join(levels)}"]
        return "\n".join(lines)


class ExplainScreen(Overlay):
    """What a screen shows."""

    def text(self) -> str:
        """Return the explanation."""
        return f"{TITLES[self.about]}\n\n{EXPLAINED[self.about]}"
