"""Sketches: random projections from which norms of differences are estimated.

The definition stands in docs/trace-format.md. What a recorder did not sketch but kept in full is
sketched here, so that both can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 509
"""Numbers in a sketch."""
SKETCH_ERROR = 1.0 / math.sqrt(2 * WIDTH)
"""Relative error of an estimated norm, root mean square; 0 up to `WIDTH` elements."""

_ROWS = 32
_BLOCK = _ROWS * WIDTH
_TOGETHER = 32


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """The sketch of a value.

    Attributes:
        numbers: The projection; float64, of `WIDTH` numbers, or as many as elements where those
            are fewer.
        size: Number of elements of the value.
    """

    numbers: NDArray[np.float64]
    size: int

    @property
    def exact(self) -> bool:
        """Whether norms are exact: the value has no more elements than a sketch."""
        return self.size <= WIDTH

    @property
    def norm(self) -> float:
        """The estimated L2 norm of the value; NaN where an element is NaN or infinite."""
        return float(np.sqrt(np.sum(np.square(self.numbers))))

    @property
    def elements(self) -> NDArray[np.float64]:
        """The elements of the value in C order, where norms are exact; zeros have lost their sign.

        Raises:
            ValueError: There are more than numbers in a sketch.
        """
        if not self.exact:
            raise ValueError(f"a sketch does not tell {self.size} elements apart")
        return self.numbers * _FIRST_SIGNS[: self.size]

    def distance(self, other: Sketch) -> float:
        """Return the estimated L2 norm of the difference of two values of one size.

        Unbiased in its square, whose relative variance is about 2 / `WIDTH`.

        Raises:
            ValueError: The sizes differ.
        """
        if self.size != other.size:
            raise ValueError(f"values of {self.size} and {other.size} elements have no difference")
        return float(np.sqrt(np.sum(np.square(self.numbers - other.numbers))))


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the outputs of SplitMix64 with seed 0 at these positions (Steele et al., 2014)."""
    z = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


_SIGNS = np.where(_mixed(np.arange(2 * _BLOCK, dtype=np.uint64)) >> np.uint64(63), -1.0, 1.0)

_FIRST_SIGNS = _SIGNS[int(_mixed(np.array([1 << 32], np.uint64))[0] % np.uint64(_BLOCK)) :][:WIDTH]
"""Those of the first elements: each is one number of the sketch."""


def sketch_of(values: NDArray[Any]) -> Sketch:
    """Return the sketch of an array of real numbers; its elements are taken in C order.

    Example:
        >>> sketch_of(np.array([3.0, 4.0])).norm
        5.0
    """
    flat = values.reshape(-1)
    count = math.ceil(flat.size / _BLOCK)
    hashes = _mixed(np.arange(count, dtype=np.uint64) + np.uint64(1 << 32))
    offsets = (hashes % np.uint64(_BLOCK)).astype(np.int64)
    result = np.zeros(WIDTH)
    places = np.arange(WIDTH)
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, count, _TOGETHER):
            sums = np.zeros(_BLOCK)
            for block in range(first, min(count, first + _TOGETHER)):
                part = flat[block * _BLOCK : (block + 1) * _BLOCK].astype(np.float64)
                sums[: part.size] += part * _SIGNS[offsets[block] :][: part.size]
            rows = np.arange(_ROWS, dtype=np.uint64) + np.uint64(first // _TOGETHER * _ROWS)
            turns = (_mixed(rows + np.uint64(1 << 33)) % np.uint64(WIDTH)).astype(np.int64)
            turns[rows == 0] = 0
            for row, turn in zip(sums.reshape(_ROWS, WIDTH), turns, strict=True):
                result[(places + turn) % WIDTH] += row
    return Sketch(numbers=result[: min(WIDTH, flat.size)], size=flat.size)
