"""A ladder of controls as text, markdown and JSON."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import asdict

from tracediff.ladder import Control, Ladder, Place, Rung, place
from tracediff.report.markdown import escaped
from tracediff.report.strict import strict
from tracediff.report.terminal import Style, printable, table

SCHEMA = 1
_LEFT = 3
HEADER = ("taken from A", "first divergence", "final loss", "gap to A")
WORDS: dict[Control, str] = {
    "none": "nothing",
    "start": "initial weights",
    "batches": "initial weights and batches",
    "lockstep": "state before every step, and batches",
}


def to_text(found: Ladder, *, style: Style | None = None, width: int = 100) -> str:
    """Return the table and what follows from it.

    Args:
        found: The ladder.
        style: Colours; none where not given.
        width: Columns of the terminal.
    """
    used = style or Style()
    lines = [used.bold(conclusion(found)), ""]
    lines += table([cells(rung) for rung in found.rungs], align="llrr", header=HEADER, style=used)
    lines += [f"A: {printable(found.a)}, final loss {_number(found.final_loss)}"]
    for sentence in asides(found):
        lines += _wrapped(printable(sentence), width, "")
    for rank, one in enumerate(found.places, start=1):
        lines += ["", *_wrapped(f"{rank}. {one.part}{_share(one)}", width, "")]
        lines += _wrapped(printable(one.shown), width, "   ")
        for cause in one.causes[:3]:
            label = f"[{cause.code}, {cause.confidence:.0%}]"
            lines += _wrapped(f"{printable(cause.summary)} {label}", width, "   - ")
    return "\n".join(lines)


def to_markdown(found: Ladder) -> str:
    """Return the table and what follows from it, for a bug report."""
    lines = [f"## {conclusion(found)}", "", f"| {' | '.join(HEADER)} |", "|---|---|---:|---:|"]
    lines += [f"| {' | '.join(map(escaped, cells(rung)))} |" for rung in found.rungs]
    lines += ["", f"A: `{found.a}`, final loss {_number(found.final_loss)}"]
    lines += [f"\n{escaped(sentence)}" for sentence in asides(found)]
    for one in found.places:
        lines += ["", f"- **{one.part}**{_share(one)}: {escaped(one.shown)}"]
        lines += [f"  - `{cause.code}`: {escaped(cause.summary)}" for cause in one.causes[:3]]
    return "\n".join(lines)


def to_json(found: Ladder) -> str:
    """Return the ladder as one JSON object; what is not defined is null."""
    rungs = [
        {
            "control": rung.control,
            "path": rung.path,
            "verdict": rung.comparison.verdict,
            "first_divergence": None
            if rung.comparison.first_divergence is None
            else asdict(rung.comparison.first_divergence),
            "causes": [asdict(cause) for cause in rung.comparison.causes],
            "lockstep": None
            if rung.comparison.lockstep is None
            else asdict(rung.comparison.lockstep),
            "final_loss": rung.final_loss,
            "gap": rung.gap,
            "uncontrolled": list(rung.uncontrolled),
            "left": dict(rung.left),
        }
        for rung in found.rungs
    ]
    plain = {
        "schema": SCHEMA,
        "agree": found.agree,
        "conclusion": conclusion(found),
        "a": found.a,
        "final_loss": found.final_loss,
        "rungs": rungs,
        "places": [asdict(one) for one in found.places],
    }
    return json.dumps(strict(plain), indent=2, ensure_ascii=False, allow_nan=False)


def conclusion(found: Ladder) -> str:
    """Say in one sentence where the cause lies."""
    if found.agree:
        return "The runs agree without control: there is no cause to look for."
    parts = [one.part for one in found.places]
    if not parts:
        return "The runs part without control, and no rung tells why."
    if parts == ["sums"]:
        return "The runs part by what adds up: no single step differs beyond its rounding."
    named = _named(found)
    text = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return f"The cause lies in: {text}." if len(parts) == 1 else f"The causes lie in: {text}."


def _named(found: Ladder) -> list[str]:
    """Return the parts with their shares, those that have one share together as one."""
    named: list[str] = []
    told: set[str] = set()
    of = " of the gap in the final loss"
    for one in found.places:
        if one.part == "sums" or one.part in told:
            continue
        told.update((one.part, *one.shared_with))
        text = " with ".join((one.part, *one.shared_with))
        if one.share is not None:
            text += f" ({one.share:.0%}{of})"
            of = ""
        named.append(text)
    return named


def asides(found: Ladder) -> list[str]:
    """Say what no rung controls: random layers, and state that was not carried over."""
    sentences = []
    if found.uncontrolled:
        sentences.append(
            f"Not controlled: the random numbers of {', '.join(found.uncontrolled)}, so that final "
            "losses hold luck, too, and no shares are told. With --random-layers off on both sides "
            "they draw none."
        )
    if found.left:
        shown = [f"{name} ({why})" for name, why in list(found.left.items())[:_LEFT]]
        more = f" and {len(found.left) - _LEFT} more" if len(found.left) > _LEFT else ""
        sentences.append(f"Not carried over from A: {', '.join(shown)}{more}.")
    return sentences


def cells(rung: Rung) -> list[str]:
    """Return a rung as a line of the table."""
    comparison, first = rung.comparison, rung.comparison.first_divergence
    if comparison.agree:
        where = "none: " + ("identical" if comparison.verdict == "identical" else "within rounding")
    else:
        where = "tensors without a partner" if first is None else place(first)
    if comparison.lockstep is not None and not comparison.agree:
        stages = [one for one in comparison.lockstep.stages if one.origin_steps]
        counts = ", ".join(f"{one.stage} at {one.origin_steps}" for one in stages)
        where = f"{counts} of {comparison.lockstep.steps} steps" if counts else where
    # In lockstep a run goes A's way, whatever its own steps would have led to.
    gap = "-" if rung.control == "lockstep" else _number(rung.gap, sign="+")
    return [WORDS[rung.control], printable(where), _number(rung.final_loss), gap]


def _share(one: Place) -> str:
    if one.share is None:
        return ""
    more = f", together with {' and '.join(one.shared_with)}" if one.shared_with else ""
    more += ", which it narrows" if one.share < 0.0 else ""
    return f" ({one.share:.0%} of the gap in the final loss{more})"


def _number(value: float, *, sign: str = "") -> str:
    return f"{value:{sign}.4g}" if math.isfinite(value) else "?"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(60, width),
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
