"""Why two runs differ: the vocabulary of causes, and a cause with what speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tracediff.model.stages import Stage

CAUSES: Mapping[str, str] = MappingProxyType(
    {
        "data.order": "same samples, another order or another assignment to batches",
        "data.batching": "other batch boundaries or sizes",
        "data.transform": "same samples, transformed",
        "data.dtype": "same samples in another precision",
        "data.content": "other samples, or corrupted ones",
        "data.labels": "labels differ",
        "data.sample_weight": "sample or class weights differ",
        "init.draw": "initial weights differ, same distribution",
        "init.distribution": "initial weights come from another distribution",
        "model.structure": "layers or weights without a partner, or of another shape",
        "layer.forward": "a layer's output differs on equal inputs and weights",
        "layer.random": "a random layer drew other numbers",
        "layer.state": "non-trained state evolves otherwise",
        "loss.value": "loss differs on equal model outputs",
        "gradient.raw": "gradient differs on equal forward values",
        "gradient.processing": "clipping, weight decay, accumulation, loss scaling",
        "optimizer.hyperparameter": "same rule, another value",
        "optimizer.rule": "another formula",
        "optimizer.slots": "slots start or evolve otherwise",
        "optimizer.schedule": "learning rate follows another course",
        "state.trainable": "another set of weights is trained",
        "state.external": "weights changed by something other than the optimizer",
        "precision": "another compute precision",
        "metric.definition": "tensors agree, the reported metric differs",
        "rounding": "differences within floating-point rounding and its growth",
        "unexplained": "a real origin, no known cause",
    }
)
"""The machine-readable vocabulary of causes, each with what it means."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, with what speaks for it.

    Attributes:
        code: A key of `CAUSES`.
        summary: One sentence that names the layer, the setting and the values.
        confidence: 0 to 1.
        stage: The stage of the difference that it explains.
        step: The first step at which it shows, or None where it is not tied to one.
        subject: What it is about: a tensor, a layer, a setting.
        a: The value in A, as JSON allows it.
        b: The value in B.
        evidence: Sentences with the numbers that speak for it.
        against: Sentences with what speaks against it, or could stand in its place.
        not_explained: What of the differences remains when it is granted.
        remedy: What to try: the line of code that makes B do as A where there is one, or None.
        change: The known change between versions that it is, a key of the catalogue, or None.
    """

    code: str
    summary: str
    confidence: float
    stage: Stage
    step: int | None = None
    subject: str | None = None
    a: Any = None
    b: Any = None
    evidence: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    not_explained: tuple[str, ...] = ()
    remedy: str | None = None
    change: str | None = None
