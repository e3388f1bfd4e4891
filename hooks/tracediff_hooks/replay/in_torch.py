"""Replays in Keras 3 on torch, where a step is called with its batch and runs eagerly."""

from typing import Any

import numpy as np

from tracediff_hooks.replay.control import Batch, Values
from tracediff_hooks.replay.in_step import StepPlayer


class TorchPlayer(StepPlayer):
    """Sets the variables of a Keras 3 model on torch, and hands its step a batch."""

    def assign(self, values: Values) -> None:
        """Sets variables, between steps."""
        for tensor, value in values:
            tensor.variable.assign(value)

    def draw(self, fed: Any) -> Any:
        """The batch of the script's own pipeline: the framework has drawn it already.

        A step is called with a list of batches, of which there is one (keras/src/backend/torch/
        trainer.py).
        """
        return fed[0]

    def feed(self, fed: Any, own: Any, batch: Batch, *, weighted: bool) -> Any:  # noqa: ARG002
        """A batch of A, nested as the script's own."""
        keras = self._hook._keras
        data = self._nested(own, batch, weighted=weighted)
        return [keras.tree.map_structure(keras.ops.convert_to_tensor, data)]

    def _tensor(self, value: Any) -> Any:
        return self._hook._keras.ops.convert_to_tensor(value)

    def _on_host(self, value: Any) -> np.ndarray:
        return np.array(self._hook._keras.ops.convert_to_numpy(value))

    def _dtype(self, tensor: Any) -> Any:
        return self._hook._keras.backend.standardize_dtype(tensor.dtype)

    def out_of_data(self) -> BaseException:
        """What the framework takes for the end of its data."""
        return StopIteration()
