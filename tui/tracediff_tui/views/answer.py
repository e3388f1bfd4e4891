"""The answer of a comparison in two lines: where the runs part, and the cause that explains it."""

from __future__ import annotations

from typing import NamedTuple

from tracediff.compare import Examination
from tracediff.errors import TracediffError
from tracediff.model import Comparison
from tracediff.report.comparison import phrases
from tracediff.report.terminal import display_width, printable


class Said(NamedTuple):
    """A line of which one part stands at its left and one at its right."""

    left: str
    right: str = ""


def before_answer(problem: TracediffError | None) -> tuple[Said, Said]:
    """Return what is said while there is no comparison: that it runs, or why there is none."""
    if problem is None:
        return Said(" comparing ..."), Said("")
    return Said(f" {problem.message}"), Said(f"   {problem.hint or ''}")


def answer(found: Examination, *, width: int, plain: bool, reload: str) -> tuple[Said, Said]:
    """Return the two lines.

    Args:
        found: The comparison.
        width: Cells across the terminal.
        plain: Whether to use ASCII only.
        reload: The key that reads on.
    """
    comparison = found.comparison
    arrow = ">" if plain else "▸"
    first = comparison.first_divergence
    if first is not None:
        place = f" {arrow} First divergence: {phrases.place(first)}"
        if display_width(place) > width:
            # The tensor's name stands at the end, and matters most.
            place = f" {arrow} {phrases.place(first)}"
    else:
        place = f" {arrow} {phrases.verdict(comparison)}"
    growing = _growing(comparison, reload)
    fits = len(growing) <= width - display_width(place) - 2
    return Said(place, growing if fits else ""), _cause(comparison)


def _cause(comparison: Comparison) -> Said:
    if comparison.causes:
        cause = comparison.causes[0]
        more = len(comparison.causes) - 1
        return Said(
            f"   {printable(cause.summary)} [{cause.code}, {cause.confidence:.0%}]",
            f"and {more} more, 4 " if more else "4 ",
        )
    if comparison.first_bit_difference is not None and comparison.first_divergence is None:
        bits = phrases.place(comparison.first_bit_difference)
        return Said(f"   First difference of any size: {bits}")
    count = len(comparison.drift)
    text = f"{count} tensors at {comparison.steps.compared} steps, bit for bit"
    return Said(f"   {text}" if comparison.verdict == "identical" else "")


def _growing(comparison: Comparison, reload: str) -> str:
    """Return which runs are not at their end, and what reads on."""
    compared = (("A", comparison.a), ("B", comparison.b))
    sides = [side for side, run in compared if run.status == "recording"]
    return f"{' and '.join(sides)} incomplete: {reload} reads on " if sides else ""
