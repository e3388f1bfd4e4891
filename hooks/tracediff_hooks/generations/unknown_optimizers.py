"""Watches what a script takes for an optimizer and the framework does not."""

import contextlib
from typing import Any, Callable, Set

from tracediff_hooks.generations.step_taps import replaced

UNKNOWN_OPTIMIZER = (
    "the model is updated by {}, which is no optimizer of Keras's: its slots and its learning "
    "rate are not recorded"
)


def probe_unknown(
    stack: contextlib.ExitStack,
    optimizer: Any,
    *,
    taps: Any,
    used: Set[int],
    event: Callable[[str, str], None],
) -> None:
    """Notes what is applied by the one method that all of them have, `apply_gradients`.

    Args:
        stack: ends the watching when it is closed.
        optimizer: of whatever class.
        taps: what notes gradients.
        used: gets the identity of the optimizer when it is used.
        event: takes the kind and the text of an event.
    """
    apply = optimizer.apply_gradients

    def probed_apply(pairs: Any, *args: Any, **kwargs: Any) -> Any:
        pairs = list(pairs)
        used.add(id(optimizer))
        taps.saw("gradient", pairs, unless_seen=True)
        taps.saw("applied_gradient", pairs)
        event("not-recorded", UNKNOWN_OPTIMIZER.format(type(optimizer).__name__))
        return apply(pairs, *args, **kwargs)

    stack.enter_context(replaced(optimizer, "apply_gradients", probed_apply))
