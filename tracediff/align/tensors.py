"""Find which tensors of two runs are the same thing, each used once, and which have no partner.

A pairing is data with a reason and a confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tracediff.align.candidates import carried, fits
from tracediff.align.fused import Piece, find_fused, part_name
from tracediff.align.mapping import Overrides
from tracediff.align.notation import describe, words
from tracediff.align.pairing import Pairing
from tracediff.align.partners import DATA_ROLES, Partner, Partners, why
from tracediff.align.slots import is_idle, is_used, slots_of
from tracediff.align.unpaired import misfits, unpaired_tensor, with_nearest
from tracediff.align.values import FirstValues
from tracediff.model import Pair, Side, Unpaired
from tracediff.names import is_loss_scale, scales_losses, split_slot
from tracediff.trace import Run, Tensor


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
        self.partners = Partners(a, b, overrides, self.values)
        self.pairs: list[Pair] = []
        self.unpaired: list[Unpaired] = []
        self.used_a: set[tuple[str, str]] = set()
        self.used_b: set[tuple[str, str]] = set()

    def pairing(self) -> Pairing:
        for tensor in self.a.tensors:
            if self.partners.is_refused("a", tensor):
                continue
            partner = self.partners.of(tensor)
            if partner is not None and not self.partners.is_refused("b", partner.tensor):
                self._add(tensor, partner)
        for piece in self._fused():
            self._add_pieces(piece)
        self._slots_of_other_names()
        for side, run, used in (("a", self.a, self.used_a), ("b", self.b, self.used_b)):
            for tensor in run.tensors:
                if tensor.key not in used:
                    self._without_partner(run, "a" if side == "a" else "b", tensor)
        pairs, unpaired = tuple(self.pairs), tuple(self.unpaired)
        return Pairing(pairs, with_nearest(unpaired), self.partners.matches)

    def _add(self, tensor: Tensor, partner: Partner) -> None:
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
        if tensor.role not in DATA_ROLES and not adapted and not fits(tensor.shape, other.shape):
            self.unpaired.extend(misfits(tensor, other, self.a, self.b))
            return
        if tensor.role == "slot" and is_idle(self.a, tensor) and is_idle(self.b, other):
            reason = "read with a momentum of 0 in both"
            self.unpaired.append(unpaired_tensor("a", tensor, reason, matters=False))
            self.unpaired.append(unpaired_tensor("b", other, reason, matters=False))
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
        yield from find_fused(left[0], left[1], self.values, layers=self.partners.layers)

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
        for name, (match, layer) in self.partners.weights.items():
            ones = [one for one in slots_of(self.a, name) if one.key not in self.used_a]
            others = [one for one in slots_of(self.b, match.b.name) if one.key not in self.used_b]
            if not ones or len(ones) != len(others) or not self._same_rule():
                continue
            for one, other in zip(ones, others, strict=True):
                if one.shape != match.a.shape or other.shape != match.b.shape:
                    continue
                reason, confidence = why(match, layer)
                if not reason.startswith("layer"):
                    reason = ""
                here, there = split_slot(one.name)[1], split_slot(other.name)[1]
                said = f"slot {there} for {here}: the same optimizer keeps as many, in this order"
                layout = carried(match.layout, match.b.shape) if match.b.shape else ()
                self._add(
                    one,
                    Partner(
                        other,
                        "; ".join(filter(None, (reason, said))),
                        round(0.6 * confidence, 2),
                        layout,
                    ),
                )

    def _same_rule(self) -> bool:
        kinds = [(run.about.get("optimizer") or {}).get("class") for run in (self.a, self.b)]
        return bool(kinds[0]) and str(kinds[0]).lower() == str(kinds[1]).lower()

    def _both_scale(self) -> bool:
        """Say whether both optimizers scale losses for the one inside them."""
        return all(scales_losses(run.about.get("optimizer")) for run in (self.a, self.b))

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
        if self.partners.is_refused(side, tensor):
            reason, matters = "left out by the mapping", False
        elif tensor.role == "slot" and is_loss_scale(tensor.name):
            # Whether gradients come to the same without it is seen by the gradients.
            there = "not recorded" if self._both_scale() else "which is none"
            reason, matters = f"the state of the loss scale, {there} in {other}", False
        elif tensor.role == "slot":
            matters = is_used(run, tensor)
            if not matters:
                reason += ", and never used"
        elif tensor.role in ("gradient", "applied_gradient", "activation", "loss"):
            reason = f"not recorded in {other}"
        self.unpaired.append(unpaired_tensor(side, tensor, reason, matters=matters))


def _belonging(tensor: Tensor, weight: Tensor) -> str | None:
    """Return which slot of a weight a tensor is; empty for itself and its gradients, else None."""
    if tensor.role in ("weight", "gradient", "applied_gradient"):
        return "" if tensor.name == weight.name else None
    if tensor.role == "slot":
        owner, slot = split_slot(tensor.name)
        return slot if owner == weight.name else None
    return None


def _note(a: Tensor, b: Tensor, partner: Partner) -> str | None:
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
