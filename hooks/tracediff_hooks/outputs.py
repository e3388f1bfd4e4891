"""Which layer outputs are recorded, and what they are called."""

import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from tracediff_hooks.names import NamedLayer

Activations = Union[bool, str, Sequence[str]]
"""True for the outputs of all layers, a regular expression, or the names of layers."""


class LayerOutput(NamedTuple):
    """One tensor that a layer put out in one of its calls in a step."""

    name: str
    layer: str
    value: Any


class OutputChoice:
    """The layers whose outputs a user asked for.

    Args:
        activations: True or False; a regular expression, which has to be found in a layer's name;
            or names of layers. A layer goes by its canonical name and by the framework's.

    Raises:
        ValueError: a regular expression that is none.
        TypeError: something else.
    """

    def __init__(self, activations: Activations) -> None:
        self._all = activations is True
        self._names: Optional[List[str]] = None
        self._pattern: Any = None
        if isinstance(activations, str):
            try:
                self._pattern = re.compile(activations)
            except re.error as error:
                raise ValueError(
                    f"activations={activations!r} is no regular expression: {error}; to name one "
                    "layer as it is, put its name into a list"
                ) from None
        elif not isinstance(activations, bool):
            names = list(activations)
            if not all(isinstance(name, str) for name in names):
                raise TypeError(
                    "activations must be True, False, a regular expression, or names of layers, "
                    f"not {activations!r}"
                )
            self._names = names

    def __bool__(self) -> bool:
        return bool(self._all or self._pattern is not None or self._names)

    def has(self, layer: NamedLayer) -> bool:
        """Whether the outputs of a layer are wanted."""
        names = (layer.name, str(layer.layer.name))
        if self._pattern is not None:
            return any(self._pattern.search(name) for name in names)
        return self._all or any(name in names for name in self._names or ())

    def missing(self, layers: Iterable[NamedLayer]) -> List[str]:
        """What was asked for that no layer of a model goes by."""
        layers = list(layers)
        if self._pattern is not None:
            return [] if any(map(self.has, layers)) else [self._pattern.pattern]
        known = {name for entry in layers for name in (entry.name, str(entry.layer.name))}
        return [name for name in self._names or () if name not in known]

    def of(
        self, calls: Sequence[Tuple[Any, Any]], layers: Sequence[NamedLayer]
    ) -> List[LayerOutput]:
        """Names the outputs of the calls that were seen, in the order of the calls.

        The first output of a layer's first call has the layer's name, the second one of it
        ``<layer>/output_1``; those of its second call ``<layer>/call_1`` and
        ``<layer>/call_1/output_1``.

        Args:
            calls: layers and what each put out, in the order in which they were called.
            layers: the layers of the model with their names.
        """
        named = {id(entry.layer): entry for entry in layers}
        counts: Dict[str, int] = {}
        found: List[LayerOutput] = []
        for layer, outputs in calls:
            entry = named.get(id(layer))
            if entry is None or not self.has(entry):
                continue
            call = counts.get(entry.name, 0)
            counts[entry.name] = call + 1
            stem = entry.name if call == 0 else f"{entry.name}/call_{call}"
            for position, value in enumerate(tensors_of(outputs)):
                name = stem if position == 0 else f"{stem}/output_{position}"
                found.append(LayerOutput(name, entry.name, value))
        return found


def tensors_of(outputs: Any) -> List[Any]:
    """The tensors in what a layer put out, in one order everywhere."""
    if isinstance(outputs, dict):
        return [leaf for key in sorted(outputs) for leaf in tensors_of(outputs[key])]
    if isinstance(outputs, (list, tuple)):
        return [leaf for value in outputs for leaf in tensors_of(value)]
    return [outputs] if hasattr(outputs, "dtype") and hasattr(outputs, "shape") else []
