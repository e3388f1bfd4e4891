"""Which layers a layer reads from, through the models that are layers of others."""

from typing import Any, Dict, Iterator, List, Optional, Sequence

from tracediff_hooks.names import NamedLayer, is_model


class Edges:
    """The edges of a model's graph between its named layers.

    A model inside another has no name of its own here: what reads from it reads from the layers
    that make its outputs, and its input layers read from what it is called with.

    Args:
        model: a Keras model of any generation.
        layers: its layers with their names.
    """

    def __init__(self, model: Any, layers: Sequence[NamedLayer]) -> None:
        self._names = {id(entry.layer): entry.name for entry in layers}
        self._entering: Dict[str, List[str]] = {}
        for nested in _nested_models(model):
            sources = self._named(_sources(nested) or [])
            for name in self._beginning(nested):
                self._entering.setdefault(name, []).extend(sources)

    def into(self, entry: NamedLayer) -> Optional[List[str]]:
        """The layers that a layer reads from; None where the framework keeps no graph."""
        sources = _sources(entry.layer)
        if sources is None:
            return None
        return list(dict.fromkeys(self._named(sources) + self._entering.get(entry.name, [])))

    def _named(self, sources: Sequence[Any]) -> List[str]:
        return list(dict.fromkeys(name for source in sources for name in self._ending(source)))

    def _ending(self, layer: Any) -> List[str]:
        """The layers that make what a layer, or a model, puts out."""
        if is_model(layer):
            makers = _makers(layer, "outputs") or list(layer.layers)[-1:]
            return self._named([maker for maker in makers if maker is not layer])
        return [self._names[id(layer)]] if id(layer) in self._names else []

    def _beginning(self, layer: Any) -> List[str]:
        """The layers that read what a layer, or a model, is called with."""
        if not is_model(layer):
            return [self._names[id(layer)]] if id(layer) in self._names else []
        makers = [one for one in _makers(layer, "inputs") if id(one) in self._names]
        # A sequential model does not show its input layer.
        return [name for one in makers or list(layer.layers)[:1] for name in self._beginning(one)]


def _nested_models(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if is_model(layer):
            yield layer
            yield from _nested_models(layer)


def _makers(model: Any, attribute: str) -> List[Any]:
    """The layers that a functional model's inputs or outputs come from."""
    try:
        tensors = getattr(model, attribute) or []
    except Exception:  # a model that was never called knows of none
        return []
    tensors = tensors if isinstance(tensors, (list, tuple)) else [tensors]
    histories = [getattr(tensor, "_keras_history", None) for tensor in tensors]
    return [history[0] for history in histories if history]


def _sources(layer: Any) -> Optional[List[Any]]:
    nodes = getattr(layer, "_inbound_nodes", None)
    if not nodes:
        return None
    sources: List[Any] = []
    for node in nodes:
        parents = getattr(node, "parent_nodes", None)
        found: List[Any]
        if parents is not None:
            # A node of Keras 3 knows its operation, one of tf.keras its layer.
            found = [
                getattr(parent, "operation", None) or getattr(parent, "layer", None)
                for parent in parents
            ]
        else:
            inbound = getattr(node, "inbound_layers", None)
            found = list(inbound) if isinstance(inbound, (list, tuple)) else [inbound]
        sources.extend(found)
    return sources
