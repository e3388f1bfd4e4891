"""Count the roundings in a row that lie on the way to a tensor, from what a trace says of a model.

The way of an output leads through all layers up to its own; that of a gradient through all of them
and back again, and then over the rows of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracediff.names import class_name, model_layers
from tracediff.tolerance import effective_length

_RECURRENT = ("RNN", "LSTM", "GRU")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A weight that a layer multiplies by.

    Attributes:
        order: When, in the order of execution.
        layer: Its layer, or None.
        shape: Its shape; what goes in, and what comes out last.
    """

    order: int
    layer: str | None
    shape: tuple[int, ...]


class Roundings:
    """How many roundings in a row lie on the way to each tensor.

    Args:
        kernels: All of them.
        batch: The shape of the largest input of the first step: rows, then times or places, then
            channels. Empty where it is not known.
        about: What a run says about its model.
    """

    def __init__(
        self, kernels: Iterable[Kernel], batch: Sequence[int], about: Mapping[str, Any]
    ) -> None:
        self.rows = max(1, batch[0]) if batch else 1
        places = math.prod(batch[1:-1])
        recurrent = {
            str(layer.get("name"))
            for layer in model_layers(about)
            if any(word in class_name(layer.get("class")) for word in _RECURRENT)
        }
        self._forward: list[tuple[int, float]] = []
        self._backward: list[tuple[int, float]] = []
        for one in kernels:
            # A recurrent kernel is multiplied by once a time, one after the other.
            times = batch[1] if one.layer in recurrent and len(batch) > 2 else 1
            ways = math.prod(one.shape[:-1]), one.shape[-1] * math.prod(one.shape[:-2])
            self._forward.append((one.order, times * effective_length(ways[0])))
            self._backward.append((one.order, times * effective_length(ways[1])))
        self.layers = max(1, len(self._forward))
        self._batch = effective_length(self.rows * places)

    def to(self, kind: str, order: int) -> float:
        """Return the roundings in a row to a tensor; 0 where its kind is not computed.

        Args:
            kind: A row of the table of tolerances.
            order: When the tensor, or its weight, comes in the order of execution.
        """
        if kind == "activation":
            return self._up_to(order)
        if kind in ("loss", "metric"):
            return self._up_to(None) + self._batch
        if kind == "moving statistic":
            return self._up_to(order) + self._batch
        if kind in ("gradient", "slot"):
            back = sum(count for place, count in self._backward if place >= order)
            return self._up_to(None) + back + self._batch
        return 0.0

    def _up_to(self, order: int | None) -> float:
        return sum(count for place, count in self._forward if order is None or place <= order)
