"""What a model holds itself in place of its class's methods, and who calls these at a moment."""

import sys
from typing import Any, Dict, Iterator, Sequence

from tracediff_hooks.generations.step_taps import set_plainly, take_off

NAMES = ("train_step", "make_train_function")


class OwnAttributes:
    """Methods that a script has put on the model itself, to be put back after the recording.

    Args:
        model: the model, before anything of the recorder is on it.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._own: Dict[str, Any] = {
            name: model.__dict__[name] for name in NAMES if name in model.__dict__
        }

    def has(self, name: str) -> bool:
        """Whether the script has put a method of this name on the model."""
        return name in self._own

    def make_train_function(self) -> Any:
        """Lets the model make its train function as it would by itself."""
        own = self._own.get("make_train_function")
        return type(self._model).make_train_function(self._model) if own is None else own()

    def put_back(self) -> None:
        """Gives the model what it had, instead of what is there now."""
        for name in NAMES:
            take_off(self._model, name)
            if name in self._own:
                set_plainly(self._model, name, self._own[name])


def trains_a_batch_amid_a_fit(model: Any) -> bool:
    """Whether `train_on_batch` is what calls, from a callback of a `fit` of the same model.

    The framework tells neither: its `make_train_function` is all that both go through.
    """
    calls = _calls_of(model, ("train_on_batch", "fit"))
    return next(calls, None) == "train_on_batch" and "fit" in calls


def is_amid_a_fit(model: Any) -> bool:
    """Whether a `fit` of a model is what calls, and not its `train_on_batch` alone."""
    return next(_calls_of(model, ("fit", "fit_generator")), None) is not None


def _calls_of(model: Any, names: Sequence[str]) -> Iterator[str]:
    """The methods of a model that are being called at this moment, the innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_name
        if name in names and frame.f_locals.get("self") is model:
            yield name
        frame = frame.f_back
