"""Tell a gradient that flips at a kink from one that is computed otherwise.

Where a function bends (a ReLU at zero, a maximum between near equals), its value is continuous and
its derivative is not. Rounding that reaches such a place leaves all outputs as they were, and turns
the gradient of one unit for one row on or off: no small difference, and no cause either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.names import class_name, model_layers
from tracediff.onset.growing import steps_apart
from tracediff.onset.judged import Judged
from tracediff.onset.past import reference
from tracediff.tolerance import GROWTH_STEPS

if TYPE_CHECKING:
    from tracediff.onset.probes import Place

_BENT_LAYERS = ("ReLU", "MaxPool", "GlobalMax", "Maximum", "Minimum")
_BENT_FUNCTIONS = ("relu", "selu", "hard", "shrink", "threshold")
_BENT_LOSSES = ("absolute", "mae", "mape", "hinge")


def has_kinks(about: Mapping[str, Any]) -> bool:
    """Say whether a run's model or loss has a function whose derivative jumps.

    Args:
        about: What the run says about itself.
    """
    for layer in model_layers(about):
        if any(word in class_name(layer.get("class")) for word in _BENT_LAYERS):
            return True
        config = layer.get("config")
        settings = config if isinstance(config, Mapping) else {}
        functions = (settings.get("activation"), settings.get("recurrent_activation"))
        if any(word in str(one).lower() for one in functions for word in _BENT_FUNCTIONS):
            return True
    about_compile = about.get("compile")
    loss = about_compile.get("loss") if isinstance(about_compile, Mapping) else None
    return any(word in str(loss).lower() for word in _BENT_LOSSES)


def flipped(one: Judged, place: Place) -> bool:
    """Say whether the first difference beyond rounding is a unit that flipped at a kink.

    It must be the raw gradient, of a run in which rounding has shown before; half of its elements
    must agree within rounding still, nine tenths where it showed at fewer than `GROWTH_STEPS`
    steps; and what differs may be no larger than the gradient has been. That outputs, loss and the
    gradients nearer to the loss agree is what makes it the first.
    """
    step = place.step
    cell = one.track.after[step]
    if place.track.pair.role != "gradient" or one.bound is not None:
        return False
    if not cell["known"] or cell["estimated"] or cell["at_least"]:
        return False
    if cell["mismatched"] or cell["reshaped"]:
        return False
    apart = int(steps_apart(one)[step])
    if cell["size"] < _FEWEST or not apart:
        return False
    largest = float(reference(one.track.after)[step])
    size = max(float(cell["norm_a"]), float(cell["norm_b"]))
    allowed = float(one.tolerance_after[step]) * size / np.sqrt(float(cell["size"]))
    half, tenth = map(float, cell["abs_quantiles"][:2])  # see `drift.QUANTILES`
    within = (half if apart >= GROWTH_STEPS else tenth) <= allowed
    return within and float(cell["norm_difference"]) <= largest


_FEWEST = 4
"""Elements that a gradient must have for one that flips to stand out among them."""
