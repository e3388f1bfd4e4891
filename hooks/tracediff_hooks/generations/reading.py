"""Reads the variables of a model between its steps, as many as can be in one call.

Each call into TensorFlow lets go of the interpreter lock, and the training thread has to wait until
it gets that back.
"""

import contextlib
import sys
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.generations.step_taps import array_of, read_plainly, view


class Reader:
    """Reads the same variables again and again, by one function of TensorFlow.

    The function is made when the same variables are read for the second time, and holds nothing of
    their values.
    """

    def __init__(self) -> None:
        self._asked: Tuple[int, ...] = ()
        self._variables: Sequence[Any] = ()
        self._function: Any = None

    def __call__(self, variables: Sequence[Any]) -> List[np.ndarray]:
        """The value of each, as `view` gives it."""
        asked = tuple(map(id, variables))
        if asked != self._asked:
            # Kept, so that no other object gets their identity.
            self._asked, self._variables, self._function = asked, list(variables), None
        elif self._function is None:
            self._function = _function_for(variables) or ""
        if not self._function:
            return [view(variable) for variable in variables]
        return [array_of(tensor) for tensor in self._function()]


def _function_for(variables: Sequence[Any]) -> Optional[Any]:
    """A function that reads them all; None where one of them has to be read in its own way."""
    if not variables or not all(
        type(variable).__name__ == "ResourceVariable" for variable in variables
    ):
        return None
    tensorflow = sys.modules["tensorflow"]
    with contextlib.suppress(Exception), tensorflow.init_scope():
        function = tensorflow.function(lambda: [read_plainly(variable) for variable in variables])
        return function.get_concrete_function()
    return None
