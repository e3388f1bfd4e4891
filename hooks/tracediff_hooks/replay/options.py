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
            statistics and, unless ``slots`` is False, the optimizer's slots and step counter.
        batches: feed A's batches, in A's order and sizes, whatever the script's own pipeline gives.
        state: ``"every-step"`` sets the whole state to A's before each step (lockstep), so that
            each step's difference is that step's own; ``"start"`` leaves training to itself.
        slots: False leaves the optimizer's slots and its step counter as this script makes them,
            so that another initial accumulator stays a difference.
        mapping: a file written by ``tracediff map A B -o FILE`` that says which tensor is which;
            without it they are paired by canonical name and shape.
        own_batches: where to record, as a trace of batches only, what the script's own pipeline
            gives while A's batches are fed: `tracediff compare A OWN` tells whether both are one.

    Raises:
        ReplayRefused: there is no such trace or mapping.
        ValueError: another ``state``, nothing to control, or options that exclude each other.
    """

    def __init__(
        self,
        source: Union[str, "os.PathLike[str]"],
        *,
        initial_weights: bool = True,
        batches: bool = True,
        state: str = "start",
        slots: bool = True,
        mapping: Optional[Union[str, "os.PathLike[str]"]] = None,
        own_batches: Optional[Union[str, "os.PathLike[str]"]] = None,
    ) -> None:
        if state not in STATES:
            raise ValueError("state must be one of {}, not {!r}".format(", ".join(STATES), state))
        if not (initial_weights or batches or state == "every-step"):
            raise ValueError(
                "a replay without initial_weights, batches and state='every-step' controls nothing"
            )
        if state == "every-step" and not slots:
            raise ValueError("state='every-step' sets the whole state, slots included")
        if own_batches is not None and not batches:
            raise ValueError(
                "own_batches are recorded beside batches that are replayed; without batches=True "
                "the trace itself holds the script's own"
            )
        self.source = os.fspath(source)
        self.initial_weights = initial_weights or state == "every-step"
        self.slots = slots
        self.batches = batches
        self.own_batches = None if own_batches is None else os.fspath(own_batches)
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
            "slots": self.initial_weights and self.slots,
            "batches": self.batches,
            "state": "every-step" if self.lockstep else "start",
            "mapping": self.mapping_path,
            "own_batches": None if self.own_batches is None else os.path.abspath(self.own_batches),
        }
