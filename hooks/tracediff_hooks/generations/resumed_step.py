"""Lets a later fit of one recording go on with the step that an earlier one has compiled.

Keras compiles a step once, and it goes on as it was traced: a layer that is frozen afterwards is
trained until the model is compiled anew. A recording that had the step traced again for each fit
would freeze it at once.
"""

from typing import Any, Callable, List, NamedTuple, Optional, Set, Tuple

from tracediff_hooks.session import Session


class ResumableStep(NamedTuple):
    """A step that was compiled to be recorded.

    Attributes:
        model: the model that it trains.
        compiled: what `Model.compile` makes anew.
        function: the framework's function for one step, whose logs have the taps.
        taps: what noted its tensors.
        used: identities of the optimizers that it uses.
        trained: the weights that it trains.
    """

    model: Any
    compiled: Tuple[Any, ...]
    function: Callable[[Any], Any]
    taps: Any
    used: Set[int]
    trained: List[Any]


def compiled_as(model: Any) -> Tuple[Any, ...]:
    """What `compile` of Keras 3 makes anew (src/trainers/trainer.py, 3.15)."""
    return model.optimizer, getattr(model, "_compile_config", None)


def resumable(session: Session, model: Any) -> Optional[ResumableStep]:
    """The step of the recording's last fit, if the model would go on with it."""
    step: Optional[ResumableStep] = session.last_step
    if step is None or step.model is not model or model.run_eagerly:
        return None
    same = zip(step.compiled, compiled_as(model))
    return step if all(before is after for before, after in same) else None
