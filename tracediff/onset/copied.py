"""Tell samples that are others in places from samples whose preparation was rounded otherwise.

Samples are fed; nothing in a step computes them. What rounding can be in them is that of their
preparation (a mean, a logarithm, a resize), and that touches batches throughout. An element that
is off where all others are equal to the bit is no rounding, however small the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracediff.drift import Track

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW_BATCHES = 0.25
"""Share of the batches that differ, up to which only some of them do."""
FEW_ELEMENTS = 0.01
"""Share of all elements of all batches that differ, up to which the same holds for these."""
FUNCTION_ULP = 4
"""Units in the last place by which a function of two libraries differs: numpy's bound for its own.

Logarithms and the like are rounded right for most arguments, so that they may differ in places.
"""


def in_places(track: Track, *, same_libraries: bool) -> NDArray[np.bool_]:
    """Say at which steps samples differ in places, and by more than preparing them explains.

    The same computation by the same libraries gives the same bits: there, few elements tell as
    well as few batches do. By other libraries a single feature may be computed otherwise, in every
    batch, and lose digits where it cancels.

    Args:
        track: An input, a label or a sample weight.
        same_libraries: Whether both runs had the same versions of what could prepare them.
    """
    cells = track.after
    # How many elements differ is not known of sketches; in another dtype all of them may.
    known = cells["known"] & ~cells["reshaped"] & ~cells["estimated"] & ~cells["at_least"]
    differs = cells["differs"] & known
    if not track.floats or track.mixed or not differs.any():
        return np.zeros(len(cells), bool)
    batches = int(np.count_nonzero(cells["present"]))
    some = int(np.count_nonzero(cells["differs"])) <= FEW_BATCHES * batches
    if same_libraries and not some:
        elements = batches * int(cells["size"].max())  # Of equal values no size is kept.
        some = bool(cells["different"][differs].sum() <= FEW_ELEMENTS * elements)
    least = 0 if same_libraries else FUNCTION_ULP
    return np.asarray(differs & (cells["max_ulp"] > least) & some)
