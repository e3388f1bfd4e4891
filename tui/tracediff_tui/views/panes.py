"""The panes beside the worst elements of a tensor: its histograms, and its drift over the steps."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tracediff_tui import palette
from tracediff_tui.ascii import ascii_of
from tracediff_tui.columns import columns, ticks
from tracediff_tui.views.charts import bars
from tracediff_tui.views.elements import RELATIVE_WORDS, ULP_WORDS, Elements
from tracediff_tui.views.overview import Overview
from tracediff_tui.views.picture import Picture
from tracediff_tui.views.places import Spot

_WIDTH = 38


def histograms(elements: Elements, sort: str, *, wide: bool, plain: bool) -> tuple[Text, Text]:
    """Return the histograms of distances and of relative errors.

    Where there is room for one, it is the one that answers to the order of the elements.

    Args:
        elements: What to count.
        sort: By what elements are listed.
        wide: Whether there is room for both.
        plain: Whether to use ASCII only.
    """

    def text(title: str, words: tuple[str, ...], counts: list[int]) -> Text:
        lines = [title, *bars(words, counts, _WIDTH, ascii_only=plain)]
        joined = "\n".join(f" {line}" for line in lines)
        return Text(ascii_of(joined) if plain else joined, no_wrap=True)

    relative = text("relative error", RELATIVE_WORDS, elements.relative_counts.tolist())
    if elements.ulp_counts is None:
        return relative, Text()
    ulp = text("distance in ulp", ULP_WORDS, elements.ulp_counts.tolist())
    return (ulp if wide or sort != "rel" else relative), relative


def facts_text(lines: Sequence[str], width: int, *, sided: bool, plain: bool) -> Text:
    """Return what is said about a tensor, the third and fourth line in the colours of A and B.

    Args:
        lines: What is said.
        width: Of the screen.
        sided: Whether there are lines of A and B.
        plain: Whether to use ASCII only.
    """
    text = Text(end="", no_wrap=True)
    for number, line in enumerate(lines):
        shown = ascii_of(line) if plain else line
        if plain and len(shown) > width - 2:
            # Textual's own mark for what is cut off is not ASCII.
            shown = shown[: width - 3] + "~"
        style = {2: palette.BLUE, 3: palette.ORANGE}.get(number, "") if sided else ""
        text.append(f" {shown}\n", style)
    text.rstrip()
    return text


def drift_picture(overview: Overview, spot: Spot, room: int) -> tuple[Picture, int, int]:
    """Return a tensor's row of the overview, and the cell of a step: row and column."""
    found = columns(0, overview.steps, room)
    grid = overview.grid(palette.METRICS[0])[[overview.number[spot.key]], 1:]
    picture = Picture(
        ("drift",),
        palette.worst_in(grid, found.starts),
        axis=ticks(found),
        title="step",
        width=found.width,
    )
    return picture, 0, found.of(spot.step)
