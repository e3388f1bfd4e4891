"""Find which tensors of two runs are the same thing: layer by layer, then weight by weight.

A pairing is data with a reason and a confidence. A layer's weights, gradients and slots travel
together: what is decided for a weight holds for all that belongs to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tracediff.align.candidates import carried, fits
from tracediff.align.fused import Piece, find_fused, part_name
from tracediff.align.graph import layers_of
from tracediff.align.layers import LayerMatch, match_layers
from tracediff.align.layouts import Layout, describe, words
from tracediff.align.mapping import Mapped, Overrides
from tracediff.align.samples import crossed
from tracediff.align.values import FirstValues
from tracediff.align.weights import WeightMatch, match_weights
from tracediff.model import Pair, Side, Unpaired
from tracediff.names import (
    METRICS,
    optimizer_settings,
    renamed,
    split_slot,
    within_layer,
)
from tracediff.trace import Run, Tensor

_DATA_ROLES = ("input", "label", "sample_weight")
_OF_A_WEIGHT = ("gradient", "applied_gradient", "slot")


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which tensors of two runs belong together, and which have no partner.

    Attributes:
        pairs: The pairs, in the order of A's tensors.
        unpaired: What has no partner.
        layers: Which layers were taken to be the same, in the execution order of A.
    """

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]
    layers: tuple[LayerMatch, ...] = field(default=())

    def find(self, role: str, name: str) -> Pair | None:
        """Return the pair of that role and canonical name, or None."""
        return next((pair for pair in self.pairs if pair.key == (role, name)), None)


@dataclass(frozen=True, slots=True)
class _Partner:
    """What a tensor of A is paired with."""

    tensor: Tensor
    reason: str
    confidence: float
    layout: Layout = ()
    layout_a: Layout = ()


def pair_tensors(a: Run, b: Run, overrides: Overrides | None = None) -> Pairing:
    """Pair the tensors of two runs.

    Args:
        a: The first run.
        b: The second run.
        overrides: Pairs that a user gave in a mapping file; they are not questioned.

    Raises:
        UsageError: The overrides name what a run does not have, or what no adapter joins.
    """
    return _Pairer(a, b, overrides or Overrides()).pairing()


