"""Remembers the gradient tensors of graph-mode optimizers at the moment they are built.

Keras 2.3 and tf.keras of TensorFlow 1.15, and later ones whose user has switched the behaviour of
TensorFlow 2 off, build gradients once, while `fit` builds its train
function and before any callback runs, and keep no reference to them. Wrapping
`Optimizer.get_gradients` adds no operation to the graph, which building them a second time would:
that would shift the random seeds of every model made later.
"""

import contextlib
import functools
import sys
import weakref
from typing import Any, List, Optional, Sequence

OPTIMIZER_MODULES = (
    "keras.optimizers",
    "tensorflow.python.keras.optimizer_v2.optimizer_v2",
    "tensorflow_core.python.keras.optimizer_v2.optimizer_v2",
    "keras.src.optimizers.legacy.optimizer_v2",
    "tf_keras.src.optimizers.legacy.optimizer_v2",
)

WRAPPER_MODULES = (
    "tensorflow.python.keras.optimizers",
    "tensorflow_core.python.keras.optimizers",
)


MODELS = 8
"""For how many models that share an optimizer gradients are remembered."""


class GradientTensors:
    """What one call of `get_gradients` built, each a list parallel to ``variables``.

    Attributes:
        variables: what the gradients are with respect to.
        raw: the gradients before clipping.
        applied: those after it.
        slots: what the optimizer kept for them, where it has been used for another model since, of
            which it tells from then on; else None.
    """

    def __init__(self, variables: List[Any], raw: List[Any], applied: List[Any]) -> None:
        self.variables = variables
        self.raw = raw
        self.applied = applied
        self.slots: Optional[List[Any]] = None


_remembered: "weakref.WeakKeyDictionary[Any, List[GradientTensors]]" = weakref.WeakKeyDictionary()


def gradients_of(optimizer: Any, trained: Sequence[Any]) -> Optional[GradientTensors]:
    """The gradients that an optimizer has built last for a model.

    Args:
        optimizer: of a graph stack; models may share it.
        trained: the weights of the model that it trains.

    Returns:
        None if they were built before the registry watched.
    """
    try:
        built = _remembered.get(optimizer, [])
    except TypeError:
        return None
    wanted = {id(variable) for variable in trained}
    for one in reversed(built):
        # A weight that the loss does not depend on may have no gradient.
        if {id(variable) for variable in one.variables} <= wanted:
            return one
    return None


def _remember(optimizer: Any, built: GradientTensors) -> None:
    with contextlib.suppress(TypeError):
        known = _remembered.setdefault(optimizer, [])
        if known:
            # An optimizer of Keras 2.3 is about to make other slots and to forget these.
            with contextlib.suppress(Exception):
                known[-1].slots = known[-1].slots or list(optimizer.weights)
        del known[: 1 - MODELS]
        known.append(built)


def watch_loaded() -> None:
    """Starts to watch the optimizers of every framework that is loaded by now."""
    for name in OPTIMIZER_MODULES:
        module = sys.modules.get(name)
        if module is not None:
            watch(module)
    for name in WRAPPER_MODULES:
        module = sys.modules.get(name)
        if module is not None:
            watch_wrapper(module)


def watch_wrapper(module: Any) -> None:
    """Wraps `get_updates` of what tf.keras wraps optimizers of `tf.compat.v1.train` in, once."""
    wrapper: Any = getattr(module, "TFOptimizer", None)
    original = getattr(wrapper, "get_updates", None)
    if original is None or hasattr(original, "watched_by_tracediff"):
        return

    @functools.wraps(original)
    def get_updates(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = self.optimizer
        computed = getattr(inner, "compute_gradients", None)
        if computed is None:
            return original(self, *args, **kwargs)

        def compute_gradients(*args: Any, **kwargs: Any) -> Any:
            pairs = computed(*args, **kwargs)
            # None stands for a variable that the loss does not depend on.
            used = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
            gradients = [gradient for gradient, _ in used]
            variables = [variable for _, variable in used]
            _remember(self, GradientTensors(variables, gradients, gradients))
            return pairs

        inner.compute_gradients = compute_gradients
        try:
            return original(self, *args, **kwargs)
        finally:
            del inner.compute_gradients

    get_updates.watched_by_tracediff = True  # type: ignore[attr-defined]
    wrapper.get_updates = get_updates


def watch(module: Any) -> None:
    """Wraps `get_gradients` of the module's optimizer base class, once.

    Keras 2.3 has its wrapper of optimizers of `tf.compat.v1.train` in the same module.
    """
    watch_wrapper(module)
    base: Any = getattr(module, "OptimizerV2", None) or getattr(module, "Optimizer", None)
    original = getattr(base, "get_gradients", None)
    if original is None or hasattr(original, "watched_by_tracediff"):
        return

    @functools.wraps(original)
    def get_gradients(self: Any, loss: Any, params: Any) -> Any:
        raw: List[Any] = []
        backend = _gradient_module(module)
        if backend is None:
            return original(self, loss, params)
        unclipped = backend.gradients

        def gradients(*args: Any, **kwargs: Any) -> Any:
            built = unclipped(*args, **kwargs)
            raw[:] = built
            return built

        backend.gradients = gradients
        try:
            applied = original(self, loss, params)
        finally:
            backend.gradients = unclipped
        _remember(self, GradientTensors(list(params), list(raw), list(applied)))
        return applied

    get_gradients.watched_by_tracediff = True  # type: ignore[attr-defined]
    base.get_gradients = get_gradients


def _gradient_module(module: Any) -> Any:
    """The module whose function `gradients` the optimizer base class calls."""
    later = getattr(getattr(module, "tf", None), "compat", None)  # Keras 2.6 to 2.15, tf_keras
    candidates = [getattr(module, name, None) for name in ("K", "gradients")]
    for candidate in [*candidates, getattr(later, "v1", None)]:
        if callable(getattr(candidate, "gradients", None)):
            return candidate
    return None
