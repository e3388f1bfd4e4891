"""What the command line hands to the interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracediff.compare import AlignOptions, Repeats
from tracediff_tui.config import Config

if TYPE_CHECKING:
    from textual.widget import Widget


@dataclass(frozen=True, slots=True)
class Options:
    """How to begin.

    Attributes:
        at: Where: ``STEP:TENSOR``, or a part of it; the first divergence if not given.
        plain: ASCII only, and no mouse.
        theme: A theme of Textual's, or None for its default.
        config: The user's own settings, of which the keys count.
        align: How to find what belongs together, where it is not to be found by itself.
        repeats: Repeats of the runs, which measure the noise floor.
        cache: Whether to open from what an earlier comparison kept, and to keep this one.
    """

    at: str | None = None
    plain: bool = False
    theme: str | None = None
    config: Config = field(default_factory=Config)
    align: AlignOptions | None = None
    repeats: Repeats = field(default_factory=Repeats)
    cache: bool = False


def options_of(widget: Widget) -> Options:
    """Return how the application was begun that a widget is part of."""
    return widget.app.options  # type: ignore[attr-defined, no-any-return] # there is no other app
