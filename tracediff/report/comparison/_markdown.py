"""A comparison in markdown, to be pasted into a bug report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracediff.model import Comparison
from tracediff.report.comparison import _lockstep as lockstep
from tracediff.report.comparison import _phrases as phrases
from tracediff.report.comparison import _tables as tables
from tracediff.report.markdown import escaped

_ROWS = 40


def to_markdown(comparison: Comparison) -> str:
    """Return the report in GitHub-flavoured markdown."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"## {escaped(phrases.verdict(comparison))}"
    yield ""
    for line in phrases.stacks(comparison):
        yield f"- {escaped(line)}"
    floor = phrases.floor(comparison)
    if floor is not None:
        yield f"- {escaped(floor)}"
    first, bits = comparison.first_divergence, comparison.first_bit_difference
    if first is not None:
        yield from ("", "### First divergence", "")
        yield f"{escaped(phrases.place(first))}; {phrases.size(first)}."
        worst = phrases.worst(first)
        if worst:
            yield from ("", f"`{worst}`")
        if first.agreed:
            yield from ("", "Before it:", "")
            yield from (f"- {escaped(phrase)}" for phrase in first.agreed)
    if bits is not None and bits != first:
        yield from ("", "### First difference of any size", "")
        yield f"{escaped(phrases.place(bits))}; {phrases.size(bits)}."
    if comparison.lockstep is not None:
        yield from ("", "### Lockstep", "", escaped(lockstep.head(comparison.lockstep)), "")
        lines = [
            *lockstep.stages(comparison.lockstep),
            *lockstep.tensors(comparison.lockstep, _ROWS),
        ]
        yield from (f"- {escaped(line)}" for line in lines)
    if comparison.causes:
        yield from ("", "### Causes", "")
    for rank, cause in enumerate(comparison.causes, start=1):
        yield f"{rank}. **`{cause.code}`** ({cause.confidence:.0%}): {escaped(cause.summary)}"
        yield from (f"   - {escaped(sentence)}" for sentence in phrases.reasons(cause))
    yield from _layers(comparison)
    yield from _drift(comparison)
    if comparison.unpaired:
        yield from ("", "### Without a partner", "")
        yield from (f"- {escaped(phrases.unpaired(one))}" for one in comparison.unpaired[:_ROWS])
    paired = phrases.pairs(comparison)
    if paired:
        yield from ("", "### Paired by other than their names", "")
        yield from (f"- {escaped(line)}" for line in paired[:_ROWS])
    notes = [*comparison.notes, *phrases.events(comparison)]
    if notes:
        yield from ("", "### Notes", "")
        yield from (f"- {escaped(note)}" for note in notes[:_ROWS])


def _layers(comparison: Comparison) -> Iterator[str]:
    rows = tables.ranked_layers(comparison.layers)
    if rows:
        yield from ("", "### Drift by layer", "", f"{tables.LAYERS}.", "")
        cells = [tables.layer_cells(row) for row in rows]
        yield from _table(cells, tables.LAYER_HEADER, tables.LAYER_ALIGN)


def _drift(comparison: Comparison) -> Iterator[str]:
    rows = tables.ranked(comparison.drift)
    if rows:
        yield from ("", "### Drift", "")
        cells = [tables.drift_cells(row) for row in rows]
        yield from _table(cells, tables.DRIFT_HEADER, tables.DRIFT_ALIGN)


def _table(cells: Sequence[Sequence[str]], header: Sequence[str], align: str) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    rules = ("---:" if side == "r" else "---" for side in align)
    yield f"| {' | '.join(rules)} |"
    for name, *rest in cells[:_ROWS]:
        yield f"| `{name.replace('|', chr(92) + '|')}` | {' | '.join(rest)} |"
    if len(cells) > _ROWS:
        yield f"\n{len(cells) - _ROWS} more rows are left out."
