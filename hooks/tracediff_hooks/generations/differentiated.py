"""Watches what a step of the script's own differentiates: that is the loss it minimises."""

import contextlib
import functools
import threading
from typing import Any, Callable, Iterator

NO_LOSS = (
    "the loss of a custom train_step that does not compute it by the model's own methods is not "
    "recorded where it cannot be told: it is differentiated more than once, scaled, no scalar, on "
    "several replicas, or by other means than a GradientTape"
)


@contextlib.contextmanager
def tapes_watched(tensorflow: Any, saw: Callable[[Any, Any], None]) -> Iterator[None]:
    """Tells of each target that a tape differentiates in this thread, until the block ends.

    Args:
        tensorflow: the module.
        saw: is told the target, and what it is differentiated with respect to.
    """
    tape = tensorflow.GradientTape
    original, thread = tape.gradient, threading.get_ident()

    @functools.wraps(original)
    def gradient(self: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            saw(target, sources)
        return original(self, target, sources, *args, **kwargs)

    tape.gradient = gradient
    try:
        yield
    finally:
        tape.gradient = original


def is_scalar(target: Any) -> bool:
    """Whether a target is one number."""
    shape = getattr(target, "shape", None)
    return getattr(shape, "rank", None) == 0
