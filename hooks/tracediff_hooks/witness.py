"""Notes what a training does to its weights, without the recorder: what a self-test compares.

It is a callback like any other and reads the weights by the framework's own `get_weights`.
"""

import contextlib
from typing import Any, Dict, Iterator, List, Optional

import numpy as np

from tracediff_hooks.digest import digest_of


class Witness:
    """Digests of all weights after each batch, and the weights of each model at the end.

    It derives from no framework's class, as `TraceCallback`.
    """

    async_safe = False
    """Keras 3 runs callbacks in the background where all are safe there: the next step would write
    to the weights while they are read."""
    _supports_tf_logs = True
    _chief_worker_only = False

    def __init__(self) -> None:
        self.params: Any = {}
        self.model: Any = None
        self.validation_data: Any = None
        self.busy = False
        self.steps: List[List[str]] = []
        self.final: List[List[np.ndarray]] = []
        self._models: List[Any] = []

    def set_params(self, params: Any) -> None:
        """Takes what the framework tells of the fit; nothing of it is needed."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Takes the model that is about to be trained."""
        self.model = model
        if not any(model is known for known in self._models):
            self._models.append(model)
            self.final.append([])

    def on_train_batch_end(
        self,
        batch: Any,  # noqa: ARG002 - the frameworks pass it
        logs: Optional[Dict[str, Any]] = None,  # noqa: ARG002 - the same
    ) -> None:
        """Notes the weights after a batch."""
        # Keras 3 on JAX holds the state elsewhere until it is asked for.
        getattr(self.model, "jax_state_sync", lambda: None)()
        weights = [np.asarray(weight) for weight in self.model.get_weights()]
        self.steps.append(["{:016x}{:016x}".format(*digest_of(weight)) for weight in weights])

    def on_train_end(
        self,
        logs: Optional[Dict[str, Any]] = None,  # noqa: ARG002 - the frameworks pass it
    ) -> None:
        """Keeps the weights, and what the optimizer holds."""
        values = [np.array(weight) for weight in self.model.get_weights()]
        optimizer = self.model.optimizer
        with contextlib.suppress(Exception):  # not every optimizer gives its variables away
            variables = getattr(optimizer, "variables", None)
            get = getattr(optimizer, "get_weights", None)
            found = get() if get is not None else variables() if callable(variables) else variables
            values += [np.array(value) for value in found or ()]
        place = next(i for i, known in enumerate(self._models) if known is self.model)
        self.final[place] = values

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Marks the time of a `fit` that was given this callback."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    @property
    def used(self) -> bool:
        """Whether a training was given this callback."""
        return bool(self._models)

    def close(self) -> None:
        """Lets go of the models."""
        self.model, self._models = None, [None] * len(self._models)

    def save(self, path: str) -> None:
        """Writes what was seen, as npz."""
        widest = max([len(step) for step in self.steps] or [0])
        steps = [step + [""] * (widest - len(step)) for step in self.steps]
        arrays: Dict[str, Any] = {"steps": np.array(steps, dtype="U32").reshape(len(steps), widest)}
        for model, values in enumerate(self.final):
            for place, value in enumerate(values):
                if value.dtype.kind in "biufc":
                    arrays[f"final/{model}/{place}"] = value
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    def _implements_train_batch_hooks(self) -> bool:
        return True

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False

    def _ignore(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is done then."""

    _ignore._is_default = True  # type: ignore[attr-defined]
    on_train_begin = on_epoch_begin = on_epoch_end = _ignore
    on_batch_begin = on_train_batch_begin = on_batch_end = _ignore
    on_test_begin = on_test_end = on_test_batch_begin = on_test_batch_end = _ignore
    on_predict_begin = on_predict_end = on_predict_batch_begin = on_predict_batch_end = _ignore
