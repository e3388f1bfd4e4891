"""One run by itself: the norm of every tensor at every step, and NaN and infinities located."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.compare.parts import measure
from tracediff.errors import DamagedTrace, NotKept, TracediffError
from tracediff.report.comparison import numbers
from tracediff.report.terminal import printable
from tracediff.trace import Run, Tensor
from tracediff_tui import palette
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.elements import exact, index_words
from tracediff_tui.views.overview import short
from tracediff_tui.views.places import Key, Shown, Spot, label

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = (
    (
        "row",
        "norm, as a share of the row's largest",
        (1e-4, 1e-2, 1e-1, 0.2, 0.5),
        ("<1e-4", "<0.01", "<0.1", "<0.2", "<0.5", "≥0.5"),
    ),
    (
        "norm",
        "norm",
        (1e-6, 1e-4, 1e-2, 1.0, 1e2),
        ("<1e-6", "<1e-4", "<0.01", "<1", "<100", "≥100"),
    ),
)
"""What a run is coloured by."""

_ROLES = ("weight", "update", "activation", "gradient", "applied_gradient", "slot")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A tensor of the run, or the update of a weight.

    Attributes:
        key: Its role and name.
        group: The layer.
        tensor: The tensor.
        alone: Whether it is all that there is of its layer.
    """

    key: Key
    group: str
    tensor: Tensor
    alone: bool = False

    @property
    def name(self) -> str:
        """How the row is labelled."""
        return printable(short(self.key, "" if self.alone else self.group))

    def spot(self, step: int) -> Spot:
        """Return the place of one of its cells."""
        if self.key[0] == "update":
            return Spot(("weight", self.key[1]), step, "update")
        return Spot(self.key, step)


