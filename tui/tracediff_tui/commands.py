"""The command palette: every key of a screen by name, and what has no key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from tracediff.errors import TracediffError
from tracediff_tui.keys import keys_of
from tracediff_tui.screens.base import View
from tracediff_tui.sheet import FORMATS

if TYPE_CHECKING:
    from textual.screen import Screen


def commands_of(screen: Screen[object]) -> Iterator[SystemCommand]:
    """Yield what can be done on a screen."""
    if not isinstance(screen, View):
        return
    shown = screen.tracediff.options.config.shown
    for key in keys_of(screen.NAME):
        if key.id != "palette":
            yield SystemCommand(key.label, f"{key.help} ({shown(key)})", _run(screen, key.action))
    for kind in FORMATS:
        yield SystemCommand(
            f"Export as .{kind}",
            "write this view into the current folder",
            partial(_export, screen, kind),
        )
    for name, text in screen.copies().items():
        yield SystemCommand(f"Copy {name}", text()[:60], partial(_copy, screen, text))


def _run(screen: View, action: str) -> Callable[[], None]:
    async def later() -> None:
        await screen.run_action(action)

    return lambda: (screen.call_later(later), None)[1]


def _export(screen: View, kind: str) -> None:
    try:
        screen.export(free(Path(f"tracediff-{screen.NAME}.{kind}")))
    except TracediffError as error:
        screen.tell(error.message)


def _copy(screen: View, text: Callable[[], str]) -> None:
    screen.copy(text())


def free(path: Path) -> Path:
    """Return the path, with a number where there is such a file."""
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found
