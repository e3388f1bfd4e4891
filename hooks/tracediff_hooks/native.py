"""Finds the compiled passes over arrays, where this machine has them: `_passes.c`.

They were built when the package was installed, where a C compiler was at hand. Without them numpy
computes the same, in more passes. TRACEDIFF_NATIVE=0 in the environment does without them.
"""

import ctypes
import os
from typing import Any, Optional, Tuple

import numpy as np

VERSION = 1
"""Of the functions that are called here; a library of another version is left alone."""
_WORTH_THE_LOCK = 1 << 15
"""Elements from which on a call lets go of the interpreter lock; to get it back takes longer than
fewer elements do."""

_SixNumbers = ctypes.c_double * 6


class Passes:
    """The functions of the library.

    Args:
        path: where the library is.

    Raises:
        OSError: there is none, or it cannot be loaded here.
        ValueError: it is of another version.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        library, holding = ctypes.CDLL(path), ctypes.PyDLL(path)
        try:
            version = library.tracediff_passes_version()
        except AttributeError:
            version = None
        if version != VERSION:
            raise ValueError(f"{path} is of version {version}, {VERSION} expected")
        place, number = ctypes.c_void_p, ctypes.c_int64
        self._moments = library.tracediff_moments, holding.tracediff_moments
        self._sketch = library.tracediff_sketch, holding.tracediff_sketch
        for function in self._moments:
            function.argtypes, function.restype = (place, number, place), None
        for function in self._sketch:
            function.argtypes = (place, *[number] * 4, *[place] * 5)
            function.restype = None

    def moments(self, flat: np.ndarray) -> Tuple[float, ...]:
        """Smallest, largest, sum and sum of squares of the finite elements; NaNs, infinities.

        Args:
            flat: float32, contiguous, one axis.

        Returns:
            Six numbers; infinite extremes where no element is finite.
        """
        found = _SixNumbers()
        action = self._moments[flat.size < _WORTH_THE_LOCK]
        action(flat.ctypes.data, flat.size, found)
        return tuple(found)

    def sketch(
        self,
        flat: np.ndarray,
        signs: np.ndarray,
        offsets: np.ndarray,
        turns: np.ndarray,
        *,
        width: int,
        rows: int,
        together: int,
    ) -> np.ndarray:
        """The random projection that `sketch.sketch_of` defines.

        Args:
            flat: float32, contiguous, one axis.
            signs: float32, of which only the signs count.
            offsets: where in ``signs`` those of each block begin; int64, one for each block.
            turns: how far each row of sums is moved on; int64, ``rows`` for each group of blocks.
            width: the numbers in a sketch.
            rows: a block has so many times as many elements.
            together: the blocks in a group.

        Returns:
            float64 (width,).
        """
        found, sums = np.zeros(width), np.empty(rows * width)
        self._sketch[flat.size < _WORTH_THE_LOCK](
            flat.ctypes.data,
            flat.size,
            width,
            rows,
            together,
            signs.ctypes.data,
            offsets.ctypes.data,
            turns.ctypes.data,
            sums.ctypes.data,
            found.ctypes.data,
        )
        return found


def takes(flat: np.ndarray) -> bool:
    """Whether the compiled passes can read an array: float32 of this machine, one after another."""
    flags = flat.flags
    return bool(flat.dtype == np.float32 and flags.c_contiguous and flags.aligned)


def _found() -> Optional[Passes]:
    if os.environ.get("TRACEDIFF_NATIVE") == "0":
        return None
    try:
        return Passes(os.path.join(os.path.dirname(os.path.abspath(__file__)), "_passes.so"))
    except (OSError, ValueError):
        return None


PASSES: Any = _found()
"""The compiled passes, or None."""
