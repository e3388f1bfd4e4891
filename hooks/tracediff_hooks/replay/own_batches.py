"""Records what a script's own pipeline would have fed, beside a replay that feeds A's batches.

It goes to a trace of its own, which holds batches and nothing else: compared with A's trace it
tells whether the pipelines agree.
"""

from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks.describe import StackDescription, describe_stack
from tracediff_hooks.recorder import Recorder
from tracediff_hooks.tensors import Key, TensorSpec, recordable


class OwnBatches:
    """Writes the batches of one script, step by step; an error ends it and never the training.

    Args:
        recorder: writes their trace.
        beside: the path of the trace that the replay itself is recorded to.
    """

    def __init__(self, recorder: Recorder, beside: str) -> None:
        self._recorder = recorder
        self._beside = beside
        self._fit: Optional[Mapping[str, Any]] = None
        self._broken = False

    def begin_run(
        self, stack: StackDescription, fit: Mapping[str, Any], expected_steps: Optional[int]
    ) -> None:
        """A run of the script begins, and with it one of this trace."""
        about = {
            **describe_stack(stack),
            "capture": {"own_batches_of": self._beside},
        }
        self._recorder.begin_run(about, [], expected_steps=expected_steps)
        self.begin_fit(fit)

    def begin_fit(self, fit: Mapping[str, Any]) -> None:
        """A fit begins: the batches that follow belong to it."""
        self._recorder.resume()
        self._recorder.begin_fit({k: v for k, v in fit.items() if k != "metrics"})

    def step(self, read: Callable[[], Dict[Key, np.ndarray]], epoch: int, batch: int) -> None:
        """Records one batch.

        Args:
            read: gives its tensors by role and name.
            epoch: the epoch of the fit, from 0.
            batch: where in that epoch it stands, from 0.
        """
        if self._broken or self._recorder.failed:
            return
        try:
            observed = {key: value for key, value in read().items() if recordable(value)}
            for (role, name), value in observed.items():
                if not self._recorder.declared(role, name):
                    self._recorder.declare(TensorSpec(name, role, value.dtype.name, ragged=True))
            self._recorder.record_step(
                before={}, observed=observed, after={}, epoch=epoch, batch=batch
            )
        except Exception as error:
            self._broken = True
            self._recorder.event("failure", f"{type(error).__name__}: {error}")
            tell(
                f"recording the script's own batches to {self._recorder.path} stopped "
                f"({type(error).__name__}: {error}); training goes on"
            )
            self._recorder.pause("failed")

    def end_fit(self, status: str) -> None:
        """Brings everything to disk."""
        if not self._broken:
            self._recorder.pause(status)
