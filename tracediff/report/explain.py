"""Views of the catalogue: one entry, or all of them, as text, JSON or markdown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict

from tracediff.catalogue import FAMILIES, Change, Code, changes, codes
from tracediff.report.terminal import Style, table

FORMATS = ("text", "json", "markdown")
"""What an entry can be written as."""


def to_json(entry: Code | Change | None) -> str:
    """Return an entry as one JSON object, or for None all of them."""
    if entry is not None:
        return json.dumps(_as_object(entry), indent=2, ensure_ascii=False)
    every = {"codes": [*map(_as_object, codes())], "changes": [*map(_as_object, changes())]}
    return json.dumps(every, indent=2, ensure_ascii=False)


def _as_object(entry: Code | Change) -> dict[str, object]:
    found = asdict(entry)
    if isinstance(entry, Code):
        found["changes"] = [change.id for change in changes() if change.code == entry.code]
    return found


def to_text(entry: Code | Change | None, *, style: Style | None = None, width: int = 100) -> str:
    """Return an entry for a reader at a terminal, or for None a list of all.

    Args:
        entry: A cause code, a known change, or None.
        style: Colours; none where not given.
        width: Columns of the terminal.
    """
    chosen = style or Style()
    lines = list(_listed(chosen) if entry is None else _entry(entry, chosen, max(60, width)))
    return "\n".join(lines)


def _listed(style: Style) -> Iterator[str]:
    yield style.bold("Cause codes")
    yield from table([[style.cyan(one.code), one.means] for one in codes()], indent=2)
    yield ""
    yield style.bold("Known changes between versions")
    yield from table([[style.cyan(one.id), one.title] for one in changes()], indent=2)


def _entry(entry: Code | Change, style: Style, width: int) -> Iterator[str]:
    if isinstance(entry, Code):
        yield f"{style.bold(entry.code)}: {entry.means}"
    else:
        yield style.bold(entry.title)
    for title, text in _facts(entry):
        yield ""
        yield style.cyan(title)
        yield from textwrap.wrap(
            text,
            width,
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _facts(entry: Code | Change) -> list[tuple[str, str]]:
    if isinstance(entry, Code):
        known = [one for one in changes() if one.code == entry.code]
        facts = [("asserted when", entry.asserted)]
        if known:
            names = "; ".join(f"{one.id} ({one.title})" for one in known)
            facts.append(("known changes", names))
        return facts
    return [
        ("what changed", entry.what),
        ("from", ", ".join(FAMILIES[one] for one in entry.old)),
        ("to", ", ".join(FAMILIES[one] for one in entry.new)),
        ("in the configuration", entry.configuration),
        ("in the numbers", entry.numbers),
        ("found as", entry.code),
        ("to get the old", entry.remedy),
        ("source", entry.source),
    ]


def to_markdown(entry: Code | Change | None) -> str:
    """Return an entry as markdown, or for None the page of all known changes."""
    if entry is not None:
        return "\n".join(_section(entry, level=2)).rstrip()
    return "\n".join(_page()).rstrip() + "\n"


def _page() -> Iterator[str]:
    yield "# Known changes between versions"
    yield ""
    yield from textwrap.wrap(
        "What is known to differ between versions of Keras and TensorFlow in training. "
        "`tracediff compare` names an entry only where the two runs come from versions on its two "
        "sides and the numbers show it; `tracediff explain NAME` prints one. Made from "
        "tracediff/catalogue/changes.toml by `tracediff explain --format markdown`.",
        100,
    )
    for one in changes():
        yield ""
        yield from _section(one, level=2)


def _section(entry: Code | Change, *, level: int) -> Iterator[str]:
    name = entry.code if isinstance(entry, Code) else entry.id
    yield f"{'#' * level} {name}"
    yield ""
    yield f"{entry.means if isinstance(entry, Code) else entry.title}."
    yield ""
    for title, text in _facts(entry):
        shown = f"`{text}`" if title == "found as" else text
        yield f"- **{title}**: {shown}"
