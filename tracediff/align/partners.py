"""Choose the partner of each tensor: layer by layer, then weight by weight.

A layer's weights, gradients and slots travel together: what is decided for a weight holds for all
that belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tracediff.align.candidates import carried
from tracediff.align.graph import layers_of
from tracediff.align.layers import LayerMatch, match_layers
from tracediff.align.layouts import Layout
from tracediff.align.mapping import Mapped, Overrides
from tracediff.align.notation import words
from tracediff.align.samples import crossed
from tracediff.align.values import FirstValues
from tracediff.align.weights import WeightMatch, match_weights
from tracediff.model import Side
from tracediff.names import METRICS, renamed, split_slot, within_layer
from tracediff.trace import Run, Tensor

DATA_ROLES = ("input", "label", "sample_weight")
_OF_A_WEIGHT = ("gradient", "applied_gradient", "slot")


@dataclass(frozen=True, slots=True)
class Partner:
    """What a tensor of A is paired with.

    Attributes:
        tensor: The tensor of B.
        reason: Why these two.
        confidence: How sure that is, 0 to 1.
        layout: What brings B's values into A's layout.
        layout_a: What brings A's values into B's layout.
    """

    tensor: Tensor
    reason: str
    confidence: float
    layout: Layout = ()
    layout_a: Layout = ()


class Partners:
    """What the tensors of A are paired with, as far as each can be judged by itself.

    Args:
        a: The first run.
        b: The second run.
        overrides: Pairs that a user gave; they are not questioned.
        values: The first values of both.

    Attributes:
        layers: The layers of A and of B.
        matches: Which layers were taken to be the same, in the execution order of A.
        weights: Name of a weight of A -> what it is in B, and the layers that this is known from.
    """

    def __init__(self, a: Run, b: Run, overrides: Overrides, values: FirstValues) -> None:
        self._a, self._b, self._overrides = a, b, overrides
        self.layers = layers_of(a), layers_of(b)
        self.matches = match_layers(a, b, values, given=overrides.layers)
        self.weights: dict[str, tuple[WeightMatch, LayerMatch | None]] = {}
        self._by_layer_a = {match.a: match for match in self.matches}
        self._refused = overrides.refused()
        self._match_weights(values)
        self._crossed: Mapping[str, Mapping[str, str]] = {
            role: crossed(a, b, role) for role in DATA_ROLES
        }

    def of(self, tensor: Tensor) -> Partner | None:
        """Return what a tensor of A is paired with, or None where nothing is."""
        role, name = tensor.key
        given = self._overrides.find(role, name)
        if given is not None and role != "weight":
            return self._given(given)
        if role == "weight":
            return self._weight(tensor)
        if role in _OF_A_WEIGHT:
            owner, slot = split_slot(name) if role == "slot" else (name, "")
            if owner in self.weights:
                return self._of_weight(tensor, owner, slot)
            weight = self._a.find("weight", owner)
            if weight is not None:
                return self._of_misfit(tensor, weight, slot)
        if role in self._crossed and name in self._crossed[role]:
            other = self._b.find(role, self._crossed[role][name])
            if other is not None:
                return Partner(other, f"the same batches as {other.name} of B", 0.95)
        if role == "activation":
            return self._activation(tensor)
        other = self._b.find(role, name)
        if other is None and role == "metric":
            return self._metric(name)
        return None if other is None else Partner(other, "same name", 1.0)

    def is_refused(self, side: Side, tensor: Tensor) -> bool:
        """Say whether a tensor, or the weight that it belongs to, is to have no partner."""
        owner = tensor.name
        if tensor.role == "slot":
            owner = split_slot(owner)[0]
        own = (side, *tensor.key) in self._refused
        belongs = tensor.role in _OF_A_WEIGHT and (side, "weight", owner) in self._refused
        return own or belongs

    def _match_weights(self, values: FirstValues) -> None:
        given = {one.a: one for one in self._overrides.weights if one.a is not None}
        taken = {one.b for one in self._overrides.weights}
        for name, one in given.items():
            if one.b is None or one.is_part:
                continue
            weight, other = self._a.tensor("weight", name), self._b.tensor("weight", one.b)
            reason = "given by the mapping"
            match = WeightMatch(weight, other, one.layout, reason, 1.0, one.layout_a)
            self.weights[name] = match, None
        for layers in self.matches:
            layer_a, layer_b = self.layers[0][layers.a], self.layers[1][layers.b]
            left_a = tuple(
                one
                for one in layer_a.weights
                if one.name not in given and not self.is_refused("a", one)
            )
            left_b = tuple(
                one
                for one in layer_b.weights
                if one.name not in taken and not self.is_refused("b", one)
            )
            ones, others = replace(layer_a, weights=left_a), replace(layer_b, weights=left_b)
            for found in match_weights(ones, others, values):
                self.weights[found.a.name] = found, layers

    def _given(self, given: Mapped) -> Partner | None:
        if given.b is None:
            return None
        other = self._b.tensor(given.role, given.b)
        return Partner(other, "given by the mapping", 1.0, given.layout, given.layout_a)

    def _weight(self, tensor: Tensor) -> Partner | None:
        found = self.weights.get(tensor.name)
        if found is not None:
            match, layer = found
            return Partner(match.b, *why(match, layer), match.layout, match.layout_a)
        # A weight of one name and another shape is no partner, but says more than none at all.
        layer = self._by_layer_a.get(self._layer_name(tensor))
        if layer is None:
            return None
        local = within_layer(tensor.name, layer.a)
        other = self._b.find("weight", f"{layer.b}/{local}" if local != tensor.name else local)
        if other is None or any(match.b.name == other.name for match, _ in self.weights.values()):
            return None
        return Partner(other, layer.reason, layer.confidence)

    def _layer_name(self, tensor: Tensor) -> str:
        return tensor.layer or tensor.name.rpartition("/")[0] or tensor.name

    def _of_weight(self, tensor: Tensor, owner: str, slot: str) -> Partner | None:
        match, layer = self.weights[owner]
        name = f"{match.b.name}/{slot}" if tensor.role == "slot" else match.b.name
        other = self._b.find(tensor.role, name)
        if other is None:
            return None
        layout = _carried(match.layout, match.b, other)
        layout_a = _carried(match.layout_a, match.a, tensor)
        return Partner(other, *why(match, layer), layout, layout_a)

    def _of_misfit(self, tensor: Tensor, weight: Tensor, slot: str) -> Partner | None:
        """Return what belongs to a weight as this tensor does to one of another shape."""
        partner = self._weight(weight)
        if partner is None:
            return None
        name = f"{partner.tensor.name}/{slot}" if slot else partner.tensor.name
        other = self._b.find(tensor.role, name)
        return None if other is None else replace(partner, tensor=other)

    def _activation(self, tensor: Tensor) -> Partner | None:
        match = self._by_layer_a.get(tensor.layer or "")
        name = tensor.name if match is None else renamed(tensor.name, match.a, match.b)
        other = self._b.find("activation", name)
        if other is None or match is None:
            return None if other is None else Partner(other, "same name", 1.0)
        return Partner(other, *why(None, match))

    def _metric(self, name: str) -> Partner | None:
        """Return the metric of another spelling, if there is but one."""
        wanted = _metric_of(name)
        found = [
            one
            for one in self._b.tensors
            if one.role == "metric"
            and _metric_of(one.name) == wanted
            and self._a.find("metric", one.name) is None
        ]
        return (
            Partner(found[0], f"{found[0].name} spelled otherwise", 0.9)
            if len(found) == 1
            else None
        )


def why(match: WeightMatch | None, layer: LayerMatch | None) -> tuple[str, float]:
    """Return why two tensors are a pair, and how sure that is."""
    reasons: list[str] = []
    confidence = 1.0
    if layer is not None:
        confidence = layer.confidence
        if layer.a != layer.b:
            reasons.append(f"layer {layer.b}: {layer.reason}")
    if match is not None:
        confidence *= match.confidence
        if match.reason:
            reasons.append(match.reason)
        if match.layout:
            local = match.a.name.rpartition("/")[2]
            reasons.append(
                f"A's {match.a.shape} {local} against {words(match.layout, match.b.shape)}"
            )
        if match.layout_a:
            local = match.b.name.rpartition("/")[2]
            summed = words(match.layout_a, match.a.shape, side="A")
            reasons.append(f"{summed} against B's {match.b.shape} {local}")
    return "; ".join(reasons) or "same name", round(confidence, 2)


def _carried(layout: Layout, weight: Tensor, other: Tensor) -> Layout:
    """Return the layout of what belongs to a weight of that layout, if it has its shape."""
    shape = weight.shape
    if not layout or shape is None or other.shape not in (shape, None):
        return ()
    return carried(layout, shape)


def _metric_of(name: str) -> str:
    head, _, last = name.rpartition("/")
    return f"{head}/{METRICS.get(last, last)}"
