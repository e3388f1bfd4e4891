"""What a step consumed and computed, as the recorder is told of it: one tensor for each value."""

from typing import Callable, Dict, Mapping, Sequence, Tuple

import numpy as np

from tracediff_hooks.recorder import Recorder
from tracediff_hooks.state import StateTensor
from tracediff_hooks.tensors import Key, ScaledBy, SparseRows, TensorSpec, Value, recordable


class Observed:
    """Declares the tensors that the steps of a run observe, when they are seen first.

    Args:
        recorder: what they are declared to.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._layers: Dict[str, Tuple[str, int]] = {}
        self._outputs: Dict[str, Tuple[str, int]] = {}
        self._shapes: Dict[str, Tuple[int, ...]] = {}
        self._scaled: Dict[str, ScaledBy] = {}

    def begin_run(self, state: Sequence[StateTensor]) -> None:
        """Takes the weights and slots of the run that begins."""
        self._layers = {
            t.spec.name: (str(t.spec.layer), t.spec.order) for t in state if t.spec.role == "weight"
        }
        self._shapes = {t.spec.name: t.spec.shape or () for t in state}
        self._scaled = {}

    def declare(
        self,
        observed: Mapping[Key, Value],
        *,
        aliases: Sequence[Key] = (),
        places: Mapping[str, str],
    ) -> None:
        """Declares what was not seen before.

        Args:
            observed: the values of a step.
            aliases: applied gradients that are the raw ones.
            places: name of each recorded layer output -> the layer, in execution order.
        """
        for order, (name, layer) in enumerate(places.items()):
            self._outputs[name] = (layer, order)
        for key in observed:
            if not self._recorder.declared(*key):
                self._recorder.declare(self._spec(key, observed[key]))
        for role, name in aliases:
            if not self._recorder.declared(role, name):
                spec = self._spec((role, name), observed["gradient", name])
                self._recorder.declare(spec._replace(same_as="gradient"))

    def of_one_scale(
        self,
        observed: Mapping[Key, Value],
        aliases: Sequence[Key],
        scaled: Mapping[str, ScaledBy],
        *,
        event: Callable[[str, str], None],
    ) -> Tuple[Mapping[Key, Value], Sequence[Key]]:
        """Leaves out, and says so, gradients of another scale than the table of tensors says.

        Args:
            observed: the values of a step.
            aliases: applied gradients that are the raw ones.
            scaled: by the name of a weight, what its raw gradient is multiplied by.
            event: takes the kind and the text of an event.

        Returns:
            The values and the aliases that are left.
        """
        if scaled == self._scaled:
            return observed, aliases
        raw = {key for key in observed if key[0] == "gradient"}
        for key in raw:
            if not self._recorder.declared(*key) and key[1] in scaled:
                self._scaled[key[1]] = scaled[key[1]]
        others = {key for key in raw if scaled.get(key[1]) != self._scaled.get(key[1])}
        if others:
            event(
                "not-recorded",
                "some steps see raw gradients of the scaled loss, others see them when the scale "
                "is off again: recorded are those of the kind that came first",
            )
        # What is applied as it was given is recorded for itself then.
        lost = [key for key in aliases if ("gradient", key[1]) in others]
        kept = {key: value for key, value in observed.items() if key not in others}
        kept.update({key: observed["gradient", key[1]] for key in lost})
        return kept, [key for key in aliases if key not in lost]

    def _spec(self, key: Key, value: Value) -> TensorSpec:
        role, name = key
        sparse = isinstance(value, SparseRows)
        array = _array(value)
        known = self._outputs if role == "activation" else self._layers
        layer, order = known.get(name, (None, 0))
        ragged = role in ("input", "label", "sample_weight", "activation")
        shape = self._shapes[name] if sparse else tuple(array.shape)
        return TensorSpec(
            name,
            role,
            array.dtype.name,
            None if ragged else shape,
            layer=layer,
            order=order,
            ragged=ragged,
            sparse=sparse,
            scaled_by=self._scaled.get(name) if role == "gradient" else None,
        )


def numbers_of(
    observed: Mapping[Key, Value], event: Callable[[str, str], None]
) -> Mapping[Key, Value]:
    """Leaves out, and says so, what holds no numbers."""
    kept = {}
    for key, value in observed.items():
        if recordable(_array(value)):
            kept[key] = value
        else:
            event(
                "not-recorded",
                f"{key[1]} is not recorded: its dtype is {_array(value).dtype}, and only numbers "
                "are",
            )
    return kept


def bytes_of(observed: Mapping[Key, Value]) -> int:
    """The bytes of all values of a step."""
    return sum(_array(value).nbytes for value in observed.values())


def _array(value: Value) -> np.ndarray:
    return value.values if isinstance(value, SparseRows) else np.asarray(value)
