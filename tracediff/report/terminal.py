"""Style text for a terminal: when to colour, how wide, and tables that line up; prints nothing."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;]*m")
_RESET = "\x1b[0m"


def wants_colour(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Say whether text written to ``stream`` may carry colour.

    Only a terminal gets colour, never one that calls itself dumb, and never with ``NO_COLOR`` set
    to anything but the empty string (https://no-color.org). ``FORCE_COLOR`` colours a pipe too.
    """
    variables = os.environ if environment is None else environment
    if variables.get("NO_COLOR"):
        return False
    if variables.get("FORCE_COLOR"):
        return True
    return stream.isatty() and variables.get("TERM") != "dumb"


def terminal_width(*, default: int = 100) -> int:
    """Return the columns of the terminal; ``COLUMNS`` comes first, ``default`` last."""
    return max(40, shutil.get_terminal_size((default, 24)).columns)


@dataclass(frozen=True, slots=True)
class Style:
    r"""The text attributes a report uses; with ``colour=False`` every method returns its argument.

    Example:
        >>> Style(colour=False).red("diverged")
        'diverged'
        >>> Style(colour=True).red("diverged")
        '\x1b[31mdiverged\x1b[0m'
    """

    colour: bool = False

    @classmethod
    def for_stream(cls, stream: TextIO) -> Style:
        """Return the style that suits ``stream``: coloured on a terminal, plain elsewhere."""
        return cls(colour=wants_colour(stream))

    def bold(self, text: str) -> str:
        """Return ``text`` in bold."""
        return self._wrap(text, "1")

    def dim(self, text: str) -> str:
        """Return ``text`` faint: for what a reader may skip."""
        return self._wrap(text, "2")

    def underline(self, text: str) -> str:
        """Return ``text`` underlined."""
        return self._wrap(text, "4")

    def red(self, text: str) -> str:
        """Return ``text`` in red: differences and trouble."""
        return self._wrap(text, "31")

    def green(self, text: str) -> str:
        """Return ``text`` in green: agreement."""
        return self._wrap(text, "32")

    def yellow(self, text: str) -> str:
        """Return ``text`` in yellow: what wants a second look."""
        return self._wrap(text, "33")

    def cyan(self, text: str) -> str:
        """Return ``text`` in cyan: names."""
        return self._wrap(text, "36")

    def _wrap(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}{_RESET}" if self.colour and text else text


def printable(text: str) -> str:
    r"""Return ``text`` on one line, control characters escaped.

    Names in a trace come from a stranger's script; they may not move the cursor of whoever reads.

    Example:
        >>> printable("hidden\x1b[2J/kernel")
        'hidden\\x1b[2J/kernel'
    """
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        else character
        for character in text
    )


def display_width(text: str) -> int:
    """Return the columns ``text`` takes on a terminal: escape codes none, wide characters two."""
    columns = 0
    for character in _ESCAPE_SEQUENCE.sub("", text):
        if unicodedata.combining(character):
            continue
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return columns


def shorten(text: str, width: int) -> str:
    """Return ``text``, its middle replaced by an ellipsis where it is wider than ``width``.

    Both ends stay because names differ there. ``text`` is plain: shorten first, then style.

    Example:
        >>> shorten("encoder/block_11/attention/kernel", 17)
        'encoder/…n/kernel'
    """
    if display_width(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    head = (width - 1) // 2
    tail = width - 1 - head
    shortened = f"{text[:head]}…{text[-tail:]}"
    while display_width(shortened) > width and len(shortened) > 1:
        # Wide characters: drop more of the longer end until it fits.
        head, tail = (head - 1, tail) if head >= tail else (head, tail - 1)
        shortened = f"{text[:head]}…{text[len(text) - tail :]}"
    return shortened


def table(
    rows: Iterable[Sequence[str]],
    *,
    align: str = "",
    header: Sequence[str] | None = None,
    indent: int = 0,
    style: Style | None = None,
) -> list[str]:
    """Return the lines of a table whose columns line up, two blanks between them.

    Args:
        rows: The cells; they may carry styles. Short rows are filled with empty cells.
        align: A letter a column, ``l`` or ``r``; columns beyond it are left-aligned.
        header: Titles of the columns, shown faint.
        indent: Blanks before every line.
        style: How to style the header; plain where not given.

    Example:
        >>> table([["hidden/kernel", "12"], ["loss", "1"]], align="lr")
        ['hidden/kernel  12', 'loss            1']
    """
    titles = [(style or Style()).dim(title) for title in header] if header else None
    lines = ([titles] if titles else []) + [list(row) for row in rows]
    columns = max(map(len, lines), default=0)
    filled = [line + [""] * (columns - len(line)) for line in lines]
    widths = [max(display_width(line[column]) for line in filled) for column in range(columns)]
    sides = align.ljust(columns, "l")
    return [(" " * indent + "  ".join(map(_pad, line, widths, sides))).rstrip() for line in filled]


def _pad(cell: str, width: int, side: str) -> str:
    blanks = " " * (width - display_width(cell))
    return blanks + cell if side == "r" else cell + blanks


def byte_size(count: int) -> str:
    """Return bytes as a reader counts them.

    Example:
        >>> byte_size(900), byte_size(3 << 20), byte_size(5 << 30)
        ('900 B', '3.0 MiB', '5.0 GiB')
    """
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
