"""Replays a compiled `train_step`: TensorFlow 2 and Keras 3.

The compiled step takes an iterator, so it is given one over a batch of A.
"""

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from tracediff_hooks.composite import is_composite, plain_arrays
from tracediff_hooks.replay.control import Batch, Player, Values
from tracediff_hooks.replay.leaves import fitted, leaves, rebuilt
from tracediff_hooks.replay.refused import ReplayRefused
from tracediff_hooks.state import StateTensor
from tracediff_hooks.tensors import Key


class StepPlayer(Player):
    """Sets the variables of a model of TensorFlow 2, and feeds its compiled step."""

    def state(self, inputs: Sequence[np.ndarray]) -> List[StateTensor]:
        """All of the state; makes the variables that the first step would make."""
        model, optimizer = self.model, self.model.optimizer
        # A subclassed model whose `build` was called says so before its layers have weights.
        if not all(getattr(layer, "built", True) for layer in model._flatten_layers()):
            if not inputs:
                raise ReplayRefused(
                    "this model has no weights before its first step, and A recorded no input that "
                    "would build it",
                    hint="build the model before it is trained",
                )
            x = [self._tensor(one) for one in inputs]
            model(x[0] if len(x) == 1 else x, training=False)
        owner = getattr(optimizer, "inner_optimizer", None) or getattr(
            optimizer, "_optimizer", optimizer
        )
        variables = list(model.trainable_variables)
        create = getattr(self._hook, "_create_slots", None)
        if create is not None:
            create(owner, [(variable, variable) for variable in variables])
        elif not optimizer.built:
            optimizer.build(variables)
        self._hook._find_state()
        return self._hook._state  # type: ignore[no-any-return]

    def assign(self, values: Values) -> None:
        """Sets variables, between steps."""
        for tensor, value in values:
            self._hook._native(tensor.variable).assign(value)

    def draw(self, fed: Any) -> Any:
        """The next batch of the script's own pipeline."""
        return next(fed)

    def arrays(self, own: Any) -> Dict[Key, np.ndarray]:
        """The tensors of a batch of the script's own pipeline, by role and name."""
        found: Dict[Key, np.ndarray] = {}
        for key, value in self._hook._batch(own).items():
            found.update(plain_arrays(key, value, self._on_host))
        return found

    def feed(self, fed: Any, own: Any, batch: Batch, *, weighted: bool) -> Any:  # noqa: ARG002
        """An iterator over one batch of A, nested as the script's own."""
        data = self._nested(own, batch, weighted=weighted)
        return self._iterator(data)

    def _iterator(self, data: Any) -> Any:
        # Cut into rows and put together again, its number of rows is not part of the type: the
        # compiled step is traced once for batches of all sizes.
        rows = len(leaves(data, None)[0])
        dataset = self._hook._tensorflow.data.Dataset.from_tensor_slices(data)
        return iter(dataset.batch(rows))

    def _nested(self, own: Any, batch: Batch, *, weighted: bool) -> Any:
        x, y, weight = self._hook.parts_of(own)
        inputs, outputs = self._hook.input_order(), self._hook.output_order()
        found: Tuple[Any, ...] = (self._part("input", x, inputs, batch),)
        if y is None:
            return found if isinstance(own, tuple) else found[0]
        found += (self._part("label", y, outputs, batch),)
        if weighted:
            like = weight if weight is not None else y
            found += (self._weights(like, outputs, batch, rows=len(leaves(found[0], inputs)[0])),)
        return found

    def _part(self, role: str, structure: Any, order: Any, batch: Batch) -> Any:
        values = []
        own = leaves(structure, order)
        for position, tensor in enumerate(own):
            name = f"{role}/{position}"
            if is_composite(tensor):
                raise ReplayRefused(
                    f"this model is fed a ragged or sparse {name}; only plain tensors are replayed",
                    hint="replay without batches, or feed this model dense arrays",
                )
            if (role, name) not in batch:
                raise ReplayRefused(f"A's batch has no {name}, which this model is fed")
            tail = list(tensor.shape)[1:]
            dtype = self._dtype(tensor)
            values.append(fitted(batch[role, name], name, tail=tail, dtype=dtype))
        if (role, f"{role}/{len(own)}") in batch:
            raise ReplayRefused(
                f"A's batch has a {role}/{len(own)}, and this model is fed {len(own)} of that kind"
            )
        return rebuilt(structure, order, values)

    def _weights(self, structure: Any, order: Any, batch: Batch, *, rows: int) -> Any:
        values = []
        for position, _ in enumerate(leaves(structure, order)):
            name = f"sample_weight/{position}"
            # A recorder leaves out weights that are all one.
            value = batch.get(("sample_weight", name))
            values.append(np.ones(rows, np.float32) if value is None else value)
        return rebuilt(structure, order, values)

    def out_of_data(self) -> BaseException:
        """What the framework takes for the end of its data."""
        errors = self._hook._tensorflow.errors
        return errors.OutOfRangeError(None, None, "the replayed run has ended")  # type: ignore[no-any-return]

    def _tensor(self, value: np.ndarray) -> Any:
        return self._hook._tensorflow.convert_to_tensor(value)

    def _on_host(self, value: Any) -> np.ndarray:
        return np.array(value)

    def _dtype(self, tensor: Any) -> Any:
        dtype = tensor.dtype
        return getattr(dtype, "as_numpy_dtype", dtype)