class _Pairer:
    """Pairs the tensors of two runs, once."""

    def __init__(self, a: Run, b: Run, overrides: Overrides) -> None:
        self.a, self.b, self.overrides = a, b, overrides
        self.values = FirstValues(a, b)
        self.layers = layers_of(a), layers_of(b)
        self.matches = match_layers(a, b, self.values, given=overrides.layers)
        self.by_layer_a = {match.a: match for match in self.matches}
        self.weights: dict[str, tuple[WeightMatch, LayerMatch | None]] = {}
        self.pairs: list[Pair] = []
        self.unpaired: list[Unpaired] = []
        self.used_a: set[tuple[str, str]] = set()
        self.used_b: set[tuple[str, str]] = set()
        self.refused = overrides.refused()

    def pairing(self) -> Pairing:
        self._match_weights()
        inputs = {
            role: crossed(self.a, self.b, role) for role in ("input", "label", "sample_weight")
        }
        for tensor in self.a.tensors:
            if self._is_refused("a", tensor):
                continue
            partner = self._partner(tensor, inputs)
            if partner is not None and not self._is_refused("b", partner.tensor):
                self._add(tensor, partner)
        for piece in self._fused():
            self._add_pieces(piece)
        self._slots_of_other_names()
        for side, run, used in (("a", self.a, self.used_a), ("b", self.b, self.used_b)):
            for tensor in run.tensors:
                if tensor.key not in used:
                    self._without_partner(run, "a" if side == "a" else "b", tensor)
        pairs, unpaired = tuple(self.pairs), tuple(self.unpaired)
        return Pairing(pairs, _with_nearest(unpaired), self.matches)

    def _is_refused(self, side: Side, tensor: Tensor) -> bool:
        """Say whether a tensor, or the weight that it belongs to, is to have no partner."""
        owner = tensor.name
        if tensor.role == "slot":
            owner = split_slot(owner)[0]
        own = (side, *tensor.key) in self.refused
        belongs = tensor.role in _OF_A_WEIGHT and (side, "weight", owner) in self.refused
        return own or belongs

    def _match_weights(self) -> None:
        given = {one.a: one for one in self.overrides.weights if one.a is not None}
        taken = {one.b for one in self.overrides.weights}
        for name, one in given.items():
            if one.b is None or one.is_part:
                continue
            weight, other = self.a.tensor("weight", name), self.b.tensor("weight", one.b)
            reason = "given by the mapping"
            match = WeightMatch(weight, other, one.layout, reason, 1.0, one.layout_a)
            self.weights[name] = match, None
        for layers in self.matches:
            layer_a, layer_b = self.layers[0][layers.a], self.layers[1][layers.b]
            left_a = tuple(
                one
                for one in layer_a.weights
                if one.name not in given and not self._is_refused("a", one)
            )
            left_b = tuple(
                one
                for one in layer_b.weights
                if one.name not in taken and not self._is_refused("b", one)
            )
            ones, others = replace(layer_a, weights=left_a), replace(layer_b, weights=left_b)
            for found in match_weights(ones, others, self.values):
                self.weights[found.a.name] = found, layers

    def _partner(
        self, tensor: Tensor, crossings: Mapping[str, Mapping[str, str]]
    ) -> _Partner | None:
        role, name = tensor.key
        given = self.overrides.find(role, name)
        if given is not None and role != "weight":
            return self._given(given)
        if role == "weight":
            return self._weight(tensor)
        if role in _OF_A_WEIGHT:
            owner, slot = split_slot(name) if role == "slot" else (name, "")
            if owner in self.weights:
                return self._of_weight(tensor, owner, slot)
            weight = self.a.find("weight", owner)
            if weight is not None:
                return self._of_misfit(tensor, weight, slot)
        if role in crossings and name in crossings[role]:
            other = self.b.find(role, crossings[role][name])
            if other is not None:
                return _Partner(other, f"the same batches as {other.name} of B", 0.95)
        if role == "activation":
            return self._activation(tensor)
        other = self.b.find(role, name)
        if other is None and role == "metric":
            return self._metric(name)
        return None if other is None else _Partner(other, "same name", 1.0)

    def _given(self, given: Mapped) -> _Partner | None:
        if given.b is None:
            return None
        other = self.b.tensor(given.role, given.b)
        return _Partner(other, "given by the mapping", 1.0, given.layout, given.layout_a)

    def _weight(self, tensor: Tensor) -> _Partner | None:
        found = self.weights.get(tensor.name)
        if found is not None:
            match, layer = found
            return _Partner(match.b, *_why(match, layer), match.layout, match.layout_a)
        # A weight of one name and another shape is no partner, but says more than none at all.
        layer = self.by_layer_a.get(self._layer_name(tensor))
        if layer is None:
            return None
        local = within_layer(tensor.name, layer.a)
        other = self.b.find("weight", f"{layer.b}/{local}" if local != tensor.name else local)
        if other is None or any(match.b.name == other.name for match, _ in self.weights.values()):
            return None
        return _Partner(other, layer.reason, layer.confidence)

    def _layer_name(self, tensor: Tensor) -> str:
        return tensor.layer or tensor.name.rpartition("/")[0] or tensor.name

    def _of_weight(self, tensor: Tensor, owner: str, slot: str) -> _Partner | None:
        match, layer = self.weights[owner]
        name = f"{match.b.name}/{slot}" if tensor.role == "slot" else match.b.name
        other = self.b.find(tensor.role, name)
        if other is None:
            return None
        layout = _carried(match.layout, match.b, other)
        layout_a = _carried(match.layout_a, match.a, tensor)
        return _Partner(other, *_why(match, layer), layout, layout_a)

    def _of_misfit(self, tensor: Tensor, weight: Tensor, slot: str) -> _Partner | None:
        """Return what belongs to a weight as this tensor does to one of another shape."""
        partner = self._weight(weight)
        if partner is None:
            return None
        name = f"{partner.tensor.name}/{slot}" if slot else partner.tensor.name
        other = self.b.find(tensor.role, name)
        return None if other is None else replace(partner, tensor=other)

    def _activation(self, tensor: Tensor) -> _Partner | None:
        match = self.by_layer_a.get(tensor.layer or "")
        name = tensor.name if match is None else renamed(tensor.name, match.a, match.b)
        other = self.b.find("activation", name)
        if other is None or match is None:
            return None if other is None else _Partner(other, "same name", 1.0)
        return _Partner(other, *_why(None, match))

    def _metric(self, name: str) -> _Partner | None:
        """Return the metric of another spelling, if there is but one."""
        wanted = _metric_of(name)
        found = [
            one
            for one in self.b.tensors
            if one.role == "metric"
            and _metric_of(one.name) == wanted
            and self.a.find("metric", one.name) is None
        ]
        return (
            _Partner(found[0], f"{found[0].name} spelled otherwise", 0.9)
            if len(found) == 1
            else None
        )

    def _add(self, tensor: Tensor, partner: _Partner) -> None:
        other = partner.tensor
        if other.key in self.used_b:
            return
        self.used_a.add(tensor.key)
        self.used_b.add(other.key)
        # The other role holds the same values on both sides: comparing twice would say it twice.
        if tensor.same_as is not None and tensor.same_as == other.same_as:
            return
        # Data of another shape is a finding about the data, not tensors that do not belong.
        adapted = bool(partner.layout or partner.layout_a)
        if tensor.role not in _DATA_ROLES and not adapted and not fits(tensor.shape, other.shape):
            self.unpaired.extend(_misfits(tensor, other, self.a, self.b))
            return
        if tensor.role == "slot" and is_idle(self.a, tensor) and is_idle(self.b, other):
            reason = "read with a momentum of 0 in both"
            self.unpaired.append(_unpaired("a", tensor, reason, matters=False))
            self.unpaired.append(_unpaired("b", other, reason, matters=False))
            return
        self.pairs.append(
            Pair(
                role=tensor.role,
                name=tensor.name,
                a=tensor.name,
                b=other.name,
                layer=tensor.layer,
                order=tensor.order,
                reason=partner.reason,
                confidence=partner.confidence,
                note=_note(tensor, other, partner),
                layout=describe(partner.layout),
                layout_a=describe(partner.layout_a),
            )
        )

    def _fused(self) -> Iterator[Piece]:
        """Yield the pieces of fused weights, those that the mapping gives first."""
        for given in self.overrides.weights:
            if given.is_part and given.b is not None:
                yield from given.piece(self.a, self.b)
        left = [
            [one for one in run.tensors if one.role == "weight" and one.key not in used]
            for run, used in ((self.a, self.used_a), (self.b, self.used_b))
        ]
        misfit = {(one.side, one.tensor) for one in self.unpaired if one.role == "weight"}
        for side, index in (("a", 0), ("b", 1)):
            run = (self.a, self.b)[index]
            left[index] += [
                one for one in run.tensors if one.role == "weight" and (side, one.name) in misfit
            ]
            left[index].sort(key=lambda one: one.order)
        given_wholes = {one.a for one in self.overrides.weights} | {
            one.b for one in self.overrides.weights
        }
        left = [[one for one in each if one.name not in given_wholes] for each in left]
        yield from find_fused(left[0], left[1], self.values, layers=self.layers)

    def _add_pieces(self, piece: Piece) -> None:
        """Pair a part of a fused weight, its gradients and slots with what they are in B or A."""
        own, others = (self.a, self.b) if piece.side == "a" else (self.b, self.a)
        for whole in own.tensors:
            slot = _belonging(whole, piece.whole)
            if slot is None or whole.shape != piece.whole.shape:
                continue
            name = f"{piece.piece.name}/{slot}" if slot else piece.piece.name
            other = others.find(whole.role, name)
            if other is None or other.same_as is not None or whole.same_as is not None:
                if other is not None:
                    self._mark(piece.side, whole, other)
                continue
            self._mark(piece.side, whole, other)
            part = part_name(whole.name, piece.part)
            on_a = piece.side == "a"
            single = self.a.find(whole.role, other.name) is None or not on_a
            layout = describe((piece.part,))
            self.pairs.append(
                Pair(
                    role=whole.role,
                    name=other.name if single else part,
                    a=part if on_a else other.name,
                    b=other.name if on_a else part,
                    layer=whole.layer if on_a else other.layer,
                    order=whole.order if on_a else other.order,
                    reason=f"part of {whole.name}: {piece.reason}",
                    confidence=piece.confidence,
                    note=f"{other.name} is {part} of {piece.side.upper()}",
                    layout=() if on_a else layout,
                    layout_a=layout if on_a else (),
                )
            )

    def _mark(self, side: Literal["a", "b"], whole: Tensor, other: Tensor) -> None:
        """Take note that both have a partner after all."""
        (self.used_a if side == "a" else self.used_b).add(whole.key)
        (self.used_b if side == "a" else self.used_a).add(other.key)
        there: Side = "b" if side == "a" else "a"
        gone = {(side, *whole.key), (there, *other.key)}
        self.unpaired = [
            one for one in self.unpaired if (one.side, one.role, one.tensor) not in gone
        ]

    def _slots_of_other_names(self) -> None:
        """Pair slots that only their names keep apart: as many of each weight, and in order."""
        for name, (match, layer) in self.weights.items():
            ones = [one for one in _slots(self.a, name) if one.key not in self.used_a]
            others = [one for one in _slots(self.b, match.b.name) if one.key not in self.used_b]
            if not ones or len(ones) != len(others) or not self._same_rule():
                continue
            for one, other in zip(ones, others, strict=True):
                if one.shape != match.a.shape or other.shape != match.b.shape:
                    continue
                reason, confidence = _why(match, layer)
                if not reason.startswith("layer"):
                    reason = ""
                here, there = split_slot(one.name)[1], split_slot(other.name)[1]
                said = f"slot {there} for {here}: the same optimizer keeps as many, in this order"
                layout = carried(match.layout, match.b.shape) if match.b.shape else ()
                self._add(
                    one,
                    _Partner(
                        other,
                        "; ".join(filter(None, (reason, said))),
                        round(0.6 * confidence, 2),
                        layout,
                    ),
                )

    def _same_rule(self) -> bool:
        kinds = [(run.about.get("optimizer") or {}).get("class") for run in (self.a, self.b)]
        return bool(kinds[0]) and str(kinds[0]).lower() == str(kinds[1]).lower()

    def _without_partner(self, run: Run, side: Side, tensor: Tensor) -> None:
        other = "B" if side == "a" else "A"
        if tensor.role == "sample_weight":
            self.pairs.append(
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
        if self._is_refused(side, tensor):
            reason, matters = "left out by the mapping", False
        elif tensor.role == "slot":
            matters = is_used(run, tensor)
            if not matters:
                reason += ", and never used"
        elif tensor.role in ("gradient", "applied_gradient", "activation", "loss"):
            reason = f"not recorded in {other}"
        self.unpaired.append(_unpaired(side, tensor, reason, matters=matters))


def _why(match: WeightMatch | None, layer: LayerMatch | None) -> tuple[str, float]:
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


def _belonging(tensor: Tensor, weight: Tensor) -> str | None:
    """Return which slot of a weight a tensor is; empty for itself and its gradients, else None."""
    if tensor.role in ("weight", "gradient", "applied_gradient"):
        return "" if tensor.name == weight.name else None
    if tensor.role == "slot":
        owner, slot = split_slot(tensor.name)
        return slot if owner == weight.name else None
    return None


def _slots(run: Run, weight: str) -> list[Tensor]:
    return [one for one in run.tensors if one.role == "slot" and split_slot(one.name)[0] == weight]


def _metric_of(name: str) -> str:
    head, _, last = name.rpartition("/")
    return f"{head}/{METRICS.get(last, last)}"


def _carried(layout: Layout, weight: Tensor, other: Tensor) -> Layout:
    """Return the layout of what belongs to a weight of that layout, if it has its shape."""
    shape = weight.shape
    if not layout or shape is None or other.shape not in (shape, None):
        return ()
    return carried(layout, shape)


def _note(a: Tensor, b: Tensor, partner: _Partner) -> str | None:
    notes = []
    if a.dtype != b.dtype:
        notes.append(f"{a.dtype} in A, {b.dtype} in B")
    if partner.layout:
        notes.append(f"{a.shape} in A against {words(partner.layout, b.shape)}")
    elif partner.layout_a:
        notes.append(f"{words(partner.layout_a, a.shape, side='A')} against {b.shape} in B")
    elif a.shape is not None and b.shape is not None and a.shape != b.shape:
        notes.append(f"shape {a.shape} in A, {b.shape} in B")
    if "sparse" in (a.layout, b.layout) and a.layout != b.layout:
        notes.append(f"{a.layout} in A, {b.layout} in B")
    return "; ".join(notes) or None


def _misfits(a: Tensor, b: Tensor, run_a: Run, run_b: Run) -> Iterable[Unpaired]:
    reason = f"shape {a.shape} in A, {b.shape} in B"
    used = a.role != "slot" or (is_used(run_a, a) and is_used(run_b, b))
    matters = a.role in ("weight", "slot", "input", "label") and used
    one, other = (
        _unpaired("a", a, reason, matters=matters),
        _unpaired("b", b, reason, matters=matters),
    )
    yield replace(one, nearest=b.name, nearest_shape=b.shape)
    yield replace(other, nearest=a.name, nearest_shape=a.shape)


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


def _with_nearest(unpaired: tuple[Unpaired, ...]) -> tuple[Unpaired, ...]:
    """Name for each tensor without a partner the one of the other run that comes nearest."""
    return tuple(_nearest(one, unpaired) if one.nearest is None else one for one in unpaired)


def _nearest(one: Unpaired, unpaired: tuple[Unpaired, ...]) -> Unpaired:
    best, chosen = 0.5, None
    for other in unpaired:
        if other.side == one.side or other.role != one.role:
            continue
        likeness = difflib.SequenceMatcher(None, one.tensor, other.tensor).ratio()
        last = one.tensor.rpartition("/")[2] == other.tensor.rpartition("/")[2]
        near = 0.5 * likeness + 0.3 * last + 0.2 * _share(one.shape, other.shape)
        if near > best:
            best, chosen = near, other
    if chosen is None:
        return one
    return replace(one, nearest=chosen.tensor, nearest_shape=chosen.shape)


def _share(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> float:
    """Return the share of extents in which two shapes agree."""
    if not a or not b or len(a) != len(b):
        return 0.0
    return sum(map(lambda x, y: x == y, a, b)) / len(a)


def is_idle(run: Run, slot: Tensor) -> bool:
    """Say whether a slot is a momentum that is written at every step, and read with factor 0."""
    if split_slot(slot.name)[1] != "momentum":
        return False
    optimizer = run.about.get("optimizer")
    config: Any = optimizer.get("config") if isinstance(optimizer, Mapping) else None
    return isinstance(config, Mapping) and "momentum" in config.keys() - optimizer_settings(config)


def is_used(run: Run, slot: Tensor) -> bool:
    """Say whether a slot takes part in updates: whether its value ever changes.

    Keras 2.3 keeps momentum slots at momentum 0, and a ``vhat`` of shape (1,) without AMSGrad.
    """
    partner = run.find("weight", split_slot(slot.name)[0])
    if partner is not None and slot.shape == (1,) and partner.shape not in ((1,), ()):
        return False
    if run.steps == 0 or is_idle(run, slot):
        return False
    digests = np.concatenate([run.digests(slot, "before")[:1], run.digests(slot, "after")])
    return bool((digests != digests[0]).any())
