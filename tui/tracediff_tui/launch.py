"""Begin: what the command line calls."""

from __future__ import annotations

from tracediff.trace import Run
from tracediff_tui.options import Options


def start(a: Run, b: Run | None, options: Options) -> None:
    """Show one run or two until the user leaves.

    Raises:
        TracediffError: The runs cannot be compared.
    """
    from tracediff_tui.app import TracediffApp

    app = TracediffApp(a, b, options)
    app.run(mouse=not options.plain)
    if app.problem is not None:
        raise app.problem


def themes() -> list[str]:
    """Return the names of the themes there are."""
    from textual.theme import BUILTIN_THEMES

    return sorted(BUILTIN_THEMES)
