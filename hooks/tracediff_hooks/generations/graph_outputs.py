"""Finds the tensors that the layers of a graph-mode model put out in its training graph.

Layers remember the nodes of the graph that their calls made, but for one case: a model that Keras
2.3 calls inside another runs its layers' `call` and makes no nodes. Those calls are noted while
they are made.
"""

import contextlib
import functools
import sys
import weakref
from typing import Any, Iterator, List, Sequence, Set, Tuple

from tracediff_hooks.names import NamedLayer

NETWORK_MODULE = "keras.engine.network"

# model inside another -> what its layers put out when it was called; only weakly, so that neither
# layers nor graphs live longer for it
_noted: "weakref.WeakKeyDictionary[Any, List[Any]]" = weakref.WeakKeyDictionary()


def watch_networks(module: Any) -> None:
    """Notes from now on what the layers of a model inside another put out."""
    base: Any = getattr(module, "Network", None)
    original = getattr(base, "run_internal_graph", None)
    if original is None or hasattr(original, "watched_by_tracediff"):
        return

    @functools.wraps(original)
    def run_internal_graph(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls: List[Any] = []
        with _calls_noted(self.layers, calls):
            result = original(self, *args, **kwargs)
        with contextlib.suppress(TypeError):
            _noted.setdefault(self, []).extend(calls)
        return result

    run_internal_graph.watched_by_tracediff = True  # type: ignore[attr-defined]
    base.run_internal_graph = run_internal_graph


def watch_loaded_networks() -> None:
    """Starts to watch Keras 2.3 if it is loaded by now."""
    if NETWORK_MODULE in sys.modules:
        watch_networks(sys.modules[NETWORK_MODULE])


@contextlib.contextmanager
def _calls_noted(layers: Sequence[Any], calls: List[Any]) -> Iterator[None]:
    def noting(layer: Any) -> Any:
        call = layer.call

        # Keras looks at the signature of `call`, which this keeps.
        @functools.wraps(call)
        def noted(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            with contextlib.suppress(TypeError):
                tensors = [weakref.ref(tensor) for tensor in _flat(outputs)]
                calls.append((weakref.ref(layer), tensors))
            return outputs

        return noted

    own = [(layer, layer.__dict__.get("call")) for layer in layers]
    for layer in layers:
        layer.__dict__["call"] = noting(layer)
    try:
        yield
    finally:
        for layer, call in own:
            if call is None:
                del layer.__dict__["call"]
            else:
                layer.__dict__["call"] = call


def calls_in_graph(
    layers: Sequence[NamedLayer], models: Sequence[Any], results: Sequence[Any]
) -> List[Tuple[Any, List[Any]]]:
    """The calls of layers that a step computes, with what they put out, in execution order.

    Args:
        layers: the layers of the model.
        models: the model, and the models inside it.
        results: tensors and operations that the step runs.
    """
    needed = _needed(results)
    calls: List[Tuple[Any, List[Any]]] = []
    for entry in layers:
        nodes = list(getattr(entry.layer, "_inbound_nodes", None) or [])
        calls += [(entry.layer, _flat(node.output_tensors)) for node in nodes]
    for model in models:
        for layer, tensors in _noted.get(model, []):
            alive = [tensor() for tensor in tensors]
            if layer() is not None and all(tensor is not None for tensor in alive):
                calls.append((layer(), alive))
    found = []
    seen: Set[int] = set()
    for layer, tensors in calls:
        inside = [t for t in tensors if t.op in needed and _can_be_fetched(t.op)]
        if inside and not any(id(t) in seen for t in inside):
            seen.update(id(t) for t in inside)
            found.append((layer, inside))
    return sorted(found, key=lambda call: int(call[1][0].op._id))


def _needed(results: Sequence[Any]) -> Set[Any]:
    """The operations that have to run for some tensors and operations."""
    waiting = [getattr(result, "op", result) for result in results]
    found = set(waiting)
    while waiting:
        operation = waiting.pop()
        sources = [tensor.op for tensor in operation.inputs]
        for source in sources + list(operation.control_inputs):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def _can_be_fetched(operation: Any) -> bool:
    """Whether a value is neither fed from outside nor computed inside a loop or a conditional."""
    fed = operation.type.startswith("Placeholder")
    return not fed and operation._get_control_flow_context() is None


def _flat(outputs: Any) -> List[Any]:
    if isinstance(outputs, (list, tuple)):
        return [leaf for value in outputs for leaf in _flat(value)]
    return [outputs]
