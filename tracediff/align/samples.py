"""Which input, label or sample weight of B is which of A, where their numbers differ."""

from __future__ import annotations

import numpy as np

from tracediff.trace import Run

_LOOK = 64
"""Steps whose digests are compared."""


def crossed(a: Run, b: Run, role: str) -> dict[str, str]:
    """Return the tensors of a role that hold the batches of another number in the other run.

    Two inputs may be fed in another order. Only digests are compared; a number is left only for
    one that agrees at most steps at which its namesake does not.

    Args:
        a: The first run.
        b: The second run.
        role: ``input``, ``label`` or ``sample_weight``.
    """
    ones = [one for one in a.tensors if one.role == role]
    others = [one for one in b.tensors if one.role == role]
    steps = min(a.steps, b.steps, _LOOK)
    if len(ones) < 2 or len(others) < 2 or not steps:
        return {}
    from scipy.optimize import linear_sum_assignment

    digests_a = [a.digests(one)[:steps] for one in ones]
    digests_b = [b.digests(one)[:steps] for one in others]
    equal = np.array([[(x == y).all(axis=1).mean() for y in digests_b] for x in digests_a])
    named = np.array([[one.name == other.name for other in others] for one in ones])
    rows, columns = linear_sum_assignment(equal + 0.5 * named, maximize=True)
    return {
        ones[i].name: others[j].name
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if ones[i].name != others[j].name and equal[i, j] > 0.5
    }
