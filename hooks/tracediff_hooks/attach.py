"""Records scripts that know nothing of it: wraps the `Model.fit` of whatever they import.

The classes are wrapped right after their module has run, before the script can use them; that also
lets the gradients of graph-mode optimizers be watched from the beginning.
"""

import functools
import inspect
import os
from types import ModuleType
from typing import Any

from tracediff_hooks.callback import TraceCallback
from tracediff_hooks.children import callback_of_this_process
from tracediff_hooks.generations.gradient_registry import (
    OPTIMIZER_MODULES,
    WRAPPER_MODULES,
    watch,
    watch_wrapper,
)
from tracediff_hooks.generations.graph_outputs import NETWORK_MODULE, watch_networks
from tracediff_hooks.on_import import when_loaded
from tracediff_hooks.random_layers import GRAPH_MODULES, watch_layers

FIT_MODULES = (
    "keras.engine.training",
    "tensorflow_core.python.keras.engine.training",
    "tensorflow.python.keras.engine.training",
    "tensorflow.python.keras.engine.training_v1",
    "keras.src.engine.training",
    "keras.src.engine.training_v1",
    "tf_keras.src.engine.training",
    "tf_keras.src.engine.training_v1",
    "keras.src.models.model",
)


def record_every_fit(callback: Any) -> None:
    """From now on every `Model.fit` of this process is given a `TraceCallback` or a `Witness`.

    Models that are trained one after the other become numbered runs of one trace.
    """
    watch_optimizers()
    if getattr(callback, "random_layers_off", False):
        when_loaded(dict.fromkeys(GRAPH_MODULES, watch_layers))
    wrap = functools.partial(_wrap_fit, callback=callback)
    when_loaded(dict.fromkeys(FIT_MODULES, wrap))


def record_this_process() -> None:
    """Records every `Model.fit` of this process, which a recorded one has started."""
    callback = callback_of_this_process()
    if callback is not None:
        record_every_fit(callback)


def watch_optimizers() -> None:
    """Watches the optimizers of every framework that is or will be loaded.

    Graph-mode gradients are built once, by a model's first training: whoever watches from the
    import of this package on has them also for a callback that is made later.
    """
    when_loaded(
        {
            **dict.fromkeys(OPTIMIZER_MODULES, watch),
            **dict.fromkeys(WRAPPER_MODULES, watch_wrapper),
            NETWORK_MODULE: watch_networks,
        }
    )


def _wrap_fit(module: ModuleType, *, callback: Any) -> None:
    model = module.__dict__.get("Model")
    # `keras` 2.4 has a module of this name that re-exports tf.keras: that class is wrapped where it
    # is defined.
    if model is None or model.__module__ != module.__name__:
        return
    for name in ("fit", "fit_generator"):
        method = model.__dict__.get(name) or _inherited(model, name)
        if method is not None and callback not in getattr(method, "recorded_by_tracediff", ()):
            setattr(model, name, _recorded(method, callback))


def _inherited(model: Any, name: str) -> Any:
    for base in model.__mro__[1:]:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def _of_this_process(callback: Any) -> Any:
    """The callback, or in a forked process one of its own; None where that cannot record."""
    if getattr(callback, "process", os.getpid()) == os.getpid():
        return callback
    return callback_of_this_process()


def _recorded(method: Any, callback: Any) -> Any:
    signature = inspect.signature(method)

    given_callback = callback

    @functools.wraps(method)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        callback = _of_this_process(given_callback)
        if callback is None or callback.busy:
            # `fit` calls `fit_generator`, or a callback trains.
            return method(self, *args, **kwargs)
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            return method(self, *args, **kwargs)  # the framework says what is wrong
        callbacks: Any = bound.arguments.get("callbacks")
        given = (
            list(getattr(callbacks, "callbacks", callbacks) or [])
            if not hasattr(callbacks, "set_model") or hasattr(callbacks, "callbacks")
            else [callbacks]
        )
        if any(isinstance(item, TraceCallback) for item in given if item is not callback) and (
            isinstance(callback, TraceCallback)
        ):
            return method(self, *args, **kwargs)  # the script records itself
        if hasattr(callbacks, "callbacks"):
            callbacks.append(callback)
            callback.set_model(self)
        else:
            bound.arguments["callbacks"] = [*given, callback]
        with callback.fitting():
            return method(*bound.args, **bound.kwargs)

    wrapping = (*getattr(method, "recorded_by_tracediff", ()), given_callback)
    fit.recorded_by_tracediff = wrapping  # type: ignore[attr-defined]
    return fit
