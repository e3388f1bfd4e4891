"""What needs no terminal: levels, columns, filters, places, settings, exports."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracediff.compare.parts import Series
from tracediff.drift.cells import CELL
from tracediff.errors import UsageError
from tracediff.report.terminal import display_width
from tracediff_tui import palette
from tracediff_tui.columns import columns
from tracediff_tui.sheet import Sheet, write
from tracediff_tui.views import settings
from tracediff_tui.views.elements import bits_of, exact
from tracediff_tui.views.overview import matcher
from tracediff_tui.views.slices import Slice
from tracediff_tui.widgets.heatmap import _shortened


def cell(**fields) -> Series:
    made = np.zeros(1, CELL)
    made["present"] = made["known"] = True
    for name, value in fields.items():
        made[name] = value
    return made


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({}, palette.EQUAL),
        ({"differs": True, "max_ulp": 1, "relative_l2": 1e-7}, 1),
        ({"differs": True, "max_ulp": 16, "relative_l2": 1e-7}, 2),
        ({"differs": True, "max_ulp": 99, "relative_l2": 9e-6}, 3),
        ({"differs": True, "max_ulp": 99, "relative_l2": 1e-5}, 4),
        ({"differs": True, "max_ulp": 99, "relative_l2": 1e-2}, 5),
        ({"differs": True, "max_ulp": 99, "relative_l2": 0.5}, 6),
        ({"differs": True, "max_ulp": 0, "relative_l2": 0.5}, 6),
        ({"differs": True, "mismatched": 1}, palette.BROKEN),
        ({"differs": True, "reshaped": True, "known": False}, palette.RESHAPED),
        ({"differs": True, "known": False}, palette.UNKNOWN),
        ({"differs": True, "at_least": True, "relative_l2": 1e-7}, palette.UNKNOWN),
        ({"differs": True, "at_least": True, "relative_l2": 1e-2}, 5),
        ({"present": False}, palette.ABSENT),
    ],
)
def test_levels(fields, level):
    found = palette.levels(palette.METRICS[0], cell(**fields), np.array([1e-6]))
    assert found.tolist() == [level]


def test_every_metric_has_a_level_for_every_difference():
    cells = np.concatenate(
        [
            cell(differs=True, max_ulp=10**n, relative_l2=10.0**-n, max_abs=10.0**-n, cosine=0.5)
            for n in range(12)
        ]
    )
    for metric in palette.METRICS:
        found = palette.levels(metric, cells, np.full(12, 1e-6))
        assert found.min() >= 1
        assert found.max() <= 6
        assert len(metric.words) == 6


def test_a_bin_shows_the_worst_and_never_a_mean():
    grid = np.array([[0, 0, 6, 0], [1, palette.ABSENT, palette.BROKEN, 3]], np.uint8)
    assert palette.worst_in(grid, np.array([0, 2])).tolist() == [[0, 6], [1, palette.BROKEN]]


def test_levels_differ_without_colour():
    assert len(set(palette.GLYPHS)) == len(palette.GLYPHS)
    assert len(set(palette.ASCII_GLYPHS)) == len(palette.ASCII_GLYPHS)
    assert palette.ASCII_GLYPHS.isascii()


@given(st.integers(0, 50), st.integers(1, 30_000), st.integers(1, 250), st.booleans())
def test_columns_hold_every_step_once(start, count, room, even):
    found = columns(start, start + count, room, even=even)
    spans = [found.span(i) for i in range(len(found))]
    assert spans[0][0] == start
    assert spans[-1][1] == start + count - 1
    assert all(one[1] + 1 == other[0] for one, other in itertools.pairwise(spans))
    assert all(first <= last for first, last in spans)
    assert len(found) * found.width <= max(room, 1)
    for step in (start, start + count // 2, start + count - 1):
        first, last = found.span(found.of(step))
        assert first <= step <= last


@pytest.mark.parametrize("value", [0.1, -1e-30, 1e30, 1.5, 123456.789, 0.0, -0.0, np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_decimals_give_the_bits_back(value, dtype):
    with np.errstate(over="ignore"):
        number = np.array([value], dtype)
    again = np.array([float(exact(number[0]))]).astype(dtype)
    assert bits_of(again) == bits_of(number)


def test_a_filter_is_a_text_or_a_pattern():
    assert matcher("") is None
    assert matcher("KERN")("hidden kernel")
    assert matcher("re:^h.*l$")("hidden kernel")
    assert not matcher("re:^k")("hidden kernel")
    with pytest.raises(UsageError):
        matcher("re:(")


def test_slices_turn_and_are_pinned():
    one = Slice.of((3, 4, 5), (0, 1, 2))
    assert (one.down, one.across, one.words()) == (1, 2, "[0, :, :]")
    turned = one.turned(0)
    assert (turned.down, turned.across) == (2, 1)
    assert one.pinned(1).at == (1, 1, 2)
    assert one.pinned(-1).at == (2, 1, 2)
    assert one.moved(99, -1).at == (0, 3, 0)
    assert Slice.of((), ()).extent == (1, 1)


def test_settings_stand_side_by_side_with_what_differs(digits):
    rows = settings.settings(digits.case.a, digits.case.b, digits.comparison)
    by_key = {(row.section, row.key): row for row in rows}
    assert by_key["versions", "python"].mark == "≠"
    assert by_key["optimizer", "epsilon"].mark == "="
    shown = settings.shown(rows, everything=False)
    assert {row.mark for row in shown} <= {"≠", "+", "-"}
    assert len(settings.shown(rows, everything=True)) == len(rows)


def test_an_export_overwrites_nothing_and_knows_its_formats(tmp_path):
    sheet = Sheet("title", ("fact",), ("a",), (("x|y",),), {"nan": float("nan")})
    write(sheet, tmp_path / "a.md", svg="")
    assert "x\\|y" in (tmp_path / "a.md").read_text()
    with pytest.raises(UsageError, match="already"):
        write(sheet, tmp_path / "a.md", svg="")
    with pytest.raises(UsageError, match="one of"):
        write(sheet, tmp_path / "a.xlsx", svg="")
    with pytest.raises(UsageError, match="no arrays"):
        write(sheet, tmp_path / "a.npz", svg="")
    with pytest.raises(UsageError, match="cannot be written"):
        write(sheet, tmp_path / "no" / "a.md", svg="")
    write(sheet, tmp_path / "a.json", svg="")
    assert '"nan": null' in (tmp_path / "a.json").read_text()


@given(st.text("abc層ー/_", max_size=40), st.integers(6, 30))
def test_labels_keep_the_sign_before_them_and_never_take_more_room(name, width):
    label = f"▸ {name}"
    shown = _shortened(label, width)
    assert display_width(shown) <= width
    assert shown[:2] == "▸ "
    assert shown == label or "…" in shown
    assert (display_width(label) <= width) == (shown == label)
