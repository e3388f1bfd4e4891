"""What is known of a tensor without its elements: curves of its size, and a row for each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text
from textual.containers import Vertical
from textual.widgets import Static

from tracediff_tui.palette import BLUE, ORANGE
from tracediff_tui.views.charts import sparkline
from tracediff_tui.views.summaries import HEADER, Known, Summary
from tracediff_tui.widgets.listing import Column, Listing, Row

if TYPE_CHECKING:
    from textual.app import ComposeResult

_COLOURS = {"A": BLUE, "B": ORANGE}
_DROP = {"mean": 3, "min": 4, "max": 2, "kept": 5, "nan/inf": 1}
"""What a narrow terminal goes without; the larger, the sooner."""


class KnownPane(Vertical):
    """Draws a `Summary`."""

    def __init__(self, *, single: bool = False, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.single = single

    def compose(self) -> ComposeResult:
        """Lay out curves and steps."""
        yield Static("", id="norms", markup=False)
        yield Listing([_column(title, single=self.single) for title in HEADER], id="steps")

    @property
    def steps(self) -> Listing:
        """A row for each step."""
        return self.query_one("#steps", Listing)

    def load(self, summary: Summary, width: int, *, plain: bool, tall: bool) -> None:
        """Show what is known, the cursor on the step that was asked for."""
        self.query_one("#norms", Static).update(_curves(summary, width, plain=plain, tall=tall))
        self.steps.load([_row(row) for row in summary.rows], row=summary.spot.step)

    def clear(self) -> None:
        """Show nothing."""
        self.steps.load(())


def _column(title: str, *, single: bool) -> Column:
    side, _, what = title.partition(" ")
    return Column(
        title.removeprefix("A ") if single else title,
        right=title not in ("kept", "digests"),
        drop=_DROP.get(what or title, 0),
        style="" if single else _COLOURS.get(side, ""),
    )


def _row(row: Known) -> Row:
    return Row(row.cells(), style="" if row.differs or row.b is None else "dim")


def _curves(summary: Summary, width: int, *, plain: bool, tall: bool) -> Text:
    """Return the norms of both runs on one scale, and below them how far they are apart."""
    norms = {side: summary.norms(side.lower()) for side in "AB"}
    text = Text(end="", no_wrap=True)
    known = [values[np.isfinite(values)] for values in norms.values()]
    both = np.concatenate(known)
    room = max(10, width - 14)
    if both.size:
        for side, values in norms.items():
            if not np.isfinite(values).any():
                continue
            said = "norm" if summary.here.b is None else f"{side} norm"
            text.append(f" {said:<11}")
            kept = ~np.isnan(values)
            low, high = float(both.min()), float(both.max())
            drawn = sparkline(values, room, low, high, ascii_only=plain, kept=kept)
            text.append(drawn + "\n", _COLOURS[side])
    apart = summary.apart()
    known_apart = apart[np.isfinite(apart)]
    if known_apart.size and tall:
        high, kept = float(known_apart.max()), ~np.isnan(apart)
        drawn = sparkline(apart, room, 0.0, high, ascii_only=plain, kept=kept)
        text.append(f" rel L2     {drawn}\n")
    text.rstrip()
    return text
