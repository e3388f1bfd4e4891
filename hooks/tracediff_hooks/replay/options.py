"""What a user asks of a replay."""

import os
from typing import Any, Dict, Optional, Union

from tracediff_hooks.replay.mapping import NameMapping, read_mapping
from tracediff_hooks.replay.reader import RecordedTrace

STATES = ("start", "every-step")


class Replay:
    """Trains a model on what another run recorded, to find out what makes the two differ.

    ```python
    from tracediff_hooks import Replay, TraceCallback
    model.fit(x, y, callbacks=[TraceCallback("b.zarr", replay=Replay("a.zarr"))])
    ```

    The script stays as it is: its model gets A's initial state, its steps get A's batches. Run k of
    the script replays run k of the trace. docs/replay.md says what is controlled and what is not.

    Args:
        source: the trace to replay, recorded with level ``full``; ``a.zarr/run-1`` begins with that
            run.
        initial_weights: begin each run with the state that A's began with: weights, moving
            statistics, optimizer slots and step counter.
        batches: feed A's batches, in A's order and sizes, whatever the script's own pipeline gives.
        state: ``"every-step"`` sets the whole state to A's before each step (lockstep), so that
            each step's difference is that step's own; ``"start"`` leaves training to itself.
        mapping: a file written by ``tracediff map A B -o FILE`` that says which tensor is which;
            without it they are paired by canonical name and shape.

    Raises:
        ReplayRefused: there is no such trace or mapping.
        ValueError: another ``state``, or nothing to control.
    """

    def __init__(
        self,
        source: Union[str, "os.PathLike[str]"],
        *,
        initial_weights: bool = True,
        batches: bool = True,
        state: str = "start",
        mapping: Optional[Union[str, "os.PathLike[str]"]] = None,
    ) -> None:
        if state not in STATES:
            raise ValueError("state must be one of {}, not {!r}".format(", ".join(STATES), state))
        if not (initial_weights or batches or state == "every-step"):
            raise ValueError(
                "a replay without initial_weights, batches and state='every-step' controls nothing"
            )
        self.source = os.fspath(source)
        self.initial_weights = initial_weights or state == "every-step"
        self.batches = batches
        self.lockstep = state == "every-step"
        self.trace = RecordedTrace(self.source)
        self.mapping: Optional[NameMapping] = (
            None if mapping is None else read_mapping(os.fspath(mapping))
        )
        self.mapping_path = None if mapping is None else os.fspath(mapping)

    def about(self) -> Dict[str, Any]:
        """What was asked for, as the trace tells it."""
        return {
            "source": self.source,
            "initial_weights": self.initial_weights,
            "batches": self.batches,
            "state": "every-step" if self.lockstep else "start",
            "mapping": self.mapping_path,
        }
