"""A comparison for a reader at a terminal: the answer first, then the evidence."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from tracediff.model import Comparison, Finding, Unpaired
from tracediff.report.comparison import _lockstep as lockstep
from tracediff.report.comparison import _phrases as phrases
from tracediff.report.comparison import _tables as tables
from tracediff.report.terminal import Style, printable, shorten, table

_LEAST_WIDTH = 80
_NAME_WIDTH = 24
_ROWS = 20
_LINES = 8


def to_text(comparison: Comparison, *, style: Style | None = None, width: int = 100) -> str:
    """Return the report.

    Args:
        comparison: What was found.
        style: Colours; none where not given.
        width: Columns of the terminal; fewer than 80 are taken for 80.
    """
    chosen = style or Style()
    return "\n".join(_Report(comparison, chosen, max(_LEAST_WIDTH, width)).lines())


class _Report:
    """The sections of one report."""

    def __init__(self, comparison: Comparison, style: Style, width: int) -> None:
        self.comparison = comparison
        self.style = style
        self.width = width

    def lines(self) -> Iterator[str]:
        comparison, style = self.comparison, self.style
        colour = style.red if comparison.verdict == "diverged" else style.green
        yield style.bold(colour(phrases.verdict(comparison)))
        for line in phrases.stacks(comparison):
            yield from map(style.dim, self._wrapped(line, first="", rest="   "))
        floor = phrases.floor(comparison)
        if floor is not None:
            yield from map(style.dim, self._wrapped(floor, first="", rest="   "))
        yield from self._first()
        yield from self._lockstep()
        yield from self._causes()
        yield from self._layers()
        yield from self._drift()
        yield from self._tolerances()
        yield from self._unpaired()
        yield from self._pairs()
        yield from self._notes()

    def _section(self, title: str) -> Iterator[str]:
        yield ""
        yield self.style.bold(title)

    def _wrapped(self, text: str, *, first: str = "  ", rest: str = "  ") -> list[str]:
        return textwrap.wrap(
            text,
            self.width,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _first(self) -> Iterator[str]:
        first, bits = self.comparison.first_divergence, self.comparison.first_bit_difference
        if first is not None:
            yield from self._section("First divergence")
            yield from self._wrapped(phrases.place(first))
            yield from self._wrapped(phrases.size(first))
            worst = phrases.worst(first)
            if worst:
                yield from self._wrapped(worst)
            if first.agreed:
                yield from self._wrapped("Before it:")
                for phrase in first.agreed:
                    yield from self._wrapped(printable(phrase), first="    ", rest="      ")
        if bits is not None and (first is None or _elsewhere(bits, first)):
            yield from self._section("First difference of any size")
            yield from self._wrapped(phrases.place(bits))
            yield from self._wrapped(phrases.size(bits))

    def _lockstep(self) -> Iterator[str]:
        found = self.comparison.lockstep
        if found is None:
            return
        yield from self._section("Lockstep")
        yield from self._wrapped(lockstep.head(found))
        for line in lockstep.stages(found):
            yield from self._wrapped(line, first="    ", rest="      ")
        for line in lockstep.tensors(found, _LINES):
            yield from self._wrapped(printable(line), first="    - ", rest="      ")

    def _causes(self) -> Iterator[str]:
        if self.comparison.causes:
            yield from self._section("Causes" if len(self.comparison.causes) > 1 else "Cause")
        for rank, cause in enumerate(self.comparison.causes, start=1):
            yield from self._cause(rank, cause)

    def _cause(self, rank: int, cause: Finding) -> Iterator[str]:
        head, rest = f"  {rank}. ", "     "
        label = f"[{cause.code}, {cause.confidence:.0%}]"
        wrapped = self._wrapped(f"{printable(cause.summary)} {label}", first=head, rest=rest)
        for line in wrapped:
            yield line.replace(label, self.style.yellow(label))
        for sentence in phrases.reasons(cause):
            yield from self._wrapped(printable(sentence), first="     - ", rest="       ")

    def _layers(self) -> Iterator[str]:
        rows = tables.ranked_layers(self.comparison.layers)
        if not rows:
            return
        yield from self._section(
            "Drift by layer (relative L2 of its tensors together, the largest)"
        )
        yield from self._table(
            [tables.layer_cells(row) for row in rows[:_LINES]],
            header=tables.LAYER_HEADER,
            align=tables.LAYER_ALIGN,
            spare=tables.LAYER_SPARE,
        )
        if len(rows) > _LINES:
            yield f"  ... {len(rows) - _LINES} more, --format json has all"

    def _drift(self) -> Iterator[str]:
        rows = tables.ranked(self.comparison.drift)
        if rows:
            yield from self._section("Drift (relative L2 by tensor; steps where it first differs)")
            yield from self._table(
                [tables.drift_cells(row) for row in rows[:_ROWS]],
                header=tables.DRIFT_HEADER,
                align=tables.DRIFT_ALIGN,
                spare=tables.DRIFT_SPARE,
            )
            if len(rows) > _ROWS:
                yield f"  ... {len(rows) - _ROWS} more, --format json has all"
        equal = phrases.quiet(self.comparison)
        if equal:
            yield "" if not rows else f"  {equal}"
            if not rows:
                yield f"{equal[:1].upper()}{equal[1:]}."

    def _table(
        self, cells: list[list[str]], *, header: Sequence[str], align: str, spare: Sequence[str]
    ) -> list[str]:
        """Return a table; columns in ``spare`` are left out until names have room."""
        lines = [list(header), *cells]
        # What no row has anything in says nothing.
        kept = [n for n in range(len(header)) if any(line[n] for line in cells)]
        for name in spare:
            if self._room(lines, kept) >= _NAME_WIDTH:
                break
            if header.index(name) in kept:
                kept.remove(header.index(name))
        room = max(_NAME_WIDTH, self._room(lines, kept))
        head, *rows = ([line[column] for column in kept] for line in lines)
        return table(
            [[shorten(row[0], room), *row[1:]] for row in rows],
            align="".join(align[column] for column in kept),
            header=head,
            indent=2,
            style=self.style,
        )

    def _room(self, lines: list[list[str]], kept: list[int]) -> int:
        """Return the columns that are left for the first cell."""
        widths = (max(len(line[column]) for line in lines) + 2 for column in kept[1:])
        return self.width - 2 - sum(widths)

    def _tolerances(self) -> Iterator[str]:
        """Say what would pass, where tolerances were given and did not."""
        first = self.comparison.first_divergence
        if first is None or first.bound is None:
            return
        failed = [row for row in self.comparison.drift if row.first_significant_step is not None]
        yield from self._section("Tolerances that would pass")
        for row in failed[:_ROWS]:
            yield from self._wrapped(
                f"{row.role} {printable(row.tensor)}: {phrases.would_pass(row)}", rest="    "
            )
        if len(failed) > _ROWS:
            yield self.style.dim(f"  {len(failed) - _ROWS} more; --format json has them all")

    def _unpaired(self) -> Iterator[str]:
        found = sorted(self.comparison.unpaired, key=lambda one: not one.matters)
        if not found:
            return
        yield from self._section("Without a partner")
        for one in found[:_LINES]:
            yield from self._wrapped(_without(one), rest="    ")
        if len(found) > _LINES:
            yield f"  ... {len(found) - _LINES} more, --format json has all"

    def _pairs(self) -> Iterator[str]:
        found = phrases.pairs(self.comparison)
        if not found:
            return
        yield from self._section("Paired by other than their names")
        for line in found[:_LINES]:
            yield from self._wrapped(printable(line), rest="    ")
        if len(found) > _LINES:
            yield f"  ... {len(found) - _LINES} more, --format json has all"

    def _notes(self) -> Iterator[str]:
        notes = [*self.comparison.notes, *phrases.events(self.comparison)]
        if notes:
            yield from self._section("Notes")
        for note in notes[:_LINES]:
            yield from self._wrapped(printable(note), rest="    ")
        if len(notes) > _LINES:
            yield f"  ... {len(notes) - _LINES} more, --format json has all"


def _elsewhere(bits: object, first: object) -> bool:
    places = [
        (
            getattr(one, "step", None),
            getattr(one, "stage", None),
            getattr(one, "tensor", None),
            getattr(one, "role", None),
        )
        for one in (bits, first)
    ]
    return places[0] != places[1]


def _without(one: Unpaired) -> str:
    importance = "" if one.matters else " (no matter)"
    return f"{phrases.unpaired(one)}{importance}"
