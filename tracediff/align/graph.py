"""What a model looks like from outside: its layers, what they are made of, and what they read from.

Describes each run by itself; nothing is matched here.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracediff.names import class_name, model_layers, within_layer
from tracediff.trace import Run, Tensor

_COMMUTATIVE = frozenset({"Add", "Multiply", "Average", "Maximum", "Minimum"})
_OF_THE_FRAMEWORK = frozenset({"Model", "Functional", "Sequential", "Network", ""})
_COUNTED = re.compile(r"_\d+$")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of one run.

    Attributes:
        name: Canonical name.
        kind: Its class, empty where the trace does not say.
        weights: Its weights, in order.
        order: Its place in the execution order.
        automatic: Whether the framework can have made up its name.
        before: A hash of the graph of classes that it is computed from.
        after: A hash of the graph of classes that is computed from it.
        known: Whether that graph was recorded, or is taken to be a chain.
    """

    name: str
    kind: str
    weights: tuple[Tensor, ...]
    order: int
    automatic: bool
    before: str
    after: str
    known: bool

    @property
    def shapes(self) -> tuple[tuple[int, ...] | None, ...]:
        """The shapes of its weights, in order."""
        return tuple(weight.shape for weight in self.weights)

    @property
    def locals(self) -> tuple[str, ...]:
        """The names of its weights within the layer, in order."""
        return tuple(within_layer(weight.name, self.name) for weight in self.weights)


def layers_of(run: Run) -> dict[str, Layer]:
    """Return the layers of a run by canonical name, in execution order.

    Layers of which only weights are known come after those that the model lists.
    """
    weights: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in run.tensors:
        if tensor.role == "weight":
            weights[tensor.layer or tensor.name.rpartition("/")[0] or tensor.name].append(tensor)
    described = {str(one.get("name")): one for one in model_layers(run.about)}
    lone = sorted(weights.keys() - described.keys(), key=lambda name: weights[name][0].order)
    names = [*described, *lone]
    sources = _sources(described, names)
    kinds = {name: class_name(described.get(name, {}).get("class")) for name in names}
    before, after = _positions(names, kinds, sources)
    model = run.about.get("model")
    kind = class_name(model.get("class")) if isinstance(model, Mapping) else ""
    known = kind in _OF_THE_FRAMEWORK
    return {
        name: Layer(
            name=name,
            kind=kinds[name],
            weights=tuple(sorted(weights.get(name, ()), key=lambda one: one.order)),
            order=place,
            automatic=_automatic(name, kinds[name]),
            before=before[name],
            after=after[name],
            known=known and name in described,
        )
        for place, name in enumerate(names)
    }


def snake_case(kind: str) -> str:
    """Return the stem of the names that Keras makes up for a class (keras/src/utils/naming.py).

    Example:
        >>> snake_case("BatchNormalization"), snake_case("LSTM"), snake_case("Conv2D")
        ('batch_normalization', 'lstm', 'conv2d')
    """
    name = re.sub(r"\W+", "", kind)
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _automatic(name: str, kind: str) -> bool:
    last = name.rpartition("/")[2]
    if not kind:
        return _COUNTED.search(last) is not None
    stems = {snake_case(kind)}
    if kind == "InputLayer":
        stems |= {"input", "input_layer"}
    return _COUNTED.sub("", last) in stems


def _sources(
    described: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> dict[str, list[str]]:
    """Return what each layer reads from; where the trace is silent, the layer before it."""
    result: dict[str, list[str]] = {}
    previous: str | None = None
    for name in names:
        given = described.get(name, {}).get("inputs") or ()
        found = [str(one) for one in given if str(one) in described and str(one) != name]
        is_input = class_name(described.get(name, {}).get("class")) == "InputLayer"
        if not found and previous is not None and not is_input:
            found = [previous]
        result[name] = found
        previous = name
    return result


def _positions(
    names: Sequence[str], kinds: Mapping[str, str], sources: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return for each layer a hash of all that is before it, and of all that is after it."""
    consumers: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for source in sources[name]:
            consumers[source].append(name)
    ordered = _sorted(names, sources)
    label = {
        # A Sequential model has no layer for its input; in a graph it adds nothing to a position.
        name: "" if kinds[name] == "InputLayer" else kinds[name] or "?"
        for name in names
    }
    upward: dict[str, str] = {}
    before: dict[str, str] = {}
    for name in ordered:
        found = [upward[one] for one in sources[name] if one in upward]
        inputs = [one for one in found if one]
        before[name] = _hash(sorted(inputs) if kinds[name] in _COMMUTATIVE else inputs)
        upward[name] = "" if not label[name] else _hash([label[name], before[name]])
    downward: dict[str, str] = {}
    after: dict[str, str] = {}
    for name in reversed(ordered):
        found = []
        for one in consumers[name]:
            ordered_inputs = [] if kinds[one] in _COMMUTATIVE else sources[one]
            place = list(ordered_inputs).index(name) if ordered_inputs else 0
            found.append(_hash([downward.get(one, ""), str(place)]))
        after[name] = _hash(sorted(found))
        downward[name] = _hash([label[name], after[name]])
    return before, after


def _sorted(names: Sequence[str], sources: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the layers so that each comes after those it reads from; cycles are cut."""
    result: list[str] = []
    done: set[str] = set()
    for first in names:
        stack = [(first, False)]
        while stack:
            name, ready = stack.pop()
            if ready:
                result.append(name)
            elif name not in done:
                done.add(name)
                stack.append((name, True))
                stack.extend((one, False) for one in sources[name] if one not in done)
    return result


def _hash(parts: Iterable[str]) -> str:
    text = "\x1f".join(parts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if text else ""
