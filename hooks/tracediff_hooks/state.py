"""Tensors of the state: a weight or a slot, its line in the table, and the framework's variable."""

import operator
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

from tracediff_hooks.names import NamedLayer
from tracediff_hooks.tensors import Key, TensorSpec

OPTIMIZER_ORDER = 1 << 20
"""Variables of the optimizer as a whole come after those of every layer."""


class StateTensor(NamedTuple):
    """A weight or a slot: its place in the table of tensors and the framework's variable."""

    spec: TensorSpec
    variable: Any

    @property
    def key(self) -> Key:
        """What the recorder knows it by: its role and its name."""
        return self.spec.role, self.spec.name


class StateIndex:
    """What is asked of the tensors of a state at every step, worked out once.

    Args:
        state: the tensors; nobody changes this sequence any more.
    """

    def __init__(self, state: Sequence[StateTensor]) -> None:
        self.state = state
        self.keys = [tensor.key for tensor in state]
        """What the recorder knows each by, in their order."""
        self.weight_names = {
            id(tensor.variable): tensor.spec.name
            for tensor in state
            if tensor.spec.role == "weight"
        }
        """Identity of each weight's variable -> its canonical name."""
        self.variables = {id(tensor.variable) for tensor in state}
        """The identities of all variables."""


def same_objects(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two sequences hold the very same objects."""
    return len(one) == len(other) and all(map(operator.is_, one, other))


def weight_tensors(
    layers: Sequence[NamedLayer], trainable: Sequence[Any], dtype_of: Callable[[Any], str]
) -> List[StateTensor]:
    """The weights of a model, in execution order."""
    trained = {id(variable) for variable in trainable}
    tensors: List[StateTensor] = []
    for layer in layers:
        for name, variable in layer.weights:
            spec = TensorSpec(
                name,
                "weight",
                dtype_of(variable),
                _shape(variable),
                layer=layer.name,
                order=len(tensors),
                trainable=id(variable) in trained,
                framework_name=_framework_name(variable),
            )
            tensors.append(StateTensor(spec, variable))
    return tensors


def slot_tensor(
    weight: StateTensor, slot: str, variable: Any, dtype_of: Callable[[Any], str]
) -> StateTensor:
    """A slot that belongs to a weight."""
    spec = TensorSpec(
        f"{weight.spec.name}/{slot}",
        "slot",
        dtype_of(variable),
        _shape(variable),
        layer=weight.spec.layer,
        order=weight.spec.order,
        framework_name=_framework_name(variable),
    )
    return StateTensor(spec, variable)


def optimizer_tensor(
    name: str, variable: Any, dtype_of: Callable[[Any], str], *, owner: str = "optimizer"
) -> StateTensor:
    """A variable of an optimizer as a whole, such as its step counter.

    Args:
        name: its canonical name within the optimizer.
        variable: the framework's variable.
        dtype_of: tells the dtype of one.
        owner: ``optimizer`` for the one that the model was compiled with, else another name.
    """
    spec = TensorSpec(
        f"{owner}/{name}",
        "slot",
        dtype_of(variable),
        _shape(variable),
        order=OPTIMIZER_ORDER,
        framework_name=_framework_name(variable),
    )
    return StateTensor(spec, variable)


def distinct(state: Sequence[StateTensor]) -> List[StateTensor]:
    """The tensors of several optimizers, each once and under a name of its own.

    Two optimizers that update one weight keep slots of the same name for it: those of the second
    get a number, ``dense/kernel/m_1``.
    """
    found: List[StateTensor] = []
    variables: Set[int] = set()
    names: Dict[Key, int] = {}
    for tensor in state:
        if id(tensor.variable) in variables:
            continue
        variables.add(id(tensor.variable))
        number = names.get(tensor.key, 0)
        names[tensor.key] = number + 1
        if number:
            name = f"{tensor.spec.name}_{number}"
            found.append(tensor._replace(spec=tensor.spec._replace(name=name)))
        else:
            found.append(tensor)
    return found


def _shape(variable: Any) -> Tuple[int, ...]:
    shape = variable.shape
    as_list = getattr(shape, "as_list", None)
    return tuple(int(extent) for extent in (as_list() if as_list else shape))


def _framework_name(variable: Any) -> str:
    return str(getattr(variable, "path", None) or variable.name)
