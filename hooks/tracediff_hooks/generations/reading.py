"""Reads the variables of a model between its steps, as many as can be in one call.

Each call into TensorFlow lets go of the interpreter lock, and the training thread has to wait until
it gets that back.
"""

import sys
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from tracediff_hooks.generations.step_taps import PLAIN, array_of, view
from tracediff_hooks.state import same_objects


class Reader:
    """Reads the same variables again and again, by one operation of TensorFlow for each device.

    What that needs is found out when the same variables are read for the second time.
    """

    def __init__(self) -> None:
        self._variables: Sequence[Any] = ()
        self._reads: Optional[List[_Read]] = None

    def __call__(self, variables: Sequence[Any]) -> List[np.ndarray]:
        """The value of each, as `view` gives it."""
        if not same_objects(self._variables, variables):
            self._variables, self._reads = list(variables), None
            return [view(variable) for variable in variables]
        if self._reads is None:
            self._reads = _reads_of(variables)
        if not self._reads:
            return [view(variable) for variable in variables]
        if len(self._reads) == 1:
            return [array_of(tensor) for tensor in self._reads[0]()]
        found: List[Any] = [None] * len(variables)
        for read in self._reads:
            for place, tensor in zip(read.places, read()):
                found[place] = array_of(tensor)
        return found


class _Read:
    """One operation that reads some variables, all on one device.

    As `ReadVariableOp` it gives the variables' own memory, and copies those that are changed in
    place whoever holds them, which sparse updates do (`copy_on_read_mode` in TensorFlow's
    core/kernels/resource_variable_ops.cc).
    """

    def __init__(self, places: List[int], variables: Sequence[Any]) -> None:
        # The operation has no function of its own in Python: it is TensorFlow's own shorthand.
        self._execute = sys.modules["tensorflow.python.eager.execute"].execute
        self._context = sys.modules["tensorflow.python.eager.context"].context
        self.places = places
        self._handles = [variable.handle for variable in variables]
        dtypes = tuple(variable.dtype.as_datatype_enum for variable in variables)
        self._attributes = ("N", len(variables), "dtypes", dtypes)

    def __call__(self) -> Sequence[Any]:
        return self._execute(  # type: ignore[no-any-return]
            b"_ReadVariablesOp",
            len(self._handles),
            inputs=self._handles,
            attrs=self._attributes,
            ctx=self._context(),
        )


def _reads_of(variables: Sequence[Any]) -> List[_Read]:
    """What reads them all; nothing where one of them has to be read in its own way."""
    if not all(type(variable).__name__ in PLAIN for variable in variables):
        return []
    devices: Dict[str, List[int]] = {}
    try:
        for place, variable in enumerate(variables):
            devices.setdefault(variable.handle.device, []).append(place)
        reads = [_Read(places, [variables[i] for i in places]) for places in devices.values()]
        for read in reads:
            read()
    except Exception:
        return []
    return reads
