"""The tables of a run: which version of each tensor, with which digest, each step saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.trace._cache import BlockCache
from tracediff.trace._damage import damaged
from tracediff.trace._statistics import FIELDS
from tracediff.trace._store import StoredArray, TraceFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

BAND_BYTES = 32 << 20
"""How much of a table is read in one pass: a small one whole, of a large one some columns."""


class Table:
    """One of the two tables, read in bands of columns.

    A pass over the table decodes every chunk, so one pass serves as many columns as fit in
    `BAND_BYTES`.

    Args:
        files: The trace.
        key: Path of the table in the trace, such as ``run-0/state``.
        rows: How many rows count; what lies beyond them was being written when the run was killed.
        keeps_all: Whether every observed value was kept, so that no chunk of versions is all empty.
        cache: Where the bands are kept.
    """

    def __init__(
        self, files: TraceFiles, key: str, *, rows: int, keeps_all: bool, cache: BlockCache
    ) -> None:
        self._rows = rows
        self._cache = cache
        self._files = files
        self._key = key
        self._optional: dict[str, StoredArray | None] = {}
        # At any step something is observed, so no chunk of digests holds nothing but zeros.
        self._digest = files.array(f"{key}/digest", complete=True)
        self._version = files.array(f"{key}/version", complete=keeps_all)
        for array, dtype, inner in ((self._digest, "uint64", (2,)), (self._version, "int32", ())):
            if len(array.shape) != 2 + len(inner) or array.shape[2:] != inner:
                raise damaged(f"{array.where} has the shape {array.shape}")
            if array.dtype.name != dtype:
                raise damaged(f"{array.where} holds {array.dtype.name}, {dtype} expected")
            if array.shape[0] < rows:
                raise damaged(f"{array.where} holds {array.shape[0]} rows, {rows} expected")

    def versions(self, column: int) -> NDArray[np.int32]:
        """Return the version in each row, -1 where the value was not kept; shape (rows,)."""
        if column >= self._version.shape[1]:
            return np.full(self._rows, -1, np.int32)
        return self._view(self._version, column).copy()

    def digests(self, column: int) -> NDArray[np.uint64]:
        """Return the digest in each row, zeros where nothing was observed; shape (rows, 2)."""
        if column >= self._digest.shape[1]:
            # Declared after the last complete step.
            return np.zeros((self._rows, 2), np.uint64)
        return self._view(self._digest, column).copy()

    def cell(self, row: int, column: int) -> tuple[int, int, int]:
        """Return the version and the two halves of the digest in one cell."""
        versions, digests = self._version, self._digest
        version = self._view(versions, column)[row] if column < versions.shape[1] else -1
        low, high = self._view(digests, column)[row] if column < digests.shape[1] else (0, 0)
        return int(version), int(low), int(high)

    def places(self, name: str, column: int) -> NDArray[np.int32]:
        """Return where the summaries of a tensor are, -1 without one; int32 (rows,).

        Args:
            name: ``sketch`` or ``rows``.
            column: The tensor.
        """
        array = self._summaries(name)
        if array is None or column >= array.shape[1]:
            return np.full(self._rows, -1, np.int32)
        return self._view(array, column).copy()

    def place(self, name: str, row: int, column: int) -> int:
        """Return where the summary in one cell is, as `places` does for all rows."""
        array = self._summaries(name)
        if array is None or column >= array.shape[1]:
            return -1
        return int(self._view(array, column)[row])

    def statistics(self, row: int, column: int) -> NDArray[np.float64]:
        """Return the statistics in one cell, NaN where there are none; float64 (fields,)."""
        array = self._summaries("statistics")
        if array is None or column >= array.shape[1]:
            return np.full(len(FIELDS), np.nan)
        return np.asarray(self._view(array, column)[row])

    def all_statistics(self, column: int) -> NDArray[np.float64]:
        """Return the statistics in each row, NaN where there are none; float64 (rows, fields)."""
        array = self._summaries("statistics")
        if array is None or column >= array.shape[1]:
            return np.full((self._rows, len(FIELDS)), np.nan)
        return self._view(array, column).copy()

    def _summaries(self, name: str) -> StoredArray | None:
        """Return an array that is only there where something was not kept in full."""
        key = f"{self._key}/{name}"
        if name not in self._optional:
            self._optional[name] = self._files.array(key) if self._files.has(key) else None
        array = self._optional[name]
        if array is not None:
            dtype, inner = _SUMMARIES[name]
            if array.shape[2:] != inner or array.dtype.name != dtype or array.shape[0] < self._rows:
                raise damaged(f"{array.where} holds {array.dtype.name} of shape {array.shape}")
        return array

    def _view(self, array: StoredArray, column: int) -> NDArray[Any]:
        row_bytes = array.dtype.itemsize * int(np.prod(array.shape[2:]))
        width = max(1, BAND_BYTES // max(1, self._rows * row_bytes))
        first = column // width * width
        columns = slice(first, min(first + width, array.shape[1]))
        band = self._cache.get((array.where, first), lambda: array.read(0, self._rows, columns))
        return band[:, column - first]


_SUMMARIES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "sketch": ("int32", ()),
    "rows": ("int32", ()),
    "statistics": ("float64", (len(FIELDS),)),
}


@dataclass(frozen=True, slots=True)
class External:
    """The values that state tensors had before a step when the update had left others.

    Attributes:
        step: The step before which the value was found; int64 (changes,).
        column: The column of the state table; int32 (changes,).
        version: Which of the tensor's values it is, or -1; int32 (changes,).
        digest: Its digest; uint64 (changes, 2).
        sketch: Which of the tensor's sketches it is, or -1; int32 (changes,).
        statistics: Its statistics; float64 (changes, fields), NaN where there are none.
    """

    step: NDArray[np.int64]
    column: NDArray[np.int32]
    version: NDArray[np.int32]
    digest: NDArray[np.uint64]
    sketch: NDArray[np.int32]
    statistics: NDArray[np.float64]

    def cell(self, change: int) -> tuple[int, int, int]:
        """Return the version and the two halves of the digest of one change."""
        low, high = self.digest[change]
        return int(self.version[change]), int(low), int(high)

    def place(self, step: int, column: int) -> int | None:
        """Return the number of the last change before a step of one column, if there is one."""
        first, last = np.searchsorted(self.step, [step, step + 1])
        for change in range(last - 1, first - 1, -1):
            if self.column[change] == column:
                return int(change)
        return None


def read_external(files: TraceFiles, key: str, *, steps: int, ended: bool) -> External:
    """Return the changes before each of the first ``steps`` steps.

    Args:
        files: The trace.
        key: Path of the group in the trace.
        steps: How many steps count.
        ended: Whether the recorder ended the run itself. Otherwise the arrays may be longer than
            what was written, and what was written last may lie beyond the steps that count.

    Raises:
        DamagedTrace: The arrays are missing, damaged, or do not fit together.
    """
    # A change is found before a step other than the first and has a digest: neither is zero.
    arrays = {
        name: files.array(f"{key}/{name}", complete=ended and name in {"step", "digest"})
        for name in ("step", "column", "version", "digest")
    }
    rows = min(array.shape[0] for array in arrays.values())
    step, digest = arrays["step"].read(0, rows), arrays["digest"].read(0, rows)
    where = f"{files.path}/{key}"
    if step.shape != (rows,) or digest.shape != (rows, 2):
        raise damaged(f"{where} holds arrays of shape {step.shape} and {digest.shape}")
    written = int(np.argmin(np.append(step > 0, False)))
    # At each flush the recorder writes steps before digests. What it has not written is 0 or -1.
    if written < rows and (ended or np.any(step[written:] > 0) or digest[written:].any()):
        raise damaged(f"{where}/step lacks the step of change {written}")
    if np.any(np.diff(step[:written]) < 0):
        raise damaged(f"{where}/step holds steps in disorder")
    count = int(np.searchsorted(step[:written], steps))
    return External(
        step=step[:count],
        column=arrays["column"].read(0, count),
        version=arrays["version"].read(0, count),
        digest=digest[:count],
        sketch=_summaries(files, f"{key}/sketch", np.full(count, -1, np.int32)),
        statistics=_summaries(files, f"{key}/statistics", np.full((count, len(FIELDS)), np.nan)),
    )


def _summaries(files: TraceFiles, key: str, absent: NDArray[Any]) -> NDArray[Any]:
    """Return the first rows of an array, or ``absent`` where there is no such array."""
    if not files.has(key):
        return absent
    array = files.array(key)
    if array.shape[1:] != absent.shape[1:] or array.dtype != absent.dtype:
        raise damaged(f"{array.where} holds {array.dtype.name} of shape {array.shape}")
    rows = min(len(absent), array.shape[0])
    absent[:rows] = array.read(0, rows)
    return absent
