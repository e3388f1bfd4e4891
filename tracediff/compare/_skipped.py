"""Updates that what scales losses skipped in both runs: what of them is no divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracediff.names import counts_steps, scales_losses
from tracediff.onset import Judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracediff.trace import Run

Key = tuple[str, str]
_COUNTER = ("slot", "optimizer/iteration")
_GRADIENTS = ("gradient", "applied_gradient")


def without_skipped(judged: Mapping[Key, Judged], a: Run, b: Run) -> dict[Key, Judged]:
    """Take nothing of an update that both runs skipped for a divergence.

    Of gradients that are not finite in both, other elements may be: nothing consumes them. tf.keras
    counts the step and Keras 3 does not, which matters only where the counter enters updates.

    Args:
        judged: Every track, judged.
        a: The first run.
        b: The second run.
    """
    result = dict(judged)
    optimizers = [run.about.get("optimizer") for run in (a, b)]
    if not all(map(scales_losses, optimizers)):
        return result
    skipped = _skipped(judged)
    for key, one in judged.items():
        if key[0] in _GRADIENTS and skipped is not None:
            result[key] = replace(one, after=one.after & ~skipped)
    counter = judged.get(_COUNTER)
    if counter is not None and not any(map(counts_steps, optimizers)):
        none = np.zeros(len(counter.after), bool)
        result[_COUNTER] = replace(counter, before=none, after=none)
    return result


def _skipped(judged: Mapping[Key, Judged]) -> NDArray[np.bool_] | None:
    """Return the steps at which some gradient was not finite, in both runs."""
    tracks = [one.track for key, one in judged.items() if key[0] == "gradient"]
    if not tracks:
        return None
    in_a, in_b = (
        np.any([track.after[name] > 0 for track in tracks], axis=0)
        for name in ("non_finite_a", "non_finite_b")
    )
    return np.asarray(in_a & in_b)
