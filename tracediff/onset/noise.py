"""Find tensors whose differences are rounding noise around zero, whatever their relative size.

The gradient of a bias before batch normalisation is zero in exact arithmetic. What is computed is
noise, which adaptive optimizers turn into updates of full size; the moving mean behind it follows.
None of that changes what the network computes, so none of it is a divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import Track, largest_possible
from tracediff.names import class_name, model_layers, split_slot
from tracediff.tolerance import NOISE_GRADIENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, str]
_GRADIENTS = ("gradient", "applied_gradient")
_FOLLOW = 1.1
"""How far a moving mean or an activation may exceed the drift of the bias that shifts it."""


class GradientNorms:
    """The norm of all gradients of a step together, worked out only where it is asked for.

    Args:
        tracks: All tracks; those of gradients count.
        norm: Reads the norm of a gradient at a step where both runs agree in it, so that the
            tracks do not know it; NaN where it was not kept.
    """

    def __init__(self, tracks: Iterable[Track], norm: Callable[[Track, int], float]) -> None:
        self._by_role: dict[str, list[Track]] = {role: [] for role in _GRADIENTS}
        for track in tracks:
            if track.pair.role in self._by_role:
                self._by_role[track.pair.role].append(track)
        self._norm = norm
        self._known: dict[tuple[str, int], float] = {}

    def total(self, role: str, step: int) -> float:
        """Return the L2 norm over the gradients of ``role`` at ``step``, the smaller run's."""
        if (role, step) not in self._known:
            squares = 0.0
            for track in self._by_role[role]:
                cell = track.after[step]
                if not cell["present"]:
                    continue
                if cell["differs"] and cell["known"]:
                    norm = float(min(cell["norm_a"], cell["norm_b"]))
                else:
                    norm = self._norm(track, step)
                squares += norm * norm if np.isfinite(norm) else 0.0
            self._known[role, step] = float(np.sqrt(squares))
        return self._known[role, step]


def normalised_layers(about: Mapping[str, Any]) -> frozenset[str]:
    """Return the layers whose outputs go straight into a normalisation.

    That takes mean and scale away again, so the gradients of what made them are what large terms
    leave when they cancel: all of a bias, and of a kernel what lies along the kernel itself.
    """
    return frozenset(
        str(name)
        for layer in model_layers(about)
        if "Normalization" in class_name(layer.get("class"))
        for name in layer.get("inputs") or ()
    )


def noisy_gradients(
    track: Track,
    norms: GradientNorms,
    candidates: NDArray[np.bool_],
    *,
    share: float = NOISE_GRADIENT,
) -> NDArray[np.bool_]:
    """Say at which ``candidates`` a gradient is noise: tiny beside all others, in both runs.

    Args:
        track: The gradient.
        norms: The norms of all gradients.
        candidates: The steps that are asked for.
        share: What is tiny, of the norm of all gradients.
    """
    result = np.zeros(len(candidates), bool)
    for step in map(int, np.flatnonzero(candidates)):
        cell = track.after[step]
        larger = max(float(cell["norm_a"]), float(cell["norm_b"]))
        result[step] = larger < share * norms.total(track.pair.role, step)
    return result


def noise_driven(
    tracks: Mapping[Key, Track],
    gradients: Mapping[Key, NDArray[np.bool_]],
    wide: Mapping[Key, NDArray[np.bool_]],
) -> dict[Key, NDArray[np.bool_]]:
    """Say for weights, slots and applied gradients at which steps noise drives their difference.

    A weight is driven by noise after step k if its gradient was noise at every step up to k at
    which it differed by more than the tolerance, and there was such a step.

    Args:
        tracks: All tracks.
        gradients: For each gradient, the steps at which it is noise.
        wide: For each gradient, the steps at which it differs by more than the tolerance.
    """
    result: dict[Key, NDArray[np.bool_]] = {}
    by_weight: dict[str, NDArray[np.bool_]] = {}
    for role, name in gradients:
        # The raw gradient tells, where there is one; clipping scales the applied one.
        if role == "applied_gradient" and ("gradient", name) in gradients:
            continue
        noisy = gradients[role, name]
        spoilt = np.maximum.accumulate(wide[role, name] & ~noisy)
        by_weight[name] = np.maximum.accumulate(noisy) & ~spoilt
    for key, track in tracks.items():
        role, name = key
        if role == "weight" and name in by_weight:
            result[key] = by_weight[name]
        elif role == "slot" and split_slot(name)[0] in by_weight:
            result[key] = by_weight[split_slot(name)[0]]
        elif role in _GRADIENTS:
            own = gradients.get(key, np.zeros(len(track.after), bool))
            raw = gradients.get(("gradient", name), own)
            result[key] = own | raw if role == "applied_gradient" else own
    return result


def following(
    tracks: Mapping[Key, Track], noise: Mapping[Key, NDArray[np.bool_]], about: Mapping[str, Any]
) -> dict[Key, NDArray[np.bool_]]:
    """Say where moving means and activations merely follow a bias that noise drives.

    A batch normalisation takes the mean of what the layer before it puts out, so its moving mean
    moves by no more than that layer's bias did.
    """
    drift: dict[str, NDArray[np.float64]] = {}
    for (role, _), track in tracks.items():
        if role == "weight" and track.pair.layer and track.before is not None:
            driven = noise.get(track.pair.key)
            if driven is not None and driven.any():
                moved = np.where(driven, largest_possible(track.after), 0.0)
                layer = track.pair.layer
                moved = np.maximum.accumulate(np.nan_to_num(moved))
                drift[layer] = np.maximum(drift.get(layer, 0.0), moved)
    result: dict[Key, NDArray[np.bool_]] = {}
    if not drift:
        return result
    feeds = {
        str(layer.get("name")): [str(name) for name in layer.get("inputs") or ()]
        for layer in model_layers(about)
        if "BatchNormalization" in class_name(layer.get("class"))
    }
    for key, track in tracks.items():
        role, name = key
        layer = track.pair.layer or ""
        shift: NDArray[np.float64] | None = None
        if role == "weight" and name.endswith("/moving_mean"):
            known = [drift[source] for source in feeds.get(layer, ()) if source in drift]
            shift = np.max(known, axis=0) if known else None
        elif role == "activation":
            # An output is computed from the bias before the step, which the step before left.
            shift = np.r_[0.0, drift[layer][:-1]] if layer in drift else None
        if shift is not None:
            result[key] = (track.after["max_abs"] <= _FOLLOW * shift) & (shift > 0.0)
    return result
