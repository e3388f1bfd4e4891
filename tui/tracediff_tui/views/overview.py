"""The whole run at a glance: a row a tensor, a level a step, layers in forward order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracediff.compare import Examination
from tracediff.compare.parts import Judged
from tracediff.errors import UsageError
from tracediff.model import Unpaired
from tracediff.report.comparison import phrases, tables
from tracediff.report.terminal import printable
from tracediff_tui import palette
from tracediff_tui.palette import Metric
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.cells import cell_words, layer_words
from tracediff_tui.views.places import Key, Shown, label

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("all", ()),
    ("weights", ("weight",)),
    ("gradients", ("gradient", "applied_gradient")),
    ("slots", ("slot",)),
    ("outputs", ("activation",)),
    ("data", ("input", "label", "sample_weight")),
    ("loss, rate, metrics", ("loss", "learning_rate", "metric")),
)
"""What `t` goes round."""

_HEAD = {"input": "data", "label": "data", "sample_weight": "data"}
_TAIL = {"loss": "loss", "metric": "metrics", "learning_rate": "optimizer", "slot": "optimizer"}
_FIRST, _LAST = -1.0, float(1 << 40)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A row for a tensor: what was compared, or one without a partner."""

    key: Key
    group: str
    judged: Judged | None = None
    unpaired: Unpaired | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the heat map: a tensor, or a layer with the worst of its tensors.

    Attributes:
        group: The layer.
        members: Rows of the grid that it stands for.
        entry: The tensor's number, or None for a layer.
        folded: Whether a layer hides its tensors.
        alone: Whether it is all that is shown of its layer, whose name stands nowhere else then.
    """

    group: str
    members: tuple[int, ...]
    entry: int | None
    folded: bool = False
    alone: bool = False


class Overview:
    """All tensors of a comparison as levels; made once, off the screen's thread."""

    def __init__(self, found: Examination) -> None:
        self.found = found
        self.steps = found.case.steps
        self.entries = tuple(_entries(found))
        self.number = {entry.key: i for i, entry in enumerate(self.entries) if entry.judged}
        self._grids: dict[str, NDArray[np.uint8]] = {}

    def grid(self, metric: Metric) -> NDArray[np.uint8]:
        """Return the level of every tensor: first before step 0, then at (after) each step."""
        if metric.id not in self._grids:
            grid = np.full((len(self.entries), self.steps + 1), palette.ABSENT, np.uint8)
            for number, entry in enumerate(self.entries):
                if entry.judged is None:
                    grid[number] = palette.ALONE
                    continue
                track = entry.judged.track
                grid[number, 1:] = palette.levels(metric, track.after, entry.judged.tolerance_after)
                if track.before is not None:
                    grid[number, 0] = palette.levels(
                        metric, track.before[:1], entry.judged.tolerance_before[:1]
                    )[0]
            self._grids[metric.id] = grid
        return self._grids[metric.id]

    def groups(self) -> tuple[str, ...]:
        """Return the layers, in order."""
        return tuple(dict.fromkeys(entry.group for entry in self.entries))

    def lines(
        self,
        *,
        folded: frozenset[str] = frozenset(),
        kind: int = 0,
        keep: Callable[[str], bool] | None = None,
        differing: bool = False,
    ) -> tuple[Line, ...]:
        """Return the lines to show.

        Args:
            folded: Layers whose tensors are hidden.
            kind: A number in `KINDS`.
            keep: Says of a label whether to keep the row.
            differing: Whether to hide what is equal throughout.
        """
        roles = KINDS[kind][1]
        quiet = self.quiet()
        shown: dict[str, list[int]] = {}
        for number, entry in enumerate(self.entries):
            if roles and entry.key[0] not in roles:
                continue
            if differing and quiet[number]:
                continue
            if keep is not None and not keep(f"{entry.group} {label(entry.key)}"):
                continue
            shown.setdefault(entry.group, []).append(number)
        result: list[Line] = []
        for group, members in shown.items():
            if len(members) == 1:
                result.append(Line(group, tuple(members), members[0], alone=True))
                continue
            hidden = group in folded
            result.append(Line(group, tuple(members), None, hidden))
            if not hidden:
                result += [Line(group, (number,), number) for number in members]
        return tuple(result)

    def quiet(self) -> NDArray[np.bool_]:
        """Say which rows are equal throughout."""
        grid = self.grid(palette.METRICS[0])
        return np.asarray(np.isin(grid, (palette.EQUAL, palette.ABSENT)).all(axis=1))

    def label(self, line: Line) -> str:
        """Return what stands before a line."""
        if line.entry is None:
            count = len(line.members)
            return f"{printable(line.group)} ({count})"
        key = self.entries[line.entry].key
        return printable(short(key, "" if line.alone else line.group))

    def describe(self, line: Line, metric: Metric, first: int, last: int) -> str:
        """Return all about one cell: a line, and the steps of a column (-1 before step 0)."""
        grid = self.grid(metric)[list(line.members), first + 1 : last + 2]
        ranks = np.vectorize(palette.severity, otypes=[int])(grid) if grid.size else grid
        row, column = np.unravel_index(int(np.argmax(ranks)), grid.shape)
        number, step = line.members[int(row)], first + int(column)
        entry = self.entries[number]
        whole = layer_words(self.found, line.group) if line.entry is None else None
        if whole is not None:
            worst = self.describe(Line(line.group, (number,), number), metric, first, last)
            return f"{whole} · worst: {worst}"
        words = [printable(label(entry.key)), _when(first, last, step)]
        if entry.judged is None:
            assert entry.unpaired is not None  # a row is one or the other
            side = entry.unpaired.side.upper()
            return " · ".join([*words[:1], f"only in {side}: {printable(entry.unpaired.reason)}"])
        shown: Shown = "before" if step < 0 else "after"
        return " · ".join([*words, *cell_words(entry.judged, max(step, 0), shown)])

    def worst_step(self, line: Line, metric: Metric, first: int, last: int) -> tuple[int, int]:
        """Return the row of the grid and the step that a cell shows: the first of the worst."""
        grid = self.grid(metric)[list(line.members), first + 1 : last + 2]
        ranks = np.vectorize(palette.severity, otypes=[int])(grid)
        row, column = np.unravel_index(int(np.argmax(ranks)), grid.shape)
        return line.members[int(row)], first + int(column)

    def sheet(self, lines: Iterable[Line], metric: Metric) -> Sheet:
        """Return the overview for export: the rows as the report has them, and the levels."""
        keys = [
            self.entries[n].key for line in lines if line.entry is not None for n in [line.entry]
        ]
        wanted = set(keys)
        rows = [r for r in self.found.comparison.drift if (r.role, r.tensor) in wanted]
        numbers = [self.number[r.role, r.tensor] for r in rows]
        return Sheet(
            title=phrases.verdict(self.found.comparison),
            facts=tuple(phrases.stacks(self.found.comparison)),
            header=tables.DRIFT_HEADER,
            rows=tuple(tuple(tables.drift_cells(row)) for row in rows),
            data={"metric": metric.id, **_drift_of(self.found, wanted)},
            arrays={
                "tensor": np.array([label((r.role, r.tensor)) for r in rows]),
                "level": self.grid(metric)[numbers],
                "relative_l2": np.array([_after(self.entries[n], "relative_l2") for n in numbers]),
                "max_ulp": np.array([_after(self.entries[n], "max_ulp") for n in numbers]),
                "max_abs": np.array([_after(self.entries[n], "max_abs") for n in numbers]),
            },
        )


