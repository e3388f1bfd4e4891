"""A heat map as plain values: rows of levels with their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What a heat map shows.

    Attributes:
        labels: What stands before each row.
        levels: A level for every row and column.
        axis: What stands above the columns.
        title: What stands above the labels.
        width: Characters that a column takes.
        marks: Cells that carry a mark and not their glyph.
        strong: Rows whose label is emphasised.
    """

    labels: tuple[str, ...]
    levels: NDArray[np.uint8]
    axis: str = ""
    title: str = ""
    width: int = 1
    marks: Mapping[tuple[int, int], str] | None = None
    strong: frozenset[int] = frozenset()


NOTHING = Picture((), np.zeros((0, 0), np.uint8))
"""A picture without rows."""
