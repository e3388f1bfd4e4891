"""Moving variances that differ by less than rounding explains, and by one factor throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracediff.diagnose import variance_factor
from tracediff.onset import Judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracediff.trace import Run

Key = tuple[str, str]


def with_variances(judged: Mapping[Key, Judged], a: Run, b: Run) -> dict[Key, Judged]:
    """Mark the first update of a moving variance that took in B's batch by another factor.

    Only steps before which all else agrees are looked at: what went into the batch's variance.

    Args:
        judged: Every track, judged.
        a: The first run, aligned.
        b: The second run, aligned.
    """
    result = dict(judged)
    agreed: NDArray[np.bool_] | None = None
    for key, one in judged.items():
        update = one.track.update
        if not (key[0] == "weight" and key[1].endswith("/moving_variance")) or update is None:
            continue
        if one.bound is not None:
            continue
        agreed = _agreed(judged, len(update)) if agreed is None else agreed
        steps = np.flatnonzero(agreed & update["present"] & one.track.after["differs"])
        found = variance_factor(a, b, one.track.pair, map(int, steps))
        if found is not None and not (one.update | one.after)[: found.step + 1].any():
            flags = one.update.copy()
            flags[found.step] = True
            result[key] = replace(one, update=flags)
    return result


def _agreed(judged: Mapping[Key, Judged], count: int) -> NDArray[np.bool_]:
    """Say at which steps data and trained weights agree within rounding, and did before."""
    apart = np.zeros(count, bool)
    for (role, _), one in judged.items():
        if role in ("input", "label", "sample_weight"):
            apart |= one.after
        elif role == "weight" and not one.statistic:
            apart |= one.before
    return ~np.maximum.accumulate(apart)