def _after(entry: Entry, field: str) -> NDArray[np.generic]:
    assert entry.judged is not None  # only compared tensors have a number
    return np.asarray(entry.judged.track.after[field])


def _drift_of(found: Examination, wanted: set[Key]) -> dict[str, object]:
    from tracediff.report.comparison import as_object

    whole = as_object(found.comparison)
    rows = [row for row in whole["drift"] if (row["role"], row["tensor"]) in wanted]
    named = {row["layer"] for row in rows}
    layers = [row for row in whole["layers"] if row["layer"] in named]
    said = {key: whole[key] for key in ("verdict", "first_divergence", "steps")}
    return said | {"layers": layers, "drift": rows}


def _when(first: int, last: int, step: int) -> str:
    if step < 0:
        return "before step 0"
    if first == last:
        return f"step {step}"
    return f"step {step}, the worst of {max(first, 0)} to {last}"


def short(key: Key, group: str) -> str:
    """Return a tensor's name within its layer.

    Example:
        >>> short(("gradient", "hidden/kernel"), "hidden"), short(("loss", "loss"), "loss")
        ('kernel gradient', 'loss')
        >>> short(("activation", "flatten"), "flatten"), short(("activation", "flatten"), "")
        ('output', 'flatten output')
    """
    role, name = key
    inner = (name.removeprefix(f"{group}/") or name) if group else name
    word = {
        "weight": "",
        "loss": "",
        "metric": "",
        "input": "",
        "label": "",
        "learning_rate": "",
        "activation": "output",
        "applied_gradient": "applied",
        "sample_weight": "",
    }.get(role, role)
    if role == "activation" and inner == group:
        return "output"
    return f"{inner} {word}".strip()


def _entries(found: Examination) -> list[Entry]:
    ranked: list[tuple[tuple[float, float, int, str], Entry]] = []
    starts: dict[str, float] = {}
    for key, judged in found.case.onset.judged.items():
        pair = judged.track.pair
        group = _group(key[0], pair.layer)
        order = _FIRST if group == "data" else float(pair.order) if pair.layer else _LAST
        starts[group] = min(starts.get(group, _LAST), order)
        place = (float(pair.order), _role_rank(key[0]), key[1])
        ranked.append(((0.0, *place), Entry(key, group, judged=judged)))
    for one in found.comparison.unpaired:
        group = _group(one.role, one.layer)
        starts.setdefault(group, _LAST - 1)
        entry = Entry((one.role, one.tensor), group, unpaired=one)
        ranked.append(((1.0, 0.0, _role_rank(one.role), one.tensor), entry))
    tail = {"loss": 1, "optimizer": 2, "metrics": 3}
    ranked.sort(
        key=lambda one: (starts[one[1].group], tail.get(one[1].group, 0), one[1].group, one[0])
    )
    return [entry for _, entry in ranked]


def _group(role: str, layer: str | None) -> str:
    return _HEAD.get(role) or layer or _TAIL.get(role, role)


def _role_rank(role: str) -> int:
    order = ("weight", "activation", "gradient", "applied_gradient", "slot")
    return order.index(role) if role in order else len(order)


def matcher(text: str) -> Callable[[str], bool] | None:
    """Return what says whether a label passes a filter: a substring, or ``re:`` and a pattern.

    Raises:
        UsageError: The pattern is none.
    """
    if not text:
        return None
    if text.startswith("re:"):
        try:
            pattern = re.compile(text[3:], re.IGNORECASE)
        except re.error as error:
            raise UsageError(f"no pattern: {error}") from None
        return lambda label: pattern.search(label) is not None
    return lambda label: text.lower() in label.lower()