@dataclass(slots=True, eq=False)
class RunGrid:
    """The rows of a run, and what is known of them so far.

    Attributes:
        run: The run.
        rows: Its rows, in forward order.
        norms: The norm of the finite elements, for every row and step; NaN where not known.
        odd: How many elements are NaN or infinite; -1 where the value cannot be read.
        done: How many rows are read.
        problems: What could not be read.
    """

    run: Run
    rows: tuple[RunRow, ...]
    norms: NDArray[np.float64]
    odd: NDArray[np.int64]
    done: int = 0
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run) -> RunGrid:
        """Return the rows of a run, with nothing known yet."""
        rows = tuple(_rows(run))
        shape = len(rows), run.steps
        return cls(run, rows, np.full(shape, np.nan), np.zeros(shape, np.int64))

    def fill(self, *, cancelled: Callable[[], bool], report: Callable[[int, int], None]) -> None:
        """Read every value once, row by row.

        Args:
            cancelled: Says that nobody waits any more.
            report: Called with the number of rows done and their total.
        """
        order = sorted(range(len(self.rows)), key=lambda i: self.rows[i].key[0] != "loss")
        for done, number in enumerate(order, start=1):
            if not self._fill_row(number, cancelled):
                return
            self.done = done
            report(done, len(self.rows))

    def _fill_row(self, number: int, cancelled: Callable[[], bool]) -> bool:
        row, known = self.rows[number], {}
        shown: Shown = "update" if row.key[0] == "update" else "after"
        digests = self.run.digests(row.tensor, "after")
        kept = self.run.kept(row.tensor, "after")
        if shown == "update":
            before = self.run.digests(row.tensor, "before")
            digests = np.concatenate([digests, before], axis=1)
            kept = kept & self.run.kept(row.tensor, "before")
        # Of what was not kept there are statistics, but none of updates.
        wanted = kept if shown == "update" else digests.any(axis=1)
        for step in np.flatnonzero(wanted).tolist():
            if cancelled():
                return False
            digest = digests[step].tobytes()
            if digest not in known:
                found = self._cell if kept[step] else self._recorded
                known[digest] = found(row, step)
                if len(known) > 4096:
                    known.pop(next(iter(known)))
            self.norms[number, step], self.odd[number, step] = known[digest]
        return True

    def _recorded(self, row: RunRow, step: int) -> tuple[float, int]:
        found = self.run.statistics(row.tensor, step, "after")
        return (float("nan"), 0) if found is None else (found.norm, found.nan + found.inf)

    def _cell(self, row: RunRow, step: int) -> tuple[float, int]:
        try:
            values = read_one(self.run, row.spot(step))
        except DamagedTrace as error:
            self.problems.append(error.message)
            return float("nan"), -1
        except TracediffError:
            return float("nan"), 0
        found = measure(values, values)
        return found.norm_a, found.non_finite_a

    def levels(self, metric: int) -> NDArray[np.uint8]:
        """Return the level of every cell."""
        limits = METRICS[metric][2]
        norms = self.norms
        if metric == 0:
            largest = np.nanmax(np.where(np.isnan(norms), 0.0, norms), axis=1, initial=0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                norms = norms / largest[:, None]
        result = 1 + np.searchsorted(limits, norms, side="right")
        result = np.where(self.norms == 0, palette.EQUAL, result)
        result = np.where(np.isnan(self.norms), palette.ABSENT, result)
        result = np.where(self.odd > 0, palette.BROKEN, result)
        return np.where(self.odd < 0, palette.UNKNOWN, result).astype(np.uint8)

    def words(self, number: int, step: int) -> str:
        """Return all about one cell."""
        row = self.rows[number]
        words = [printable(label(row.key)), f"step {step}"]
        if self.odd[number, step] < 0:
            return " · ".join([*words, "cannot be read: the trace is damaged here"])
        norm = float(self.norms[number, step])
        if np.isnan(norm):
            kept = self.run.kept(row.tensor, "after")[step]
            return " · ".join([*words, "not read yet" if kept else "not kept"])
        words.append(f"norm {numbers.number(norm, digits=6)}")
        if self.odd[number, step]:
            count = int(self.odd[number, step])
            words.append(f"{count} element{'s are' if count > 1 else ' is'} NaN or infinite")
        return " · ".join(words)

    def shown(
        self, roles: tuple[str, ...], keep: Callable[[str], bool] | None, folded: Collection[str]
    ) -> list[int | str]:
        """Return what to show: numbers of rows, under the names of layers with several.

        Args:
            roles: Of these roles, the updates of weights with the weights; all where empty.
            keep: Says of a label whether to keep the row; folds count for nothing then.
            folded: Layers whose rows are hidden.
        """
        result: list[int | str] = []
        seen = ""
        for number, row in enumerate(self.rows):
            role = "weight" if row.key[0] == "update" else row.key[0]
            if roles and role not in roles:
                continue
            if keep is not None and not keep(f"{row.group} {label(row.key)}"):
                continue
            if row.group != seen and not row.alone:
                result.append(row.group)
            seen = row.group
            if row.group not in folded or keep is not None:
                result.append(number)
        return result

    def broken(self) -> list[tuple[int, int]]:
        """Return where NaN or infinities first stand in each row: row and step, by step."""
        bad = self.odd != 0
        rows = np.flatnonzero(bad.any(axis=1))
        return sorted(((int(r), int(np.argmax(bad[r]))) for r in rows), key=lambda one: one[1])

    def sheet(self, rows: list[int]) -> Sheet:
        """Return some rows for export."""
        last = max(0, self.run.steps - 1)
        return Sheet(
            title=f"{self.run.path}: {self.run.steps} steps, {self.run.status}",
            header=("tensor", "first", "last", "nan/inf"),
            rows=tuple(
                (
                    label(self.rows[n].key),
                    numbers.number(float(self.norms[n, 0]), digits=6),
                    numbers.number(float(self.norms[n, last]), digits=6),
                    str(int(self.odd[n].sum())),
                )
                for n in rows
                if self.run.steps
            ),
            data={
                "norms": {label(self.rows[n].key): self.norms[n].tolist() for n in rows},
            },
            arrays={
                "tensor": np.array([label(self.rows[n].key) for n in rows]),
                "norm": self.norms[rows],
                "non_finite": self.odd[rows],
            },
        )


def _rows(run: Run) -> list[RunRow]:
    rows = []
    for tensor in run.tensors:
        if tensor.same_as is not None:
            continue
        head = {"input": "data", "label": "data", "sample_weight": "data"}
        tail = {"loss": "loss", "metric": "metrics"}
        group = head.get(tensor.role) or tensor.layer or tail.get(tensor.role, "optimizer")
        rows.append(RunRow(tensor.key, group, tensor))
        if tensor.role == "weight" and tensor.trainable:
            rows.append(RunRow(("update", tensor.name), group, tensor))
    starts: dict[str, int] = {}
    for row in rows:
        place = -1 if row.group == "data" else row.tensor.order if row.tensor.layer else 1 << 40
        starts[row.group] = min(starts.get(row.group, place), place)

    def rank(row: RunRow) -> tuple[int, str, int, int, str]:
        role = _ROLES.index(row.key[0]) if row.key[0] in _ROLES else len(_ROLES)
        return starts[row.group], row.group, row.tensor.order, role, row.key[1]

    count = Counter(row.group for row in rows)
    return sorted((replace(row, alone=count[row.group] == 1) for row in rows), key=rank)


def read_one(run: Run, spot: Spot) -> NDArray[Any]:
    """Return the value at a place of one run.

    Raises:
        NotKept: It was not kept.
        DamagedTrace: It cannot be read.
    """
    tensor = run.tensor(*spot.key)
    value = run.read(tensor, spot.step, spot.moment)
    if spot.shown == "update":
        value = value - run.read(tensor, spot.step, "before")
    if not isinstance(value, np.ndarray):
        raise NotKept(f"{label(spot.key)} has no values")
    return value


DECADES = ("0", "<1e-8", "<1e-6", "<1e-4", "<0.01", "<1", "<100", "≥100", "nan", "inf")


def decades(values: NDArray[Any]) -> list[int]:
    """Return how many elements are of which size, as `DECADES` says."""
    wide = np.abs(values.astype(np.float64)).reshape(-1)
    bins = 1 + np.searchsorted((1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0), wide, side="right")
    bins[wide == 0] = 0
    bins[np.isnan(wide)] = 8
    bins[np.isinf(wide)] = 9
    return [int(count) for count in np.bincount(bins, minlength=len(DECADES))]


def largest(values: NDArray[Any], most: int) -> list[tuple[str, ...]]:
    """Return the largest elements, NaN and infinities first: index, value."""
    wide = np.abs(values.astype(np.float64)).reshape(-1)
    rank = np.where(np.isnan(wide), np.inf, wide)
    order = np.argsort(-rank, kind="stable")[:most]
    flat = values.reshape(-1)
    return [
        (index_words(tuple(int(i) for i in np.unravel_index(at, values.shape))), exact(flat[at]))
        for at in order
    ]
