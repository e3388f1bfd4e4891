"""Find which tensors of two runs are the same thing: by name, then by what layers look like.

A pairing is data with a reason; nothing is compared here but shapes and, for lone slots, whether
they are ever used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tracediff.drift import squeezed_shape
from tracediff.model import Pair, Side, Unpaired
from tracediff.names import (
    class_name,
    model_layers,
    optimizer_settings,
    renamed,
    split_slot,
    within_layer,
)
from tracediff.trace import Run, Tensor

_DATA_ROLES = ("input", "label", "sample_weight")


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which tensors of two runs belong together, and which have no partner."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]

    def find(self, role: str, name: str) -> Pair | None:
        """Return the pair of that role and canonical name, or None."""
        return next((pair for pair in self.pairs if pair.key == (role, name)), None)


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """A layer of A that is taken to be a layer of B of another name."""

    a: str
    b: str
    weights: Mapping[str, str]
    reason: str
    confidence: float


def pair_tensors(a: Run, b: Run) -> Pairing:
    """Pair the tensors of two runs.

    Equal (role, canonical name) of equal shape belong together; trailing axes of length 1 do not
    count. Weighted layers that only one run has are then matched by class and weight shapes, in
    execution order. A missing ``sample_weight`` stands for ones.
    """
    matches = match_layers(a, b)
    renames = {match.b: match for match in matches}
    names_b = {tensor.key: tensor for tensor in b.tensors}
    by_a_name: dict[tuple[str, str], tuple[Tensor, LayerMatch | None]] = {}
    for tensor in b.tensors:
        match = _match_of(tensor, renames)
        name = tensor.name if match is None else _translated(tensor, match)
        by_a_name[tensor.role, name] = tensor, match
    pairs: list[Pair] = []
    unpaired: list[Unpaired] = []
    used: set[tuple[str, str]] = set()
    for tensor in a.tensors:
        partner, match = by_a_name.get(tensor.key, (None, None))
        if partner is None:
            continue
        used.add(tensor.key)
        if _both_aliases(tensor, partner):
            continue
        # Data of another shape is a finding about the data, not tensors that do not belong.
        if tensor.role not in _DATA_ROLES and not _shapes_fit(tensor.shape, partner.shape):
            unpaired.extend(_misfits(tensor, partner, a, b))
            continue
        pairs.append(_pair(tensor, partner, match))
    for tensor in a.tensors:
        if tensor.key not in used:
            _without_partner(a, "a", tensor, pairs, unpaired)
    for key, (tensor, _) in by_a_name.items():
        if key not in used and tensor.key in names_b:
            _without_partner(b, "b", tensor, pairs, unpaired)
    return Pairing(tuple(pairs), tuple(unpaired))


def match_layers(a: Run, b: Run) -> tuple[LayerMatch, ...]:
    """Match weighted layers whose names only one run has, or mean layers of other shapes.

    First by class, weight names and shapes; what is left, by shapes alone. Layers that look alike
    are taken in execution order, and the confidence says how many there were to choose from.
    """
    layers_a, layers_b = _weighted_layers(a), _weighted_layers(b)
    fits = {
        name for name in layers_a.keys() & layers_b.keys() if _fits(layers_a[name], layers_b[name])
    }
    left_a = {name: layer for name, layer in layers_a.items() if name not in fits}
    left_b = {name: layer for name, layer in layers_b.items() if name not in fits}
    result: list[LayerMatch] = []
    rounds = (
        ("class, weight names and shapes", 0.95, lambda one: (one.kind, one.names, one.shapes)),
        ("class and weight shapes", 0.85, lambda one: (one.kind, one.shapes)),
        ("weight shapes", 0.6, lambda one: one.shapes),
    )
    for what, certainty, signature in rounds:
        groups_a, groups_b = _grouped(left_a, signature), _grouped(left_b, signature)
        for key in groups_a.keys() & groups_b.keys():
            ones, others = groups_a[key], groups_b[key]
            unique = len(ones) == len(others) == 1
            equally_many = len(ones) == len(others)
            for name_a, name_b in zip(ones, others, strict=False):
                layer_a, layer_b = left_a.pop(name_a), left_b.pop(name_b)
                reason = f"same {what}"
                if not unique:
                    reason += f", in execution order ({len(ones)} in A, {len(others)} in B)"
                factor = 1.0 if unique else 0.9 if equally_many else 0.6
                weights = dict(zip(layer_b.names, layer_a.names, strict=True))
                result.append(
                    LayerMatch(name_a, name_b, weights, reason, round(certainty * factor, 2))
                )
    return tuple(sorted(result, key=lambda match: layers_a[match.a].order))


@dataclass(frozen=True, slots=True)
class _Layer:
    kind: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    order: int


def _fits(a: _Layer, b: _Layer) -> bool:
    shapes = dict(zip(b.names, b.shapes, strict=True))
    return any(
        name in shapes and _shapes_fit(shape, shapes[name])
        for name, shape in zip(a.names, a.shapes, strict=True)
    )


def _weighted_layers(run: Run) -> dict[str, _Layer]:
    classes = {
        layer.get("name"): class_name(layer.get("class")) for layer in model_layers(run.about)
    }
    weights: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in run.tensors:
        if tensor.role == "weight" and tensor.layer is not None:
            weights[tensor.layer].append(tensor)
    result = {}
    for layer, tensors in weights.items():
        ordered = sorted(tensors, key=lambda tensor: tensor.order)
        result[layer] = _Layer(
            kind=classes.get(layer, ""),
            names=tuple(within_layer(tensor.name, layer) for tensor in ordered),
            shapes=tuple(tensor.shape for tensor in ordered),
            order=ordered[0].order,
        )
    return dict(sorted(result.items(), key=lambda item: item[1].order))


def _grouped(layers: Mapping[str, _Layer], signature: Any) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, layer in layers.items():
        groups[signature(layer)].append(name)
    return groups


def _match_of(tensor: Tensor, matches: Mapping[str, LayerMatch]) -> LayerMatch | None:
    if tensor.layer is not None:
        return matches.get(tensor.layer)
    owners = [layer for layer in matches if tensor.name.startswith(f"{layer}/")]
    return matches[max(owners, key=len)] if owners else None


def _translated(tensor: Tensor, match: LayerMatch) -> str:
    name = tensor.name
    rest = within_layer(name, match.b)
    for theirs, ours in match.weights.items():
        if rest == theirs or rest.startswith(f"{theirs}/"):
            return f"{match.a}/{ours}{rest[len(theirs) :]}"
    return renamed(name, match.b, match.a)


def _pair(a: Tensor, b: Tensor, match: LayerMatch | None) -> Pair:
    pair = Pair(
        role=a.role,
        name=a.name,
        a=a.name,
        b=b.name,
        layer=a.layer,
        order=a.order,
        note=_note(a, b),
    )
    if match is None:
        return pair
    return replace(pair, reason=f"layer {match.b}: {match.reason}", confidence=match.confidence)


def _note(a: Tensor, b: Tensor) -> str | None:
    notes = []
    if a.dtype != b.dtype:
        notes.append(f"{a.dtype} in A, {b.dtype} in B")
    if a.shape is not None and b.shape is not None and a.shape != b.shape:
        notes.append(f"shape {a.shape} in A, {b.shape} in B")
    if "sparse" in (a.layout, b.layout) and a.layout != b.layout:
        notes.append(f"{a.layout} in A, {b.layout} in B")
    return "; ".join(notes) or None


def _both_aliases(a: Tensor, b: Tensor) -> bool:
    # The other role holds the same values on both sides: comparing twice would say it twice.
    return a.same_as is not None and a.same_as == b.same_as


def _shapes_fit(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> bool:
    return a is None or b is None or squeezed_shape(a) == squeezed_shape(b)


def _misfits(a: Tensor, b: Tensor, run_a: Run, run_b: Run) -> Iterable[Unpaired]:
    reason = f"shape {a.shape} in A, {b.shape} in B"
    used = a.role != "slot" or (is_used(run_a, a) and is_used(run_b, b))
    matters = a.role in ("weight", "slot", "input", "label") and used
    yield _unpaired("a", a, reason, matters=matters)
    yield _unpaired("b", b, reason, matters=matters)


def _without_partner(
    run: Run, side: Side, tensor: Tensor, pairs: list[Pair], unpaired: list[Unpaired]
) -> None:
    other = "B" if side == "a" else "A"
    if tensor.role == "sample_weight":
        pairs.append(
            Pair(
                role=tensor.role,
                name=tensor.name,
                a=tensor.name if side == "a" else None,
                b=tensor.name if side == "b" else None,
                order=tensor.order,
                reason=f"{other} has none, which weighs every sample 1",
            )
        )
        return
    if tensor.same_as is not None:
        return
    reason, matters = f"not in {other}", tensor.role in ("weight", "input", "label")
    if tensor.role == "slot":
        matters = is_used(run, tensor)
        if not matters:
            reason += ", and never used"
    elif tensor.role in ("gradient", "applied_gradient", "activation", "loss"):
        reason = f"not recorded in {other}"
    unpaired.append(_unpaired(side, tensor, reason, matters=matters))


def _unpaired(side: Side, tensor: Tensor, reason: str, *, matters: bool) -> Unpaired:
    return Unpaired(
        side=side,
        role=tensor.role,
        tensor=tensor.name,
        layer=tensor.layer,
        shape=tensor.shape,
        reason=reason,
        matters=matters,
    )


def is_used(run: Run, slot: Tensor) -> bool:
    """Say whether a slot takes part in updates: whether its value ever changes.

    Keras 2.3 keeps momentum slots at momentum 0, and a ``vhat`` of shape (1,) without AMSGrad.
    """
    weight, name = split_slot(slot.name)
    partner = run.find("weight", weight)
    if partner is not None and slot.shape == (1,) and partner.shape not in ((1,), ()):
        return False
    optimizer = run.about.get("optimizer")
    config = optimizer.get("config") if isinstance(optimizer, Mapping) else None
    off = isinstance(config, Mapping) and "momentum" in config.keys() - optimizer_settings(config)
    if name == "momentum" and off:
        return False  # Written at every step, and read with the factor 0.
    if run.steps == 0:
        return False
    digests = np.concatenate([run.digests(slot, "before")[:1], run.digests(slot, "after")])
    return bool((digests != digests[0]).any())
