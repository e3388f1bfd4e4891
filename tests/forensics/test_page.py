"""docs/forensics.md lists the rules of the shelf, as they are."""

from __future__ import annotations

from support.stacks import REPOSITORY

from tracediff.forensics import SHELF

PAGE = REPOSITORY / "docs" / "forensics.md"


def rows() -> list[str]:
    """The table, a line a rule; paste what is missing."""
    return [
        f"| `{rule.key}` | `{rule.words}` | {', '.join(rule.stacks)} | "
        f"{' '.join(rule.source.split())} |"
        for rule in SHELF
    ]


def test_the_page_lists_every_rule_and_no_other():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| rule | formula | where | source |") + 2
    assert lines[start : start + len(SHELF) + 1] == [*rows(), ""]
