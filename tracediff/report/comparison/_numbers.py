"""How the numbers of a comparison are written, in every report and in the interface."""

from __future__ import annotations

import math


def number(value: float | None, *, digits: int = 3) -> str:
    """Return a number for a cell; ``-`` for one that is not there, ``?`` for one not known.

    Example:
        >>> number(0.000123456), number(None), number(float("nan")), number(0.0)
        ('0.000123', '-', '?', '0')
    """
    if value is None:
        return "-"
    return "?" if math.isnan(value) else f"{value:.{digits}g}"


def least(value: float | None, *, at_least: bool, digits: int = 3) -> str:
    """Return a number for a cell, marked where it is a lower bound.

    Example:
        >>> least(0.5, at_least=True), least(float("nan"), at_least=True)
        ('≥0.5', '?')
    """
    text = number(value, digits=digits)
    return f"≥{text}" if at_least and text not in ("-", "?") else text


def whole(value: int | None) -> str:
    """Return an integer for a cell, large ones by their size.

    Example:
        >>> whole(12), whole(2144544368), whole(None)
        ('12', '2.1e+09', '-')
    """
    if value is None:
        return "-"
    return str(value) if value < 1_000_000 else f"{value:.1e}"


def rounded_up(value: float) -> str:
    """Return a number to three digits that is not below ``value``.

    Example:
        >>> rounded_up(0.00012341), rounded_up(0.0), rounded_up(0.5)
        ('0.000124', '0', '0.5')
    """
    if not value:
        return "0"
    for digits in range(3, 18):
        text = f"{value:.{digits}g}"
        if float(text) >= value:
            return text
        unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
        text = f"{value + unit:.{digits}g}"
        if float(text) >= value:
            return text
    return repr(value)
