"""Updates that what scales losses skipped in both runs: what of them is no divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracediff.names import counts_steps, is_loss_scale, scales_losses
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
    result = _without_scales(judged)
    optimizers = [run.about.get("optimizer") for run in (a, b)]
    if not all(map(scales_losses, optimizers)):
        return result
    skipped = _skipped(judged)
    for key, one in result.items():
        if key[0] in _GRADIENTS and skipped is not None:
            result[key] = replace(one, after=one.after & ~skipped)
    counter = judged.get(_COUNTER)
    if counter is not None and not any(map(counts_steps, optimizers)):
        result[_COUNTER] = _excused(counter)
    return result


def _without_scales(judged: Mapping[Key, Judged]) -> dict[Key, Judged]:
    """Leave what a scale of the loss does to be seen where it does it: by the gradients.

    Updates are made without it. It shows where a gradient overflows, or vanishes, in one run alone.
    """
    return {
        key: _excused(one) if key[0] == "slot" and is_loss_scale(key[1]) else one
        for key, one in judged.items()
    }


def _excused(one: Judged) -> Judged:
    none = np.zeros(len(one.after), bool)
    return replace(one, before=none, after=none)


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
