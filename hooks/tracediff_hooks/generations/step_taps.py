"""Carries tensors out of a compiled training step as one more entry of its logs.

Shared by the generations whose step is a Python function `train_step(data) -> logs` that a compiler
traces.
"""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.batches import input_names
from tracediff_hooks.tensors import Key, SparseRows, Value

TAPS = "~tracediff"
"""The entry's name. It sorts last, so that what a framework takes from the first log stays the
same."""

Pairs = Sequence[Tuple[Any, Any]]


def set_plainly(owner: Any, name: str, value: Any) -> None:
    """Sets an attribute of an instance past the framework's tracking of attributes."""
    object.__setattr__(owner, name, value)


def take_off(owner: Any, name: str) -> None:
    """Removes an instance attribute, so that the class's own shows again."""
    owner.__dict__.pop(name, None)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Puts an attribute on an instance for the duration of a block, and what was there back."""
    own = name in owner.__dict__
    previous = owner.__dict__.get(name)
    set_plainly(owner, name, value)
    try:
        yield
    finally:
        if own:
            set_plainly(owner, name, previous)
        else:
            take_off(owner, name)


def optimizers_of(model: Any) -> List[Any]:
    """Every optimizer a model holds: a custom `train_step` may use several."""
    found: List[Any] = []
    for value in [model.optimizer, *vars(model).values()]:
        if hasattr(value, "apply_gradients") and all(value is not other for other in found):
            found.append(value)
    return found


class StepTaps:
    """The tensors of interest of one step: noted while it is traced, named when it has run."""

    def __init__(
        self, tensorflow: Any, *, copy: Optional[Callable[[Any, Dict[Any, Any]], Any]] = None
    ) -> None:
        self._tensorflow = tensorflow
        self._copy = copy
        self._variables: Dict[int, Any] = {}
        self._gradients: Dict[Tuple[str, int], Any] = {}
        self._graph: Any = None
        self._loss: Any = None
        self._same: set = set()
        self.unrecordable: List[str] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Starts anew: the step is being traced."""
        self._gradients = {}
        self._loss = None
        self._graph = None
        if self._tensorflow is not None and not self._tensorflow.executing_eagerly():
            self._graph = self._tensorflow.compat.v1.get_default_graph()
        yield

    def saw(self, role: str, pairs: Pairs, *, unless_seen: bool = False) -> None:
        """Notes gradients with their variables."""
        for gradient, variable in pairs:
            place = (role, id(variable))
            if gradient is None or (unless_seen and place in self._gradients):
                continue
            self._variables[id(variable)] = variable
            self._gradients[place] = gradient

    def saw_loss(self, loss: Any) -> None:
        """Notes the loss that the step minimises."""
        self._loss = loss

    def batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        inputs: Optional[Sequence[str]],
        outputs: Optional[Sequence[str]],
    ) -> Dict[Key, Any]:
        """Numbers a batch's tensors in the order of the model's inputs and outputs."""
        found = input_names("input", x, inputs)
        found += input_names("label", y, outputs)
        found += input_names("sample_weight", sample_weight, outputs)
        return dict(found)

    def outputs(self, batch: Mapping[Key, Any]) -> Dict[str, Any]:
        """What the step is to return besides its logs: flat, so that any framework passes it on."""
        self.unrecordable = []
        self._same = set()
        flat: Dict[str, Any] = {}
        for (role, name), tensor in batch.items():
            if self._carries(tensor):
                flat[f"batch {role} {name}"] = tensor
        if self._loss is not None and self._reachable(self._loss):
            flat["loss"] = self._loss
        for (role, variable), gradient in self._gradients.items():
            values = getattr(gradient, "values", gradient)
            if not self._reachable(values):
                self._unreachable()
            elif (
                role == "applied_gradient"
                and self._gradients.get(("gradient", variable)) is gradient
            ):
                self._same.add(variable)
            elif hasattr(gradient, "indices"):
                flat[f"{role} {variable} values"] = gradient.values
                flat[f"{role} {variable} rows"] = gradient.indices
            else:
                flat[f"{role} {variable} dense"] = gradient
        if self._copy is not None and self._graph is not None:
            copied: Dict[Any, Any] = {}
            for place, tensor in flat.items():
                if not place.startswith("batch"):
                    flat[place] = self._copy(tensor, copied)
        return flat

    def _carries(self, tensor: Any) -> bool:
        dtype = getattr(tensor, "dtype", None)
        if hasattr(tensor, "dtype") and getattr(dtype, "name", "") in (
            "string",
            "resource",
            "variant",
        ):
            message = f"a batch tensor of dtype {dtype.name} is not recorded"
            if message not in self.unrecordable:
                self.unrecordable.append(message)
            return False
        return hasattr(tensor, "dtype")

    def _reachable(self, tensor: Any) -> bool:
        return self._graph is None or getattr(tensor, "graph", self._graph) is self._graph

    def _unreachable(self) -> None:
        message = (
            "gradients computed inside a conditional (loss scaling, gradient accumulation) cannot "
            "leave the step; those that are applied are not recorded"
        )
        if message not in self.unrecordable:
            self.unrecordable.append(message)

    def values(
        self, taps: Mapping[str, Any], weight_names: Mapping[int, str]
    ) -> Tuple[Dict[Key, Value], List[Key]]:
        """What came out of the step, under canonical names.

        Args:
            taps: the entry taken off the logs.
            weight_names: identity of each variable -> canonical name.

        Returns:
            The values, and the applied gradients that are the raw ones.
        """
        found: Dict[Key, Value] = {}
        for place, tensor in taps.items():
            parts = place.split(" ")
            if parts[0] == "loss":
                found["loss", "loss"] = _array(tensor)
            elif parts[0] == "batch":
                found[parts[1], parts[2]] = _array(tensor)
            elif int(parts[1]) in weight_names:
                key = (parts[0], weight_names[int(parts[1])])
                if parts[2] == "dense":
                    found[key] = _array(tensor)
                elif parts[2] == "values":
                    rows = taps[f"{parts[0]} {parts[1]} rows"]
                    found[key] = SparseRows(_array(tensor), _array(rows).astype(np.int64))
        aliases = [("applied_gradient", weight_names[v]) for v in self._same if v in weight_names]
        return found, sorted(aliases)


def view(variable: Any) -> np.ndarray:
    """The value of an eager variable in memory that may be its own: `numpy()` would copy it."""
    # Not `read_value`, which passes the value through one more operation.
    return _array(variable.value())


def _array(tensor: Any) -> np.ndarray:
    """A tensor's value on the host, in its own memory where that is there: `numpy()` copies it."""
    read = getattr(tensor, "_numpy", None) or getattr(tensor, "numpy", None)
    return np.asarray(read() if read is not None else tensor)
