"""What an optimizer of a graph-mode generation keeps, and the learning rate of its next step."""

import sys
import weakref
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks import v1_optimizer
from tracediff_hooks.generations.gradient_registry import gradients_of
from tracediff_hooks.generations.optimizer_v2 import slot_of
from tracediff_hooks.generations.session_runs import Reader
from tracediff_hooks.names import optimizer_variable_name, slot_name, variable_name
from tracediff_hooks.state import StateTensor, optimizer_tensor, slot_tensor

KERAS_SLOTS = {
    "SGD": ("momentum",),
    "RMSprop": ("rms",),
    "Adagrad": ("accumulator",),
    "Adadelta": ("accum_grad", "accum_var"),
    "Adam": ("m", "v", "vhat"),
    "Adamax": ("m", "u"),
    "Nadam": ("m", "v"),
}
"""keras/optimizers.py, 2.3.1: the order in which `get_updates` lists its slots, all of one kind
first."""


def slots_of(
    optimizer: Any, weights: Sequence[StateTensor], trained: Sequence[Any]
) -> List[StateTensor]:
    """The slots of an optimizer, and what it keeps for all weights together.

    Args:
        optimizer: of Keras 2.3 or of tf.keras.
        weights: the weights of the model.
        trained: the variables it trains, where the optimizer does not tell by itself.
    """
    inner = v1_optimizer.wrapped(optimizer)
    if inner is not None:
        found = [
            slot_tensor(tensor, name, variable, dtype_of)
            for tensor in weights
            for name, variable in v1_optimizer.slots(inner, tensor.variable)
        ]
        return [*found, optimizer_tensor("iteration", optimizer.iterations, dtype_of)]
    if hasattr(optimizer, "get_slot_names"):
        return _slots_by_name(optimizer, weights)
    return _slots_by_order(optimizer, weights, trained)


def _slots_by_name(optimizer: Any, weights: Sequence[StateTensor]) -> List[StateTensor]:
    found: List[StateTensor] = []
    for tensor in weights:
        for slot in optimizer.get_slot_names():
            variable = slot_of(optimizer, tensor.variable, slot)
            if variable is not None:
                name = slot_name(type(optimizer).__name__, slot)
                found.append(slot_tensor(tensor, name, variable, dtype_of))
    slots = {id(tensor.variable) for tensor in found}
    for variable in optimizer.weights:
        if id(variable) not in slots and variable is not optimizer.iterations:
            name = optimizer_variable_name(variable_name(variable))
            found.append(optimizer_tensor(name, variable, dtype_of))
    found.append(optimizer_tensor("iteration", optimizer.iterations, dtype_of))
    return found


def _slots_by_order(
    optimizer: Any, weights: Sequence[StateTensor], trained: Sequence[Any]
) -> List[StateTensor]:
    by_variable = {id(t.variable): t for t in weights}
    found: List[StateTensor] = []
    built = gradients_of(optimizer, trained)
    trained = built.variables if built else trained
    own = None if built is None else built.slots
    variables = list(own or getattr(optimizer, "weights", None) or [])
    scalars = [v for v in variables if len(v.shape) == 0]
    slots = [v for v in variables if len(v.shape) != 0 or v not in scalars]
    if trained and len(variables) >= len(trained):
        # A scalar weight has scalar slots: what the optimizer keeps for itself stands first.
        slots = variables[len(variables) % len(trained) :]
        scalars = variables[: len(variables) % len(trained)]
    kinds = KERAS_SLOTS.get(type(optimizer).__name__, ())
    for position, variable in enumerate(slots):
        owner = by_variable.get(id(trained[position % len(trained)]))
        kind = position // len(trained)
        name = kinds[kind] if kind < len(kinds) else f"slot_{kind}"
        if name == "vhat" and not getattr(optimizer, "amsgrad", True):
            continue  # a placeholder of shape (1,)
        if owner is not None and shape_of(variable) == (owner.spec.shape or ()):
            found.append(slot_tensor(owner, name, variable, dtype_of))
    iterations = getattr(optimizer, "iterations", None)
    if iterations is not None:
        found.append(optimizer_tensor("iteration", iterations, dtype_of))
    for variable in scalars:
        if variable is not iterations:
            name = variable.name.split(":")[0].split("/")[-1]
            found.append(optimizer_tensor(name, variable, dtype_of))
    return found


def learning_rate_of(optimizer: Any, backend: Any, read: Reader) -> Optional[np.ndarray]:
    """The rate that the next step will use, or None where the optimizer does not tell.

    Args:
        optimizer: of Keras 2.3 or of tf.keras.
        backend: the Keras backend module in use.
        read: reads variables at every step.
    """
    inner = v1_optimizer.wrapped(optimizer)
    if inner is not None:
        fixed = v1_optimizer.rate(inner)
        return np.array(fixed, np.float32) if isinstance(fixed, float) else None
    rate = getattr(optimizer, "lr", None)
    if callable(rate) and hasattr(rate, "get_config"):
        return _scheduled(rate, backend.get_value(optimizer.iterations))
    if rate is None or callable(rate) or not hasattr(rate, "dtype"):
        return None
    decay = float(
        getattr(optimizer, "initial_decay", 0.0) or getattr(optimizer, "_initial_decay", 0.0)
    )
    value: Any
    value, iterations = read(backend.get_session(), [rate, optimizer.iterations])
    value = np.float32(value)
    # The `decay` of tf.keras's Nadam is the schedule of its momentum.
    if decay > 0 and type(optimizer).__name__ != "Nadam":
        divisor = np.float32(1) + np.float32(decay) * np.float32(iterations)
        if hasattr(optimizer, "_decayed_lr"):  # optimizer_v2.py, 1.15
            value = value / divisor
        else:  # keras/optimizers.py, 2.3.1, `get_updates`
            value = value * (np.float32(1) / divisor)
    return np.array(value, np.float32)


_schedules: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


def _scheduled(schedule: Any, iterations: Any) -> np.ndarray:
    """What a schedule of tf.keras makes of a step's number.

    It is asked in a graph of its own: operations in the user's would shift the seeds of models that
    are made later.
    """
    if schedule not in _schedules:
        tf = sys.modules["tensorflow"].compat.v1
        graph = tf.Graph()
        with graph.as_default():
            step = tf.placeholder("float32", ())
            rate = tf.cast(schedule(step), "float32")  # optimizer_v2.py, 1.15, `_decayed_lr`
        _schedules[schedule] = tf.Session(graph=graph), step, rate
    session, step, rate = _schedules[schedule]
    return np.array(session.run(rate, {step: iterations}))


def decayed_rate(optimizer: Any) -> Any:
    """The tensor of the decayed learning rate that `get_updates` built last, if there is one.

    It computes `lr * (1. / (1. + decay * iterations))`.
    """
    handle = getattr(getattr(optimizer, "learning_rate", None), "handle", None)
    if handle is None or not getattr(optimizer, "initial_decay", 0.0):
        return None
    reads = [op.outputs[0] for op in handle.consumers() if op.type == "ReadVariableOp"]
    products = [
        op
        for read in reads
        for op in read.consumers()
        if op.type == "Mul" and any(value.op.type == "RealDiv" for value in op.inputs)
    ]
    return products[-1].outputs[0] if products else None


def dtype_of(variable: Any) -> str:
    """A variable's dtype by name."""
    return str(variable.dtype.base_dtype.name)


def shape_of(variable: Any) -> Tuple[int, ...]:
    """A variable's shape."""
    return tuple(int(extent) for extent in variable.shape.as_list())
