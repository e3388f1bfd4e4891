"""Which step of B answers to each step of A, however that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class StepMap:
    """Which step of B answers to each step of A.

    Attributes:
        b: For each step of A, from 0 to the last that has a partner, its step in B; -1 for none.
        by: How they were told: ``number``, ``iteration``, ``state`` or ``batches``.
        reason: Why, in a sentence; None where steps of one number belong together.
        departs: Of steps told by their batches, the first step of A whose batch B takes at another
            place in the order, or not at all; else None.
    """

    b: NDArray[np.int64]
    by: str
    reason: str | None = None
    departs: int | None = None

    @property
    def plain(self) -> bool:
        """Whether steps of one number belong together, all of them."""
        return bool((self.b == np.arange(len(self.b))).all())

    @property
    def compared(self) -> int:
        """How many steps have a partner."""
        return int(np.count_nonzero(self.b >= 0))

    @property
    def start(self) -> int:
        """The first step of A that has a partner."""
        found = np.flatnonzero(self.b >= 0)
        return int(found[0]) if len(found) else 0

    @property
    def age(self) -> int:
        """How many steps either run has behind it where the comparison begins."""
        return max(self.start, int(self.b[self.start])) if len(self.b) else 0

    @property
    def offset(self) -> int | None:
        """What to add to a step of A for its partner, where that is one number for all."""
        found = np.flatnonzero(self.b >= 0)
        shifts = self.b[found] - found
        return int(shifts[0]) if len(found) and (shifts == shifts[0]).all() else None
