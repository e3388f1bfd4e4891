"""docs/ways.md is what the marks of the tests say."""

from __future__ import annotations

from support import ways_table


def test_the_page_of_ways_is_current():
    # Given the marks of the hook tests, then the page is what they make; else write it anew:
    # python tests/support/ways_table.py
    assert ways_table.PAGE.read_text(encoding="utf-8") == ways_table.page()


def test_every_mark_names_known_stacks_and_makes_a_row():
    table = ways_table.rows()
    assert len(table) > 20
    assert all(cells for cells in table.values())
