"""The data stage: what a step was fed. Order first, for it explains all else that differs there."""

from __future__ import annotations

from collections.abc import Iterable

from tracediff.diagnose.case import Case
from tracediff.diagnose.data_order import data_order
from tracediff.diagnose.data_values import data_values
from tracediff.diagnose.labels import labels, sample_weights
from tracediff.diagnose.moved import moved_and_transformed, other_batches
from tracediff.model import Finding

_SURE = 0.9
"""Less sure than this is only that nothing else was found."""


def data(case: Case) -> Iterable[Finding]:
    """Explain inputs, labels and sample weights that differ."""
    yield from other_batches(case)
    reordered = list(data_order(case))
    yield from reordered
    if not reordered:
        found = list(data_values(case))
        unlike = [one for one in found if one.code == "data.content" and one.confidence < _SURE]
        both = list(moved_and_transformed(case)) if unlike else []
        if both:
            found = [*both, *(one for one in found if one not in unlike)]
            reordered = both
        yield from found
    cut = [one.step or 0 for one in reordered if one.code == "data.batching"]
    # Once batches are cut otherwise, everything in them stands elsewhere.
    end = min(cut, default=None)
    yield from labels(case, reordered=bool(reordered) and end is None, before=end)
    yield from sample_weights(case, reordered=bool(reordered) and end is None, before=end)
