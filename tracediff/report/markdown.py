"""Text as markdown has it: with every character as it stands."""

from __future__ import annotations

from tracediff.report.terminal import printable


def escaped(text: str) -> str:
    r"""Return text in which no character formats, and no control character is left.

    Example:
        >>> escaped("a*b|c")
        'a\\*b\\|c'
    """
    result = printable(text)
    for character in "\\`*_|<>":
        result = result.replace(character, f"\\{character}")
    return result
