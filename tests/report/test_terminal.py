"""Text for terminals lines up, and carries colour only where it may."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracediff.report.terminal import (
    Style,
    display_width,
    printable,
    shorten,
    table,
    wants_colour,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
    ],
)
def test_only_a_terminal_that_wants_colour_gets_it(stream, environment, expected):
    assert wants_colour(stream, environment) is expected


@given(st.text())
def test_what_is_printable_stays_on_its_line_and_moves_no_cursor(text):
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert "Cc" not in set(map(unicodedata.category, shown))
    if text.isprintable():
        assert shown == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "M"])), st.integers(0, 30))
def test_a_shortened_text_fits(text, width):
    shown = shorten(text, width)
    assert display_width(shown) <= width
    assert shown == text or display_width(text) > width


words = st.text("ab文é×", max_size=8)


@given(st.lists(st.lists(words, min_size=3, max_size=3), min_size=1), st.booleans())
def test_columns_of_a_table_line_up(rows, colour):
    style = Style(colour=colour)
    ended = [[*map(style.red, row), "|"] for row in rows]
    lines = table(ended, align="lrl", indent=2)
    assert len({display_width(line) for line in lines}) == 1
    assert all(line.startswith("  ") and line.endswith("|") for line in lines)


def test_short_rows_are_filled_and_headers_are_faint():
    lines = table([["a", "1"], ["bcd"]], align="lr", header=["x", "y"], style=Style(colour=True))
    assert lines == ["\x1b[2mx\x1b[0m    \x1b[2my\x1b[0m", "a    1", "bcd"]


def test_a_table_of_nothing_has_no_lines():
    assert table([]) == []
