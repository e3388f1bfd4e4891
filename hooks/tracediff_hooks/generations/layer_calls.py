"""Watches which layers are called, with what, and what they put out."""

import contextlib
import functools
import threading
from typing import Any, Callable, Iterator, Optional

Saw = Callable[[Any, Any, Any], None]
"""Is told a layer, the positional arguments of its call, and what it put out."""


@contextlib.contextmanager
def layer_calls(
    base: Any, saw: Saw, begins: Optional[Callable[[Any], None]] = None
) -> Iterator[None]:
    """Tells of every call of a layer in this thread, for the duration of a block.

    Of replicas, which run a step in a thread each, it tells of the calls in all of these.

    `__call__` is looked up on the class, so that it is replaced there: what Keras and autograph
    decide by the type of a layer's own `call` stays as it is.

    Args:
        base: the framework's class of all layers.
        saw: is told of each call, after it.
        begins: is told the layer ahead of each call.
    """
    original = base.__call__
    thread, replicated = threading.get_ident(), _in_replica()

    # Under the framework's own module name autograph leaves it alone.
    @functools.wraps(original)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        watched = threading.get_ident() == thread or (replicated and _in_replica())
        if watched and begins is not None:
            begins(layer)
        outputs = original(layer, *args, **kwargs)
        if watched:
            saw(layer, args or tuple(kwargs.values()), outputs)
        return outputs

    base.__call__ = call
    try:
        yield
    finally:
        base.__call__ = original


def _in_replica() -> bool:
    """Whether this is a thread in which a strategy runs a replica's step."""
    return hasattr(threading.current_thread(), "replica_id")
