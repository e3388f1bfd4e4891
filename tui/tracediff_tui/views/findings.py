"""Causes, ranked, each with its evidence as places to go to, and what it leaves open."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracediff.compare import Examination
from tracediff.model import CAUSES, Finding
from tracediff.report.comparison import phrases
from tracediff.report.terminal import printable
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.places import Key, Spot, finding_spot, mentioned, step_mentioned
from tracediff_tui.views.remarks import Remark, remarks

HEADER = ("#", "code", "conf", "step", "cause")


@dataclass(frozen=True, slots=True)
class DetailLine:
    """A line about a finding.

    Attributes:
        head: What kind of line it is, at the first line of each.
        text: The line.
        spot: Where it leads, or None.
        settings: Whether it leads to the configuration.
        whole: All that the line is a part of, for copying.
    """

    head: str
    text: str
    spot: Spot | None = None
    settings: bool = False
    whole: str = ""


def finding_cells(number: int, finding: Finding) -> tuple[str, ...]:
    """Return a finding as `HEADER` lists it."""
    return (
        str(number + 1),
        finding.code,
        f"{finding.confidence:.0%}",
        "-" if finding.step is None else str(finding.step),
        printable(finding.summary),
    )


def _wrapped(head: str, text: str, width: int, **leads: Any) -> list[DetailLine]:
    # What a reader may copy, such as the name of a known change, stays whole.
    parts = textwrap.wrap(text, max(20, width - 15), break_on_hyphens=False)
    return [
        DetailLine("" if number else head, part, whole=text, **leads)
        for number, part in enumerate(parts or [""])
    ]


def remark_detail(remark: Remark, width: int) -> tuple[DetailLine, ...]:
    """Return all that a remark says, wrapped to a width."""
    lines: list[DetailLine] = []
    seen = ""
    for one in remark.sentences:
        head = "-" if one.head == seen else one.head
        lines += _wrapped(head, one.text, width, spot=one.spot)
        seen = one.head
    return tuple(lines)


def detail(
    found: Examination, finding: Finding, width: int, *, linked: bool = False
) -> tuple[DetailLine, ...]:
    """Return all about a finding, wrapped to a width.

    Args:
        found: What was found.
        finding: The finding.
        width: Of the lines.
        linked: Whether there is a setting that the finding speaks of.
    """
    lines: list[DetailLine] = []

    def say(head: str, text: str, *, spot: Spot | None = None, settings: bool = False) -> None:
        lines.extend(_wrapped(head, text, width, spot=spot, settings=settings))

    place = finding_spot(found, finding)
    say(
        "what", f"{printable(finding.summary)} ({finding.code}: {CAUSES[finding.code]})", spot=place
    )
    if finding.subject:
        say("about", printable(finding.subject), spot=None if linked else place, settings=linked)
    if finding.a is not None or finding.b is not None:
        for side, value in (("A", finding.a), ("B", finding.b)):
            say(side, _value(value), spot=None if linked else place, settings=linked)
    keys = list(found.case.onset.judged)
    for number, sentence in enumerate(finding.evidence, start=1):
        say(
            f"evidence {number}" if number == 1 else f"         {number}",
            printable(sentence),
            spot=evidence_spot(found, sentence, keys, place),
        )
    for sentence in (*map(printable, finding.against), *doubts(found, finding)):
        say("against", sentence)
    for sentence in finding.not_explained:
        say("not explained", printable(sentence))
    if finding.remedy:
        # Room is left for how to copy it.
        lines += _wrapped("try", printable(finding.remedy), width - 16)
    return tuple(lines)


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text)


def evidence_spot(
    found: Examination, sentence: str, keys: list[Key], otherwise: Spot | None
) -> Spot | None:
    """Return the place that a sentence of evidence speaks of."""
    key, step = mentioned(sentence, keys), step_mentioned(sentence)
    if step is not None and step >= found.case.steps:
        step = None
    if key is None and step is None:
        return otherwise
    base = otherwise or Spot(keys[0], 0)
    return Spot(key or base.key, base.step if step is None else step)


def doubts(found: Examination, finding: Finding) -> list[str]:
    """Return what stands beside a finding: little confidence, and other findings."""
    lines = []
    if finding.confidence < 0.5:
        lines.append(f"confidence is only {finding.confidence:.0%}")
    others = [one for one in found.comparison.causes if one is not finding]
    if others:
        codes = ", ".join(dict.fromkeys(one.code for one in others))
        count = "another finding stands" if len(others) == 1 else f"{len(others)} others stand"
        lines.append(f"{count} beside it: {codes}")
    return lines


_REPORTED = (
    "verdict",
    "first_bit_difference",
    "first_divergence",
    "causes",
    "lockstep",
    "floor",
    "unpaired",
    "steps",
    "notes",
)


def findings_sheet(found: Examination) -> Sheet:
    """Return all findings for export: as the report has them."""
    from tracediff.report.comparison import as_object

    whole = as_object(found.comparison)
    causes = found.comparison.causes
    beside = [
        f"{remark.code}: {sentence.text}"
        for remark in remarks(found)
        for sentence in remark.sentences
    ]
    return Sheet(
        title=phrases.verdict(found.comparison),
        facts=tuple(
            f"{n}. {printable(one.summary)} [{one.code}, {one.confidence:.0%}]: "
            + "; ".join(map(printable, phrases.reasons(one)))
            for n, one in enumerate(causes, start=1)
        )
        + tuple(beside),
        header=HEADER,
        rows=tuple(finding_cells(n, one) for n, one in enumerate(causes)),
        data={key: whole[key] for key in _REPORTED},
        arrays={
            "code": np.array([one.code for one in causes]),
            "confidence": np.array([one.confidence for one in causes]),
            "step": np.array([-1 if one.step is None else one.step for one in causes]),
            "summary": np.array([one.summary for one in causes]),
        },
    )
