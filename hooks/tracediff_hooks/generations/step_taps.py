"""Carries tensors out of a compiled training step as one more entry of its logs.

Shared by the generations whose step is a Python function `train_step(data) -> logs` that a compiler
traces.
"""

import contextlib
import sys
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from tracediff_hooks.batches import input_names
from tracediff_hooks.composite import plain_arrays
from tracediff_hooks.outputs import LayerOutput
from tracediff_hooks.tensors import Key, ScaledBy, SparseRows, Value

TAPS = "~tracediff"
"""The entry's name. It sorts last, so that what a framework takes from the first log stays the
same."""

PLAIN = ("ResourceVariable", "UnliftedInitializerVariable")
"""Classes of variables of one piece, which are read by their handle. Of the second are those that
came to be while a `tf.function` was traced, such as the slots of an optimizer."""

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
        self._targets: List[Any] = []
        self._same: Set[int] = set()
        self._twice = False
        self.partial: Set[Tuple[str, int]] = set()
        self.scratch: Dict[str, Any] = {}
        self.scaled: Dict[int, ScaledBy] = {}
        self.calls: List[Tuple[Any, Any]] = []
        self.places: Dict[str, str] = {}
        self.unrecordable: List[Tuple[str, str]] = []

    @property
    def graph(self) -> Any:
        """The graph into which the step is traced; None where it runs eagerly."""
        return self._graph

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Starts anew: the step is being traced."""
        self._gradients = {}
        self._loss = None
        self._targets = []
        self._graph = None
        self._twice = False
        self.partial = set()
        self.scratch = {}
        self.scaled = {}
        self.calls = []
        if self._tensorflow is not None and not self._tensorflow.executing_eagerly():
            self._graph = self._tensorflow.compat.v1.get_default_graph()
        yield

    def saw(
        self, role: str, pairs: Pairs, *, unless_seen: bool = False, partial: bool = False
    ) -> None:
        """Notes gradients with their variables.

        Args:
            role: ``gradient`` or ``applied_gradient``.
            pairs: each gradient and its variable.
            unless_seen: whether what was noted before stays.
            partial: whether these are of one replica's part of the batch, to be added to those of
                the others; the sum may be noted instead later.
        """
        for gradient, variable in pairs:
            place = (role, id(variable))
            if gradient is None or (unless_seen and place in self._gradients):
                continue
            self._variables[id(variable)] = variable
            known = self._gradients.get(place, gradient)
            self._twice |= known is not gradient and place not in self.partial
            self._gradients[place] = gradient
            (self.partial.add if partial else self.partial.discard)(place)

    def saw_loss(self, loss: Any) -> None:
        """Notes the loss that the step minimises."""
        self._loss = loss

    def saw_target(self, target: Any) -> None:
        """Notes what the step differentiates: the loss, where nothing else has told of one."""
        if all(target is not known for known in self._targets):
            self._targets.append(target)

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

    def saw_call(self, layer: Any, inputs: Any, outputs: Any) -> None:  # noqa: ARG002 - a `Saw`
        """Notes what a layer put out."""
        self.calls.append((layer, outputs))

    def alike(self, flat: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
        """What the step returns where `outputs` failed, which gave None: nothing."""
        return flat

    def passing(self, guard: Callable[..., Any]) -> "contextlib.AbstractContextManager[Any]":  # noqa: ARG002 - several replicas need it
        """What a call of the compiled step runs in."""
        return contextlib.ExitStack()

    def outputs(
        self, batch: Mapping[Key, Any], activations: Sequence[LayerOutput] = ()
    ) -> Dict[str, Any]:
        """What the step is to return besides its logs: flat, so that any framework passes it on."""
        self.unrecordable = []
        self.calls = []
        self.places = {}
        if self._twice:
            self._leave_out(
                "no-gradients",
                "a step updates the same weights more than once: the gradients of its last update "
                "are recorded",
            )
        self._same = set()
        flat: Dict[str, Any] = {}
        for (role, name), tensor in batch.items():
            if self._carries(tensor):
                flat[f"batch {role} {name}"] = tensor
        if self._loss is None and len(self._targets) == 1:
            self._loss = self._targets[0]
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
        copied: Dict[Any, Any] = {}
        for place, tensor in flat.items():
            if not place.startswith("batch"):
                flat[place] = self._private(tensor, copied)
        flat.update(self._activations(activations))
        return flat

    def _activations(self, activations: Sequence[LayerOutput]) -> Dict[str, Any]:
        flat: Dict[str, Any] = {}
        copied: Dict[Any, Any] = {}
        for position, output in enumerate(activations):
            if not self._reachable(output.value):
                self._leave_out(
                    "not-recorded",
                    f"what {output.layer} puts out is computed inside a loop, a conditional or a "
                    "derivative and cannot leave the step; it is not recorded",
                )
            elif self._carries(output.value):
                self.places[output.name] = output.layer
                flat[f"activation {position:06d} {output.name}"] = self._private(
                    output.value, copied
                )
        return flat

    def _private(self, tensor: Any, copied: Dict[Any, Any]) -> Any:
        if self._copy is None or self._graph is None:
            return tensor
        return self._copy(tensor, copied)

    def _carries(self, tensor: Any) -> bool:
        dtype: Any = getattr(tensor, "dtype", None)
        if hasattr(tensor, "dtype") and getattr(dtype, "name", "") in (
            "string",
            "resource",
            "variant",
        ):
            self._leave_out("not-recorded", f"a tensor of dtype {dtype.name} is not recorded")
            return False
        return hasattr(tensor, "dtype")

    def _reachable(self, tensor: Any) -> bool:
        return self._graph is None or getattr(tensor, "graph", self._graph) is self._graph

    def _unreachable(self) -> None:
        self._leave_out(
            "no-gradients",
            "gradients computed inside a conditional (loss scaling, gradient accumulation) cannot "
            "leave the step; those that are applied are not recorded",
        )

    def _leave_out(self, kind: str, message: str) -> None:
        """Notes as an event what cannot be recorded."""
        if (kind, message) not in self.unrecordable:
            self.unrecordable.append((kind, message))

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
        fed: Set[int] = set()
        for place, tensor in taps.items():
            parts = place.split(" ", 2)
            if parts[0] == "loss":
                found["loss", "loss"] = array_of(tensor)
            elif parts[0] == "batch":
                # A batch may lie in an array of the script, which may fill it with the next one.
                for key, array in plain_arrays((parts[1], parts[2]), tensor, array_of).items():
                    fed.add(_address(array))
                    found[key] = np.array(array)
            elif parts[0] == "activation":
                array = array_of(tensor)
                found["activation", parts[2]] = np.array(array) if _address(array) in fed else array
            elif int(parts[1]) in weight_names:
                key = (parts[0], weight_names[int(parts[1])])
                if parts[2] == "dense":
                    found[key] = array_of(tensor)
                elif parts[2] == "values":
                    rows = taps[f"{parts[0]} {parts[1]} rows"]
                    found[key] = SparseRows(array_of(tensor), array_of(rows).astype(np.int64))
        aliases = [("applied_gradient", weight_names[v]) for v in self._same if v in weight_names]
        return found, sorted(aliases)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def view(variable: Any) -> np.ndarray:
    """The value of an eager variable in memory that may be its own: `numpy()` would copy it."""
    if type(variable).__name__ in PLAIN:
        return array_of(read_plainly(variable))
    if hasattr(variable, "distribute_strategy"):
        return _distributed_view(variable)
    # Not `read_value`, which passes the value through one more operation.
    return array_of(variable.value())


def copies_of(variable: Any) -> Sequence[Any]:
    """The copies of a variable on the replicas of a strategy, where all are meant to be the same.

    None of a plain variable, nor of one of which each replica has its own, such as the moving mean
    of a batch normalisation.
    """
    variable = _under_autocast(variable)
    return variable.values if _is_a(variable, "MirroredVariable") else ()


def read_plainly(variable: Any) -> Any:
    """What `value()` of an eager variable does, at half its price."""
    read = sys.modules["tensorflow"].raw_ops.ReadVariableOp
    return read(resource=variable.handle, dtype=variable.dtype)


def _distributed_view(variable: Any) -> np.ndarray:
    variable = _under_autocast(variable)
    if _is_a(variable, "SyncOnReadVariable"):
        # To read the variable as a whole runs a collective operation, at each of these one more.
        own = [view(value) for value in variable.values]
        how = variable.aggregation.name
        if how in ("MEAN", "SUM") and len(own) > 1:
            total = sum(own[1:], own[0])
            return np.asarray(total / len(own) if how == "MEAN" else total, dtype=own[0].dtype)
        return own[0]
    return view(variable.values[0]) if hasattr(variable, "values") else array_of(variable.value())


def _under_autocast(variable: Any) -> Any:
    """The variable itself, where mixed precision lets it be read in another type."""
    wrapped = any(name.startswith("AutoCast") for name in _class_names(variable))
    return variable._variable if wrapped and hasattr(variable, "_variable") else variable


def _is_a(variable: Any, name: str) -> bool:
    return name in _class_names(variable)


def _class_names(variable: Any) -> List[str]:
    return [cls.__name__ for cls in type(variable).__mro__]


def array_of(tensor: Any) -> np.ndarray:
    """A tensor's value on the host, in its own memory where that is there: `numpy()` copies it."""
    read = getattr(tensor, "_numpy", None) or getattr(tensor, "numpy", None)
    return np.asarray(read() if read is not None else tensor)
