"""Finds the compiled passes over arrays, where this machine has them: `_passes.c`, `_xxh3.h`.

They were built when the package was installed, where a C compiler was at hand. Without them numpy
computes the same, in more passes. TRACEDIFF_NATIVE=0 in the environment does without them.
"""

import ctypes
import os
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

VERSION = 2
"""Of the functions that are called here; a library of another version is left alone."""
_WORTH_THE_LOCK = 1 << 15
"""Elements from which on a call lets go of the interpreter lock; to get it back takes longer than
fewer elements do."""

SHORT = 240
"""Bytes up to which the library does not hash: XXH3 has other formulas for them."""

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
        self._describe = library.tracediff_describe, holding.tracediff_describe
        self._rows = library.tracediff_rows, holding.tracediff_rows
        for function in self._moments:
            function.argtypes, function.restype = (place, number, place), None
        for function in self._describe:
            function.argtypes, function.restype = (number, *[place] * 5), None
        for function in self._rows:
            function.argtypes, function.restype = (place, number, number, place), None
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

    def describe(
        self, arrays: Sequence[np.ndarray], summed: Sequence[bool]
    ) -> Tuple[List[List[int]], List[List[float]]]:
        """The digests of arrays, and of some what `moments` gives, each read once.

        Args:
            arrays: contiguous, of more than `SHORT` bytes.
            summed: whose moments are wanted; these are float32.

        Returns:
            Low and high 64 bits of 128-bit XXH3; six numbers, of no meaning where none are wanted.
        """
        places = [array.__array_interface__["data"][0] for array in arrays]
        sizes = [array.nbytes for array in arrays]
        table = np.array([places, sizes, summed], np.int64)
        wanted = table[2].astype(np.int8)
        hashes, sums = np.empty((len(arrays), 2), np.uint64), np.empty((len(arrays), 6))
        self._describe[sum(sizes) < 4 * _WORTH_THE_LOCK](
            len(arrays),
            table.ctypes.data,
            table.ctypes.data + table.strides[0],
            wanted.ctypes.data,
            hashes.ctypes.data,
            sums.ctypes.data,
        )
        return hashes.tolist(), sums.tolist()

    def row_digests(self, array: np.ndarray) -> np.ndarray:
        """The 64-bit XXH3 of each row of an array.

        Args:
            array: contiguous, with at least one row, each of more than `SHORT` bytes.

        Returns:
            uint64 (rows,).
        """
        found = np.empty(len(array), np.uint64)
        width = array.nbytes // len(array)
        self._rows[array.nbytes < 4 * _WORTH_THE_LOCK](
            array.ctypes.data, len(array), width, found.ctypes.data
        )
        return found

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
