"""Find the compiled passes over long rows of float32, where this machine has them: `_passes.c`.

They were built when the package was installed, where a C compiler was at hand. Without them numpy
computes the same, in more passes. TRACEDIFF_NATIVE=0 in the environment does without them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift.single_updates import Between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]
    Both = tuple[Values, Values]

VERSION = 1
"""Of the functions that are called here; a library of another version is left alone."""

VALUE = np.dtype(
    [
        (name, np.float64)
        for name in (
            "square_a",
            "square_b",
            "square_difference",
            "dot",
            "peak",
            "max_abs",
            "different",
            "max_ulp",
            "outside",
        )
    ]
)
"""What a pass tells of two values; ``outside`` where squares leave the range of float32."""
MOVED = np.dtype(
    [
        (name, np.float64)
        for name in (
            "square_a",
            "square_b",
            "square_difference",
            "dot",
            "max_abs",
            "different",
            "unexplained",
            "noise",
            "after_a",
            "after_b",
            "outside",
        )
    ]
)
"""What it tells of an update of both."""
_UPDATE = np.dtype(
    [
        ("before", np.int64),
        ("after", np.int64),
        ("first", np.int64),
        ("pairs", np.int64),
        ("level", np.float64),
        ("weights", np.int64),
    ]
)


class Passes:
    """The functions of the library.

    Args:
        path: Where the library is.

    Raises:
        OSError: There is none, or it cannot be loaded here.
        ValueError: It is of another version.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        library = ctypes.CDLL(path)
        try:
            version = library.tracediff_drift_version()
        except AttributeError:
            version = None
        if version != VERSION:
            raise ValueError(f"{path} is of version {version}, {VERSION} expected")
        place, number = ctypes.c_void_p, ctypes.c_int64
        self._room, self._drift = library.tracediff_drift_room, library.tracediff_drift
        self._room.argtypes, self._room.restype = (number, number), number
        self._drift.argtypes = (
            *(place, place, number, number, place),
            *(place, number, place, place, place),
            *(place, place, place),
        )
        self._drift.restype = None

    def drift(
        self, moments: Sequence[Both], wanted: Sequence[bool], updates: Sequence[Between]
    ) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Sum up how far values are apart, and updates of them; as `long_rows.long_sums`.

        Other threads go on meanwhile.

        Args:
            moments: A's and B's values; float32 of one shape (elements,).
            wanted: Of which of these the sums are wanted, too.
            updates: The updates. The squares of weights after one are formed where no sums of that
                moment are wanted.

        Returns:
            A record of `VALUE` for each moment, zeros where it is not wanted, and one of `MOVED`
            for each update.
        """
        order = sorted(range(len(updates)), key=lambda k: max(updates[k].before, updates[k].after))
        rows: list[tuple[float, ...]] = []
        pairs: list[Both] = []
        for one in (updates[k] for k in order):
            inputs = one.inputs
            level = np.nan if inputs.noise_level is None else inputs.noise_level
            weights = not wanted[one.after]
            rows.append((one.before, one.after, len(pairs), len(inputs.pairs), level, weights))
            pairs += inputs.pairs
        table = np.array(rows, _UPDATE)
        shares = next((one.inputs for one in updates), None)
        weighed = np.zeros(3, np.float32)
        if shares is not None:
            weighed[:] = shares.feedback, shares.amplification, shares.amplified
        room = np.zeros(self._room(len(moments), len(updates)), np.uint8)
        values, moves = np.zeros(len(moments), VALUE), np.zeros(len(updates), MOVED)
        flags = np.array(wanted, np.uint8)
        # Held here until the pass is over.
        arrays = [
            [np.require(pair[side], requirements=["C", "A"]) for pair in some]
            for some in (moments, pairs)
            for side in (0, 1)
        ]
        tables = [np.array([one.ctypes.data for one in some], np.uintp) for some in arrays]
        self._drift(
            *(one.ctypes.data for one in tables[:2]),
            len(moments),
            moments[0][0].size,
            flags.ctypes.data,
            table.ctypes.data,
            len(table),
            *(one.ctypes.data for one in tables[2:]),
            weighed.ctypes.data,
            room.ctypes.data,
            values.ctypes.data,
            moves.ctypes.data,
        )
        moved = np.zeros_like(moves)
        moved[order] = moves
        return values, moved


def _found() -> Passes | None:
    if os.environ.get("TRACEDIFF_NATIVE") == "0":
        return None
    try:
        return Passes(str(Path(__file__).with_name("_passes.so")))
    except (OSError, ValueError):
        return None


PASSES = _found()
"""The compiled passes, or None."""
