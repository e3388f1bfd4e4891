"""Records every step of a Keras training into a zarr trace, without disturbing it."""

from tracediff_hooks._version import __version__
from tracediff_hooks.attach import watch_optimizers
from tracediff_hooks.callback import TraceCallback
from tracediff_hooks.recording import Recording, record
from tracediff_hooks.replay import Replay, ReplayRefused
from tracediff_hooks.target import TraceExistsError

watch_optimizers()

__all__ = [
    "Recording",
    "Replay",
    "ReplayRefused",
    "TraceCallback",
    "TraceExistsError",
    "__version__",
    "record",
]
