"""Replays in Keras 3 on JAX, where the trainer hands its state from step to step.

While `fit` runs the variables are empty: what a step begins with is what it is called with.
"""

import sys
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from tracediff_hooks.replay.control import Batch, Values
from tracediff_hooks.replay.in_step import StepPlayer
from tracediff_hooks.state import StateTensor

Fed = Tuple[Any, Any]
"""The trainer's state, and the iterator over the script's own batches."""


class JaxPlayer(StepPlayer):
    """Sets arrays in the state of a trainer on JAX, and hands its step a batch.

    Args:
        hook: the generation's hook.
        trainer_state: what the step would be called with: lists of arrays.
    """

    def __init__(self, hook: Any, trainer_state: Any) -> None:
        super().__init__(hook)
        self._state = trainer_state

    def state(self, inputs: Sequence[np.ndarray]) -> List[StateTensor]:  # noqa: ARG002
        """All of the state: the trainer makes it before its callbacks hear of the fit."""
        return self._hook._state  # type: ignore[no-any-return]

    def assign(self, values: Values) -> None:
        """Puts other arrays into the trainer's state, between steps."""
        jax = sys.modules["jax"]
        parts = [list(part) for part in self._state]
        places: Dict[int, Tuple[int, int]] = {
            id(variable): (part, position)
            for part, variables in enumerate(self._hook._variables)
            for position, variable in enumerate(variables)
        }
        for tensor, value in values:
            part, position = places[id(tensor.variable)]
            own = parts[part][position]
            # On the device, or spread over the devices, where the trainer has its own.
            parts[part][position] = jax.device_put(np.asarray(value, own.dtype), own.sharding)
        self._state = type(self._state)(parts)

    def draw(self, fed: Fed) -> Any:
        """The next batch of the script's own pipeline."""
        return next(fed[1])

    def feed(self, fed: Fed, own: Any, batch: Batch, *, weighted: bool) -> Fed:
        """The trainer's state and an iterator over one batch of A, nested as the script's own."""
        keras = self._hook._keras
        data = self._nested(own, batch, weighted=weighted)
        return fed[0], iter([keras.tree.map_structure(keras.ops.convert_to_tensor, data)])

    def played(self, fed: Fed) -> Fed:
        """What the step is to be called with, after the state was set."""
        return self._state, fed[1]

    def _dtype(self, tensor: Any) -> Any:
        return self._hook._keras.backend.standardize_dtype(tensor.dtype)

    def out_of_data(self) -> BaseException:
        """What the framework takes for the end of its data."""
        return StopIteration()
