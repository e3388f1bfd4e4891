"""Characters for terminals that have ASCII only; each stands for one, so that columns stay."""

from __future__ import annotations

_TABLE = str.maketrans("…≤≥≠≈⇄·⏎▸▾●─×∞", "~<>!~=-<>v*-xI")


def ascii_of(text: str) -> str:
    """Return ``text`` with every character replaced that ASCII lacks.

    Example:
        >>> ascii_of("hidden · ≤1 ulp …"), ascii_of("größe")
        ('hidden - <1 ulp ~', 'gr??e')
    """
    return text.translate(_TABLE).encode("ascii", "replace").decode("ascii")
