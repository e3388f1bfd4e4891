"""docs/tui.md names every key, as the one registry has it."""

from __future__ import annotations

from pathlib import Path

from tracediff_tui.registry import KEYS, TITLES

_PAGE = Path(__file__).parents[2] / "docs" / "tui.md"


def rows():
    """Yield the table of keys as the page has it."""
    for key in KEYS:
        everywhere = {"overview", "step", "tensor", "findings", "settings"} <= set(key.screens)
        where = "all" if everywhere else ", ".join(dict.fromkeys(TITLES[s] for s in key.screens))
        shown = key.shown.replace("⏎", "Enter")
        yield f"| `{shown}` | {key.help} | {where} | `{key.id}` |"


def test_the_table_of_keys_is_the_registry():
    page = _PAGE.read_text(encoding="utf-8").splitlines()
    for row in rows():
        assert row in page
