"""The batch that a graph's train function is fed, told by the positions of its placeholders."""

from typing import Any, Dict, Iterator, Sequence, Tuple

import numpy as np

from tracediff_hooks.composite import is_composite, plain_arrays
from tracediff_hooks.generations.graph_fetches import Fetches
from tracediff_hooks.tensors import Key


def places_of(model: Any, function: Any) -> Dict[int, Key]:
    """Which part of a batch each placeholder of the train function takes, by identity.

    Told by position, as Keras feeds them: an evaluation without sample weights gives the model
    other placeholders for them, and the train function keeps those that it was built with.
    """
    known = [("input", position) for position in _input_positions(model)]
    known += [("label", position) for position in _label_positions(model)]
    # Behind the sample weights stands the learning phase, which is the only scalar.
    rest = [tensor for tensor in function.inputs[len(known) :] if tensor.shape.ndims != 0]
    known += [("sample_weight", position) for position in range(len(rest))]
    return {
        id(tensor): (role, f"{role}/{position}")
        for tensor, (role, position) in zip(function.inputs, known)
    }


def _input_positions(model: Any) -> Sequence[int]:
    return _positions(model._feed_inputs, model.inputs or [])


def _label_positions(model: Any) -> Sequence[int]:
    return _positions(model._feed_targets, _targets(model))


def _positions(fed: Sequence[Any], known: Sequence[Any]) -> Sequence[int]:
    places = [id(tensor) for tensor in known]
    if all(id(tensor) in places for tensor in fed):
        return [places.index(id(tensor)) for tensor in fed]
    return range(len(fed))


def _targets(model: Any) -> Sequence[Any]:
    """What the outputs that have a loss are compared with."""
    found = getattr(model, "targets", None)  # tf.keras has an underscore before it
    found = getattr(model, "_targets", None) if found is None else found
    return [tensor for tensor in found or [] if tensor is not None]


def unfed(model: Any) -> Iterator[Tuple[Key, Any]]:
    """The inputs and the labels of a model that are tensors of the graph and fed by nobody."""
    for role, fed, known in (
        ("input", model._feed_inputs, model.inputs or []),
        ("label", model._feed_targets, _targets(model)),
    ):
        given = {id(tensor) for tensor in fed}
        for position, tensor in enumerate(known):
            if id(tensor) not in given:
                yield (role, f"{role}/{position}"), tensor


def batch_of(
    places: Dict[int, Key], function: Any, inputs: Any, fetches: Fetches
) -> Dict[Key, np.ndarray]:
    """Copies of what a call of the train function is fed, by role and name.

    Args:
        places: which part of a batch each placeholder takes.
        function: the train function.
        inputs: what it is called with.
        fetches: takes what is a tensor until the step runs, as a batch of tf.data is.
    """
    found: Dict[Key, np.ndarray] = {}
    for tensor, value in zip(function.inputs, inputs):
        key = places.get(id(tensor))
        if key is None or value is None:
            continue
        if hasattr(value, "graph"):
            fetches.add_fed(key, value)
            continue
        if is_composite(value):
            found.update(plain_arrays(key, value, np.asarray))
            continue
        array = np.array(value, dtype=tensor.dtype.as_numpy_dtype)
        if key[0] == "sample_weight" and (array == 1).all():
            continue  # the framework feeds ones where the user gave none
        found[key] = array
    return found
