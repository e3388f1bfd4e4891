"""Take the scale of the loss off raw gradients where two runs recorded them of other scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracediff.align.pairing import Pairing
from tracediff.align.step_map import StepMap
from tracediff.model import Pair
from tracediff.names import is_loss_scale, scales_losses
from tracediff.trace import Run, Tensor, scalars, scaled_by, scales

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Both = tuple[Numbers, Numbers]

_ROLES = ("gradient", "applied_gradient")


def with_scales(a: Run, b: Run, pairing: Pairing, steps: StepMap) -> Pairing:
    """Return the pairing with what gradients are divided by before they are compared.

    They are where an optimizer scales the loss, and the gradients of some compared step were
    recorded of another scale in A than in B. A plain factor in the settings of both optimizers
    is left to be compared as what it is.

    Args:
        a: The first run.
        b: The second run.
        pairing: Which tensors belong together.
        steps: Which steps do.
    """
    if not any(map(_scales_losses, (a, b))):
        return pairing
    pairs = []
    for pair in pairing.pairs:
        one, other = _tensor(a, pair, pair.a), _tensor(b, pair, pair.b)
        if one is None or other is None or not _differ(_of(a, b, one, other, steps)):
            pairs.append(pair)
        else:
            by = scaled_by(b, other)
            pairs.append(replace(pair, scaled_by_a=scaled_by(a, one), scaled_by=by))
    return replace(pairing, pairs=tuple(pairs))


def scale_notes(a: Run, b: Run, pairing: Pairing, steps: StepMap) -> Iterator[str]:
    """Yield what a reader should know of the scales of two losses, where they differ.

    Args:
        a: The first run, as it was recorded.
        b: The second run, likewise.
        pairing: Which tensors belong together, as `with_scales` left it.
        steps: Which steps do.
    """
    for pair in pairing.pairs:
        one, other = _tensor(a, pair, pair.a), _tensor(b, pair, pair.b)
        if one is not None and other is not None and pair.divided:
            told = _apart(_of(a, b, one, other, steps))
            yield (
                f"raw gradients were recorded times the scale of the loss, {told}: they are "
                "compared without it"
            )
            break
    for pair in pairing.pairs:
        if pair.role == "slot" and is_loss_scale(pair.name) and pair.name.endswith("_scale"):
            slots = a.tensor(pair.role, str(pair.a)), b.tensor(pair.role, str(pair.b))
            found = _picked(scalars(a, slots[0]), scalars(b, slots[1]), steps)
            if _differ(found):
                yield (
                    f"the loss is scaled otherwise, {_apart(found)}: as long as no gradient "
                    "overflows or vanishes for it, that changes no update"
                )


def _scales_losses(run: Run) -> bool:
    several = run.about.get("optimizers") or {}
    return any(map(scales_losses, [run.about.get("optimizer"), *several.values()]))


def _tensor(run: Run, pair: Pair, name: str | None) -> Tensor | None:
    """Return a gradient of a run; what was paired in parts as the whole."""
    if pair.role not in _ROLES or name is None:
        return None
    return run.find(pair.role, name.partition("[")[0])


def _of(a: Run, b: Run, one: Tensor, other: Tensor, steps: StepMap) -> Both:
    """Return what the gradients of A and B are multiplied by at steps that have a partner."""
    return _picked(scales(a, one), scales(b, other), steps)


def _picked(one: Numbers, other: Numbers, steps: StepMap) -> Both:
    there = steps.b >= 0
    return np.where(there, one[: len(there)], 1.0), np.where(there, other[steps.b], 1.0)


def _differ(both: Both) -> bool:
    return bool(_unlike(both).any())


def _unlike(both: Both) -> NDArray[np.bool_]:
    """Say at which steps both are known, and not the same."""
    return np.asarray((both[0] != both[1]) & ~np.isnan(both[0] + both[1]))


def _apart(both: Both) -> str:
    step = int(np.argmax(_unlike(both)))
    return f"{both[0][step]:g} in A and {both[1][step]:g} in B at step {step}"
