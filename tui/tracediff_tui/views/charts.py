"""Curves and histograms as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=+*%#"


def sparkline(
    values: NDArray[np.float64],
    width: int,
    low: float,
    high: float,
    *,
    ascii_only: bool = False,
    kept: NDArray[np.bool_] | None = None,
) -> str:
    """Return values as bars: each column the mean of its steps, ``!`` where one is not finite.

    Args:
        values: One a step.
        width: Columns.
        low: The value of the lowest bar.
        high: The value of the highest.
        ascii_only: Whether to use ASCII.
        kept: Which of them are there; all if not given. Where none is, nothing is drawn.

    Example:
        >>> sparkline(np.array([0.0, 1.0, 2.0, 3.0]), 4, 0.0, 3.0)
        '▁▃▆█'
        >>> sparkline(np.array([0.0, np.nan, 1.0]), 3, 0.0, 1.0, kept=np.array([True, False, True]))
        '▁ █'
    """
    bars = _PLAIN_BARS if ascii_only else _BARS
    count = min(width, len(values))
    if not count:
        return ""
    parts = np.array_split(values, count)
    span = high - low
    text = []
    known = np.ones(len(values), np.bool_) if kept is None else kept
    for every, there in zip(parts, np.array_split(known, count), strict=True):
        part = every[there]
        if not part.size:
            text.append(" ")
            continue
        if not np.isfinite(part).all():
            text.append("!")
            continue
        share = (float(part.mean()) - low) / span if span > 0 else 0.0
        text.append(bars[round(max(0.0, min(1.0, share)) * (len(bars) - 1))])
    if count * 2 <= width:
        text = [one * (width // count) for one in text]
    return "".join(text)


def bars(
    words: Sequence[str], counts: Sequence[int], width: int, *, ascii_only: bool = False
) -> list[str]:
    """Return a histogram as lines: a word, a bar, a count.

    Example:
        >>> bars(["0", "1-15"], [3, 1], 20)
        ['   0 ████████████ 3', '1-15 ████         1']
    """
    left = max(map(len, words), default=0)
    right = max((len(str(count)) for count in counts), default=1)
    room = max(4, min(40, width - left - right - 3))
    most = max(max(counts, default=1), 1)
    full = "#" if ascii_only else "█"
    lines = []
    for word, count in zip(words, counts, strict=True):
        length = max(1, round(count / most * room)) if count else 0
        lines.append(f"{word:>{left}} {(full * length).ljust(room)} {count:>{right}}")
    return lines


def wrapped(text: str, width: int) -> str:
    """Return lines of text broken to a width, a blank before each.

    Example:
        >>> wrapped("one two", 6).splitlines()
        [' one', ' two']
    """
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, max(4, width - 2))]
    return "\n".join(f" {line}" for line in lines)
