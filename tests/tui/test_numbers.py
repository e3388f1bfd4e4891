"""The interface says what the JSON report says: every number and word, held against each other."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from support.screens import press, settle, status, text

from tracediff.compare import examine
from tracediff.compare.parts import measure
from tracediff.report.comparison import numbers, phrases, to_json
from tracediff.trace import open_trace
from tracediff_tui import palette
from tracediff_tui.views import findings, overview, places, steps
from tracediff_tui.views.elements import SORTS, look
from tracediff_tui.views.places import Spot

TRACES = Path(__file__).parents[2] / "samples" / "digits" / "traces"
# One pair that diverges, and one that differs by rounding only.
PAIRS = [("keras2.3", "keras3"), ("keras3", "tf2.3")]


@pytest.fixture(scope="module", params=PAIRS, ids=" and ".join)
def digits(request):
    """The same task on two stacks, compared."""
    runs = [open_trace(TRACES / f"{stack}.zarr").runs[0] for stack in request.param]
    return examine(*runs)


@pytest.fixture(scope="module")
def report(digits):
    return json.loads(to_json(digits.comparison))


def test_every_row_of_the_overview_is_a_row_of_the_report(digits, report):
    shown = overview.Overview(digits)
    assert {(row["role"], row["tensor"]) for row in report["drift"]} == set(shown.number)
    for row in report["drift"]:
        judged = shown.entries[shown.number[row["role"], row["tensor"]]].judged
        cells = judged.track.after
        whole = cells if judged.track.before is None else np.r_[judged.track.before[:1], cells]
        assert row["max_ulp"] == (int(whole["max_ulp"].max()) if judged.track.floats else None)
        assert row["max_abs"] == whole["max_abs"].max()
        assert row["relative_l2"]["max"] == pytest.approx(whole["relative_l2"].max(), rel=0)
        levels = shown.grid(palette.METRICS[0])[shown.number[row["role"], row["tensor"]]]
        equal = np.isin(levels, (palette.EQUAL, palette.ABSENT)).all()
        assert equal == (row["first_step"] is None)


def test_the_first_divergence_is_the_one_of_the_report(digits, report):
    first = report["first_divergence"] or report["first_bit_difference"]
    spot = places.first_spot(digits)
    assert (spot.key, spot.step) == ((first["role"], first["tensor"]), first["step"])
    [line] = [one for one in steps.step_lines(digits, spot.step) if one.spot == spot]
    assert (line.relative_l2, line.max_abs) == (first["relative_l2"], first["max_abs"])
    assert line.max_ulp == first["max_ulp"]
    if report["verdict"] == "rounding":
        assert line.verdict == "rounding"
    else:
        assert line.verdict == ("origin" if first["origin"] else "inherited")
    elements = look(digits, spot)
    assert (elements.drift.different, elements.drift.size) == (first["differing"], first["size"])
    worst = int(elements.orders["abs"][0])
    assert list(elements.index(worst)) == first["worst"]["index"]
    assert float(elements.a.reshape(-1)[worst]) == first["worst"]["a"]
    assert float(elements.b.reshape(-1)[worst]) == first["worst"]["b"]


def test_onsets_are_the_first_significant_steps_of_the_report(digits, report):
    # Where nothing is significant, there are the first steps that differ at all to look at.
    first = "first_step" if report["verdict"] == "rounding" else "first_significant_step"
    expected = {
        (row["role"], row["tensor"]): row[first]
        for row in report["drift"]
        if row[first] is not None
    }
    assert {spot.key: spot.step for spot in places.onsets(digits)} == expected


def test_origins_of_all_steps_are_the_origins_of_the_report(digits, report):
    found = {
        line.spot.key
        for step in range(digits.case.steps)
        for line in steps.step_lines(digits, step)
        if line.verdict == "origin"
    }
    assert found == {(row["role"], row["tensor"]) for row in report["drift"] if row["origin"]}


def test_findings_are_the_causes_of_the_report(digits, report):
    sheet = findings.findings_sheet(digits)
    assert sheet.data["causes"] == report["causes"]
    for number, cause in enumerate(report["causes"]):
        cells = findings.finding_cells(number, digits.comparison.causes[number])
        assert cells[1] == cause["code"]
        assert cells[4] == cause["summary"]
        words = " ".join(
            line.text for line in findings.detail(digits, digits.comparison.causes[number], 100)
        )
        for sentence in cause["evidence"]:
            assert sentence in words


@pytest.mark.parametrize("step", [0, 1, 20, 45])
def test_elements_add_up_to_what_was_measured(digits, step):
    for key in digits.case.onset.judged:
        spot = Spot(key, step)
        elements = look(digits, spot)
        drift = measure(*digits.case.read(key, step, "after"))
        cell = digits.case.onset.judged[key].track.after[step]
        assert elements.drift.different == drift.different
        assert elements.relative_counts.sum() == drift.size
        assert elements.relative_counts[0] == drift.size - drift.different
        if cell["known"] and cell["differs"]:
            assert math.isclose(cell["relative_l2"], elements.drift.relative_l2)
        if elements.ulp_counts is not None:
            assert elements.ulp_counts.sum() == drift.size
            rows = [elements.row(int(flat)) for flat in elements.orders["ulp"]]
            assert max((int(row[5]) for row in rows), default=0) == drift.max_ulp
        assert {len(elements.orders[sort]) for sort in SORTS} == {min(1000, drift.different)}


async def test_the_screens_print_the_digits_of_the_text_report(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(app, pilot)
        compared = digits.comparison
        first = compared.first_divergence or compared.first_bit_difference
        assert phrases.place(first) in text(app)
        await press(app, pilot, "2")
        row = next(line for line in app.screen.lines if line.spot == places.first_spot(digits))
        assert numbers.number(first.relative_l2) in row.cells
        assert numbers.whole(first.max_ulp) in row.cells
        assert phrases.size(first) in status(app)
