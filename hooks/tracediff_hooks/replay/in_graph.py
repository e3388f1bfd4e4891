"""Replays where the step is one call of a graph's train function: Keras 2.3, tf.keras 1.15."""

from typing import Any, Dict, List, Sequence

import numpy as np

from tracediff_hooks.replay.control import Batch, Player, Values
from tracediff_hooks.replay.leaves import fitted
from tracediff_hooks.replay.refused import ReplayRefused
from tracediff_hooks.state import StateTensor
from tracediff_hooks.tensors import Key


class GraphPlayer(Player):
    """Sets the variables of a graph, and feeds its train function."""

    def state(self, inputs: Sequence[np.ndarray]) -> List[StateTensor]:  # noqa: ARG002
        """All of the state: a graph has it before the first step."""
        return self._hook._state  # type: ignore[no-any-return]

    def assign(self, values: Values) -> None:
        """Sets variables, between steps."""
        pairs = [(tensor.variable, value) for tensor, value in values]
        self._hook._backend.batch_set_value(pairs)

    def draw(self, fed: Any) -> Any:
        """What the script's own pipeline gives: the framework has drawn it already."""
        return fed

    def arrays(self, own: Any) -> Dict[Key, np.ndarray]:
        """The tensors of a batch of the script's own pipeline, by role and name."""
        return self._hook._batch(own)  # type: ignore[no-any-return]

    def feed(self, fed: Any, own: Any, batch: Batch, *, weighted: bool) -> Any:  # noqa: ARG002
        """The arguments of the train function with A's batch in place of the script's."""
        places: Dict[int, Key] = self._hook.places()
        rows = len(next(iter(batch.values())))
        left, found = dict(batch), []
        for tensor, value in zip(self._hook._function.inputs, fed):
            key = places.get(id(tensor))
            if key is None or value is None:
                found.append(value)
                continue
            if hasattr(value, "graph"):
                raise ReplayRefused(
                    "batches that a graph draws from tf.data by itself cannot be replaced",
                    hint="feed this script's fit with arrays or a generator",
                )
            found.append(self._fed(key, tensor, value, left, rows))
        kept = [name for role, name in left if role != "sample_weight"]
        if kept:
            raise ReplayRefused(f"A's batch has {', '.join(kept)}, which this model is not fed")
        return type(fed)(found) if isinstance(fed, tuple) else found

    @staticmethod
    def _fed(key: Key, tensor: Any, value: Any, left: Batch, rows: int) -> np.ndarray:
        dtype = tensor.dtype.as_numpy_dtype
        recorded = left.pop(key, None)
        if recorded is None and key[0] == "sample_weight":
            return np.ones((rows, *np.shape(value)[1:]), dtype)
        if recorded is None:
            raise ReplayRefused(f"A's batch has no {key[1]}, which this model is fed")
        shape = tensor.shape.as_list() if tensor.shape.ndims is not None else None
        tail = None if shape is None else shape[1:]
        if key[0] == "label":
            # A target's placeholder may leave its shape open where the pipeline's does not.
            tail = list(np.shape(value))[1:]
        return fitted(recorded, key[1], tail=tail, dtype=dtype)

    def out_of_data(self) -> BaseException:
        """Nothing a graph's fit knows: it heeds `stop_training` after every batch."""
        return ReplayRefused("the replayed run has ended, and this training goes on")
