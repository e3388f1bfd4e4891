"""Records a block of a script: `train_on_batch`, training loops written by hand, several fits."""

import os
from types import TracebackType
from typing import Any, Callable, Optional, Type, Union

from tracediff_hooks._tell import tell
from tracediff_hooks.batches import input_names
from tracediff_hooks.callback import TraceCallback
from tracediff_hooks.generations.hand_written import arrays_of, loss_of


def record(model: Any, store: Union[str, "os.PathLike[str]"], **options: Any) -> "Recording":
    """Records every step by which a model is trained in a `with` block.

    ```python
    with tracediff_hooks.record(model, "a.zarr"):
        for x, y in batches:
            model.train_on_batch(x, y)
    ```

    Recorded are `train_on_batch`, `fit`, and, in TensorFlow 2, every eager update of the model's
    weights by an optimizer's `apply_gradients`; see `Recording` for what such a loop may tell
    besides. In a hand-written loop the raw gradient is what `apply_gradients` is given.

    Args:
        model: the model that is trained.
        store: where to write the trace; a folder that must not exist yet.
        options: as for `TraceCallback`.

    Raises:
        TraceExistsError: something stands at ``store``.
        ValueError: an option's value that does not exist, or a URL that nothing installed can
            write to.
    """
    return Recording(model, TraceCallback(store, **options))


class Recording:
    """A block that is recorded. Made by `record`.

    A loop that runs eagerly is recorded by itself, its input included; labels, sample weights and
    loss, which only the loop knows, are recorded where `batch` is told them. A step that the script
    has compiled with `tf.function` is recorded where it is called through `step`.
    """

    def __init__(self, model: Any, callback: TraceCallback) -> None:
        self._model = model
        self._callback = callback
        self._hook: Any = None

    def __enter__(self) -> "Recording":  # noqa: PYI034 - Python 3.7 has no `Self`
        self._hook = self._callback.set_whole(self._model)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        where: Optional[TracebackType],
    ) -> None:
        recorded = self._callback.steps
        self._callback.stop("complete" if kind is None else "interrupted")
        self._callback.close()
        self._hook = None
        if not recorded and kind is None:
            tell(
                f"nothing was recorded to {self._callback.path}: no step of the model was seen in "
                "the block"
            )

    @property
    def _loop(self) -> Any:
        return None if self._hook is None else self._hook.loop

    def step(self, train_step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs one step that the script has written, and records it.

        ```python
        @tf.function
        def train_step(x, y): ...

        with tracediff_hooks.record(model, "a.zarr") as recording:
            loss = recording.step(train_step, x, y)
        ```

        Args:
            train_step: a `tf.function`, or a Python function that runs eagerly. Its batch goes by
                position, as input, labels and sample weights; the loss is what it returns, the
                first of several values, or the entry ``loss``.
            args: what it is called with.
            kwargs: the same.

        Returns:
            What the step returned.
        """
        if self._loop is None:
            return train_step(*args, **kwargs)
        return self._loop.step(train_step, args, kwargs)

    def batch(
        self, x: Any = None, y: Any = None, *, sample_weight: Any = None, loss: Any = None
    ) -> None:
        """Tells what the next update of an eager loop was computed from.

        Args:
            x: the input, or a structure of inputs; without it, what the model is called with.
            y: the labels.
            sample_weight: a weight for each sample.
            loss: the loss, a scalar.
        """
        if self._loop is not None:
            self._hook.session.guard(self._tell, x, y, sample_weight, loss)

    def _tell(self, x: Any, y: Any, sample_weight: Any, loss: Any) -> None:
        named = input_names("input", x) + input_names("label", y)
        told = arrays_of(named + input_names("sample_weight", sample_weight))
        value = loss_of(loss)
        if value is not None:
            told["loss", "loss"] = value
        self._loop.tell(told)
