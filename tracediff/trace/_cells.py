"""What each step saw of each tensor: the cells of a run's tables, at either end of the steps."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.model import Moment
from tracediff.trace._cache import BlockCache
from tracediff.trace._statistics import FIELDS
from tracediff.trace._store import TraceFiles
from tracediff.trace._table import External, Table, read_external
from tracediff.trace._tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOMENTS: tuple[Moment, Moment] = ("before", "after")


class Cells:
    """Both tables of a run and what changed between its steps, opened when they are asked for.

    The tensors are those that have a column: none that is the same as another.

    Args:
        files: The trace.
        group: Path of the run in the trace.
        steps: How many steps are complete.
        keeps_all: Whether every observed value was kept.
        ended: Whether the recorder ended the run itself.
        cache: Where decoded parts of the tables are kept.
    """

    def __init__(
        self,
        files: TraceFiles,
        group: str,
        *,
        steps: int,
        keeps_all: bool,
        ended: bool,
        cache: BlockCache,
    ) -> None:
        self._files = files
        self._group = group
        self._steps = steps
        self._keeps_all = keeps_all
        self._ended = ended
        self._cache = cache
        self._counts: dict[tuple[str, tuple[str, str]], int] = {}

    def digests(self, tensor: Tensor, moment: Moment) -> NDArray[np.uint64]:
        """Return the digest at every step, zeros where nothing was observed; uint64 (steps, 2)."""
        if not self._steps:
            return np.zeros((0, 2), np.uint64)
        digests = self._table(tensor).digests(_column(tensor))
        return self._at(moment, tensor, digests, self.external.digest)

    def versions(self, tensor: Tensor, moment: Moment) -> NDArray[np.int32]:
        """Return the version at every step, -1 where none was kept; int32 (steps,)."""
        if not self._steps:
            return np.zeros(0, np.int32)
        versions = self._table(tensor).versions(_column(tensor))
        return self._at(moment, tensor, versions, self.external.version)

    def places(self, name: str, tensor: Tensor, moment: Moment) -> NDArray[np.int32]:
        """Return which summary belongs to each step, -1 where none does; int32 (steps,).

        Args:
            name: ``sketch`` or ``rows``.
            tensor: The tensor.
            moment: Before or after the step's update.
        """
        if not self._steps:
            return np.zeros(0, np.int32)
        places = self._table(tensor).places(name, _column(tensor))
        external = self.external.sketch
        return self._at(moment, tensor, places, external if name == "sketch" else external * 0 - 1)

    def place(self, name: str, tensor: Tensor, step: int, moment: Moment) -> int:
        """Return which summary belongs to one end of a step, as `places` does for all steps."""
        change = self._change(tensor, step, moment)
        if change is not None:
            return int(self.external.sketch[change]) if name == "sketch" else -1
        return self._table(tensor).place(name, _row(tensor, step, moment), _column(tensor))

    def statistics(self, tensor: Tensor, step: int, moment: Moment) -> NDArray[np.float64]:
        """Return the statistics in one cell, NaN where there are none; float64 (fields,)."""
        column = _column(tensor)
        change = self._change(tensor, step, moment)
        if change is not None:
            return np.asarray(self.external.statistics[change])
        return self._table(tensor).statistics(_row(tensor, step, moment), column)

    def all_statistics(self, tensor: Tensor, moment: Moment) -> NDArray[np.float64]:
        """Return the statistics at every step, NaN where none are; float64 (steps, fields)."""
        if not self._steps:
            return np.zeros((0, len(FIELDS)))
        statistics = self._table(tensor).all_statistics(_column(tensor))
        return self._at(moment, tensor, statistics, self.external.statistics)

    def cell(self, tensor: Tensor, step: int, moment: Moment) -> tuple[int, int, int]:
        """Return the version and the two halves of the digest at one end of a step."""
        change = self._change(tensor, step, moment)
        if change is not None:
            return self.external.cell(change)
        return self._table(tensor).cell(_row(tensor, step, moment), _column(tensor))

    def _change(self, tensor: Tensor, step: int, moment: Moment) -> int | None:
        """Return the number of the change from outside at one end of a step, if there is one."""
        if tensor.table != "state" or moment != "before":
            return None
        return self.external.place(step, _column(tensor))

    def count_values(self, tensor: Tensor) -> int:
        """Return how many values of a tensor the complete steps refer to."""
        return 1 + max(int(self.versions(tensor, moment).max()) for moment in MOMENTS)

    def count_summaries(self, name: str, tensor: Tensor) -> int:
        """Return how many summaries of a tensor the complete steps refer to; there is one step."""
        key = name, tensor.key
        if key not in self._counts:
            last = (int(self.places(name, tensor, moment).max()) for moment in MOMENTS)
            self._counts[key] = 1 + max(last)
        return self._counts[key]

    @cached_property
    def external(self) -> External:
        """What changed between the steps."""
        return read_external(
            self._files, f"{self._group}/external", steps=self._steps, ended=self._ended
        )

    @cached_property
    def _state(self) -> Table:
        return self._open("state", rows=self._steps + 1)

    @cached_property
    def _observed(self) -> Table:
        return self._open("observed", rows=self._steps)

    def _table(self, tensor: Tensor) -> Table:
        return self._state if tensor.table == "state" else self._observed

    def _open(self, name: str, *, rows: int) -> Table:
        return Table(
            self._files,
            f"{self._group}/{name}",
            rows=rows,
            keeps_all=self._keeps_all,
            cache=self._cache,
        )

    def _at(
        self, moment: Moment, tensor: Tensor, cells: NDArray[Any], external: NDArray[Any]
    ) -> NDArray[Any]:
        """Return the cells, one a step, that stand at one end of the steps."""
        if tensor.table == "observed":
            return cells
        if moment == "after":
            return cells[1:]
        cells = cells[: self._steps]
        changes = np.flatnonzero(self.external.column == tensor.column)
        cells[self.external.step[changes]] = external[changes]
        return cells


def _row(tensor: Tensor, step: int, moment: Moment) -> int:
    """Return the row of a table that stands at one end of a step, unless the state was changed."""
    return step + 1 if tensor.table == "state" and moment == "after" else step


def _column(tensor: Tensor) -> int:
    assert tensor.column is not None, "the parser lets no recorded tensor be without a column"
    return tensor.column
