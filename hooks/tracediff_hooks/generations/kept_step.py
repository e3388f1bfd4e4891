"""Keeps a compiled step that draws random numbers from one fit to the next.

Operations of TensorFlow that draw have streams of their own, which begin when their function is
traced and go on with each call of it. A model keeps its train function from fit to fit, and so the
streams go on. Were the step traced again whenever recording begins or ends, dropout would draw
other numbers than it does without the recorder.
"""

from typing import Any, Callable, NamedTuple, Optional, Set

from tracediff_hooks.generations.step_taps import TAPS, replaced
from tracediff_hooks.session import Session

BEGUN_ANEW = (
    "this model draws random numbers and was trained before it was recorded: the recorded step is "
    "compiled anew, so that other numbers are drawn than without the recorder; they are the same "
    "where recording begins with the first fit after compile"
)
_KEPT = "tracediff_kept"


class KeptStep(NamedTuple):
    """A compiled step, and what is known of it.

    Attributes:
        function: the framework's function for one step, whose logs have the taps.
        taps: what noted its tensors.
        used: identities of the optimizers that it uses.
        session: what it was recorded to.
        steps: how many steps one call of the train function is to run at the moment.
        model: the model that it trains.
        tapped: its `train_step`, with the taps.
    """

    function: Callable[[Any], Any]
    taps: Any
    used: Set[int]
    session: Session
    steps: Callable[[], int]
    model: Any
    tapped: Any

    def suits(self, session: Session) -> bool:
        """Whether another recording gets all that it wants out of the step."""
        own = self.session
        plain = not (own.choice or session.choice or own.replay or session.replay)
        return own is session or (plain and own.asked_off == session.asked_off)

    def unrecorded(self) -> Callable[[Any], Any]:
        """A train function that runs the step without recording it."""

        def train_function(iterator: Any) -> Any:
            logs = None
            for _ in range(self.steps()):
                # Other shapes of batches have it traced again, and may be recorded later.
                tapped = replaced(self.model, "train_step", self.tapped)
                with self.taps.passing(self.session.guard), tapped:
                    logs = self.function(iterator)
            return {k: v for k, v in logs.items() if k != TAPS} if isinstance(logs, dict) else logs

        setattr(train_function, _KEPT, self)
        return train_function


def kept_in(train_function: Any) -> Optional[KeptStep]:
    """The step that an earlier recording has left to the model, if that is what it trains with."""
    return getattr(train_function, _KEPT, None)
