"""What the command line hands to the interface."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracediff_tui.config import Config


@dataclass(frozen=True, slots=True)
class Options:
    """How to begin.

    Attributes:
        at: Where: ``STEP:TENSOR``, or a part of it; the first divergence if not given.
        plain: ASCII only, and no mouse.
        theme: A theme of Textual's, or None for its default.
        config: The user's own settings, of which the keys count.
    """

    at: str | None = None
    plain: bool = False
    theme: str | None = None
    config: Config = field(default_factory=Config)
