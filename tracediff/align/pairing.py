"""What pairing the tensors of two runs results in, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracediff.align.layers import LayerMatch
from tracediff.model import Pair, Unpaired


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
