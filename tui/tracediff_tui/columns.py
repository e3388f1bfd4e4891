"""Which steps stand in which column of a heat map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WIDEST = 6


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Bins of steps.

    Attributes:
        starts: The first step of each column.
        stop: The step after the last one shown.
        width: Characters that a column takes.
    """

    starts: NDArray[np.int64]
    stop: int
    width: int

    def __len__(self) -> int:
        return len(self.starts)

    def span(self, column: int) -> tuple[int, int]:
        """Return the first and the last step of a column."""
        following = self.starts[column + 1] if column + 1 < len(self.starts) else self.stop
        return int(self.starts[column]), int(following) - 1

    def of(self, step: int) -> int:
        """Return the column of a step; the nearest for one that is not shown."""
        found = int(np.searchsorted(self.starts, step, side="right")) - 1
        return max(0, min(found, len(self.starts) - 1))


def columns(start: int, stop: int, room: int, *, even: bool = False) -> Columns:
    """Divide the steps from ``start`` to before ``stop`` among at most ``room`` columns.

    With log spacing every column holds as many steps as the one before, or more: the first steps
    stay apart, where runs part.

    Example:
        >>> columns(0, 100, 8).starts.tolist()
        [0, 1, 2, 4, 9, 17, 31, 56]
        >>> columns(0, 100, 4, even=True).starts.tolist()
        [0, 25, 50, 75]
    """
    count, room = max(0, stop - start), max(1, room)
    if count <= room:
        width = min(_WIDEST, room // max(1, count))
        return Columns(np.arange(start, stop, dtype=np.int64), stop, max(1, width))
    if even:
        edges = np.linspace(start, stop, room + 1)[:-1].astype(np.int64)
        return Columns(edges, stop, 1)
    low, high = 1.0, float(count)
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if _sizes(middle, room, count).sum() >= count else (middle, high)
    sizes = _sizes(high, room, count)
    starts = start + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Columns(starts[starts < stop].astype(np.int64), stop, 1)


def _sizes(growth: float, room: int, most: int) -> NDArray[np.int64]:
    exponents = np.minimum(np.arange(room) * np.log(growth), np.log(most) + 1.0)
    sizes: NDArray[np.int64] = np.floor(np.exp(exponents) + 1e-9).astype(np.int64)
    return np.maximum(1, sizes)


def ticks(found: Columns, *, least_apart: int = 7) -> str:
    """Return the axis above the columns: step numbers at their columns, none over another."""
    line, end = "", -least_apart
    for column, step in enumerate(found.starts.tolist()):
        at = column * found.width
        if at >= end + (1 if column * found.width < 40 and found.width > 1 else 2):
            text = str(step)
            line = line.ljust(at) + text
            end = len(line)
    return line


def zoomed(
    shown: tuple[int, int] | None, total: int, centre: int, *, closer: bool
) -> tuple[int, int] | None:
    """Return half as many steps around a step, or twice as many; None for all of them.

    Example:
        >>> zoomed(None, 100, 80, closer=True), zoomed((10, 60), 100, 20, closer=False)
        ((50, 100), None)
    """
    start, stop = shown or (0, total)
    size = max(4, (stop - start) // 2) if closer else (stop - start) * 2
    size = min(size, total)
    start = max(0, min(centre - size // 2, total - size))
    return None if size == total else (start, start + size)
