"""Two axes of a tensor, the others held at an index, as something to draw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tracediff_tui.views.elements import Elements
from tracediff_tui.views.picture import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a tensor is shown.

    Attributes:
        shape: The tensor's shape.
        down: The axis that goes down, or None for a tensor of fewer than two.
        across: The axis that goes across, or None for a single number.
        at: An index into every axis: the element under the cursor.
    """

    shape: tuple[int, ...]
    down: int | None
    across: int | None
    at: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], at: tuple[int, ...]) -> Slice:
        """Return the last two axes through an element."""
        count = len(shape)
        return cls(shape, count - 2 if count > 1 else None, count - 1 if count else None, at)

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns."""
        rows = 1 if self.down is None else self.shape[self.down]
        return rows, 1 if self.across is None else self.shape[self.across]

    @property
    def cell(self) -> tuple[int, int]:
        """The row and column of the element under the cursor."""
        row = 0 if self.down is None else self.at[self.down]
        return row, 0 if self.across is None else self.at[self.across]

    def moved(self, row: int, column: int) -> Slice:
        """Return the same slice with the cursor elsewhere."""
        at = list(self.at)
        if self.down is not None:
            at[self.down] = max(0, min(row, self.shape[self.down] - 1))
        if self.across is not None:
            at[self.across] = max(0, min(column, self.shape[self.across] - 1))
        return replace(self, at=tuple(at))

    def turned(self, which: int) -> Slice:
        """Return another slice: the next axis down (0) or across (1)."""
        count = len(self.shape)
        if count < 2:
            return self
        assert self.down is not None and self.across is not None  # noqa: PT018 - as `of` made it
        if which == 0:
            down = (self.down + 1) % count
            across = self.down if down == self.across else self.across
        else:
            across = (self.across + 1) % count
            down = self.across if across == self.down else self.down
        return replace(self, down=down, across=across)

    def pinned(self, by: int) -> Slice:
        """Return the slice at the next index of the last axis that is not shown."""
        axes = [i for i in range(len(self.shape)) if i not in (self.down, self.across)]
        at = list(self.at)
        for axis in reversed(axes):
            at[axis] += by
            if 0 <= at[axis] < self.shape[axis]:
                break
            at[axis] %= self.shape[axis]
        return replace(self, at=tuple(at))

    def words(self) -> str:
        """Return which part is shown, as an index.

        Example:
            >>> Slice.of((3, 4, 5), (0, 1, 2)).words()
            '[0, :, :]'
        """
        shown = [
            ":" if axis in (self.down, self.across) else str(index)
            for axis, index in enumerate(self.at)
        ]
        return f"[{', '.join(shown)}]"

    def picture(self, elements: Elements, first: int, room: int) -> Picture:
        """Return the slice, from column ``first`` as many columns as there is room for."""
        rows, count = self.extent
        stop = min(count, first + room)
        a, b = (self._cut(values)[:, first:stop] for values in (elements.a, elements.b))
        return Picture(
            labels=tuple(map(str, range(rows))),
            levels=elements.levels(a, b),
            axis=f"{self.words()} {first} to {stop - 1}" if self.shape else "one number",
        )

    def _cut(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        index = tuple(
            slice(None) if axis in (self.down, self.across) else at
            for axis, at in enumerate(self.at)
        )
        cut = values[index]
        if self.across is None:
            return cut.reshape(1, 1)
        if self.down is None:
            return cut.reshape(1, -1)
        return cut.T if self.down > self.across else cut
