"""What a report says beside its causes: lockstep, notes, the noise floor, what has no partner."""

from __future__ import annotations

from dataclasses import dataclass

from tracediff.compare import Examination
from tracediff.model import Floor, Lockstep
from tracediff.report.comparison import lockstep, phrases
from tracediff.report.terminal import printable
from tracediff_tui.views.places import Spot


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, and where it leads.

    Attributes:
        head: What kind it is.
        text: The sentence.
        spot: The place it speaks of, or None.
    """

    head: str
    text: str
    spot: Spot | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """What is listed after the findings.

    Attributes:
        code: What it is.
        summary: One sentence.
        sentences: All of it.
    """

    code: str
    summary: str
    sentences: tuple[Sentence, ...]


def remarks(found: Examination) -> tuple[Remark, ...]:
    """Return what the report says beside its causes."""
    comparison = found.comparison
    result = []
    if comparison.lockstep is not None:
        result.append(_lockstep(comparison.lockstep))
    notes = [Sentence("note", printable(note)) for note in comparison.notes]
    notes += [Sentence("recorder", text) for text in phrases.events(comparison)]
    notes += [Sentence("paired", text) for text in phrases.pairs(comparison)]
    if notes:
        summary = notes[0].text if len(notes) == 1 else f"{len(notes)} notes on the comparison"
        result.append(Remark("notes", summary, tuple(notes)))
    floor = phrases.floor(comparison)
    if floor is not None and comparison.verdict != "identical":
        result.append(_floor(floor, comparison.floor))
    if comparison.unpaired:
        count = len(comparison.unpaired)
        summary = f"{count} tensor{'s have' if count > 1 else ' has'} no partner in the other run"
        lines = [Sentence("unpaired", phrases.unpaired(one)) for one in comparison.unpaired]
        result.append(Remark("unpaired", summary, tuple(lines)))
    return tuple(result)


def _floor(text: str, found: Floor | None) -> Remark:
    """Return which noise floor was used, and the tensor that came nearest to it."""
    spot = None
    if found is not None and found.role and found.tensor and found.step is not None:
        spot = Spot((found.role, found.tensor), found.step)
    return Remark("floor", printable(text), (Sentence("floor", printable(text), spot),))


def _lockstep(found: Lockstep) -> Remark:
    """Return the local errors, each with the step at which it is worst."""
    head = lockstep.head(found)
    worst = zip(found.errors, lockstep.tensors(found, len(found.errors)), strict=True)
    sentences = (
        Sentence("what", head),
        *(Sentence("stage", printable(text)) for text in lockstep.stages(found)),
        *(
            Sentence("tensor", printable(text), Spot((one.role, one.tensor), one.worst_step))
            for one, text in worst
        ),
    )
    return Remark("lockstep", head, sentences)
