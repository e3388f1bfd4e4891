"""The tensors of one step while JAX traces it, and what may leave the traces they belong to."""

import contextlib
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from tracediff_hooks.generations.step_taps import StepTaps
from tracediff_hooks.outputs import LayerOutput, tensors_of
from tracediff_hooks.tensors import Key, Value

State = Any
"""Lists of arrays: trainable, non-trainable, optimizer's and metrics' variables."""


class JaxTaps(StepTaps):
    """The tensors of one step while JAX traces it."""

    def __init__(self) -> None:
        super().__init__(None)
        self._trace: Any = None
        self._order: List[str] = []

    @contextlib.contextmanager
    def collect_from(self, state: State) -> Iterator[None]:
        """Starts anew: the step is being traced, or run, with this state."""
        self._gradients = {}
        self._loss = None
        self._twice = False
        self.scaled = {}
        self.calls = []
        # None where nothing is compiled.
        self._trace = next((_trace_of(v) for part in state for v in part), None)
        yield

    def outputs(
        self, batch: Mapping[Key, Any], activations: Sequence[LayerOutput] = ()
    ) -> Dict[str, Any]:
        """What the step is to return besides its logs."""
        flat = super().outputs(batch, activations)
        self._order = list(flat)
        return flat

    def values(
        self, taps: Mapping[str, Any], weight_names: Mapping[int, str]
    ) -> Tuple[Dict[Key, Value], List[Key]]:
        """What came out of the step, in execution order: JAX returns dictionaries sorted."""
        ordered = {place: taps[place] for place in self._order if place in taps}
        return super().values({**ordered, **taps}, weight_names)

    def brought_out(self, argument: Any) -> List[Any]:
        """The layer outputs seen so far, as a derivative can return them beside its value.

        Args:
            argument: what the derivative is taken with respect to.

        Returns:
            For each call its tensors; None where they belong to a loop or a conditional inside.
        """
        within = [None, self._trace, *(_trace_of(value) for value in argument)]
        found: List[Any] = []
        for _, outputs in self.calls:
            tensors = tensors_of(outputs)
            there = [any(_trace_of(tensor) is trace for trace in within) for tensor in tensors]
            found.append(tensors if all(there) else None)
        return found

    def came_out(self, outputs: List[Any]) -> None:
        """Takes the same layer outputs as they are outside of the derivative."""
        self.calls = [
            (layer, inside if outside is None else outside)
            for (layer, inside), outside in zip(self.calls, outputs)
        ]

    def _reachable(self, tensor: Any) -> bool:
        # What a conditional inside the step computes belongs to a trace of its own.
        return _trace_of(tensor) in (None, self._trace)


def _trace_of(tensor: Any) -> Any:
    return getattr(tensor, "_trace", None)
