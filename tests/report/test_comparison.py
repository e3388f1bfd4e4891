"""The views of a comparison: what they say, that they fit, and that the JSON keeps its contract."""

import json
import math
import re
from dataclasses import fields, replace

import pytest
from support.runs import SGD, changed, compared

from tracediff.model import CAUSES, STAGES, DriftRow
from tracediff.report.comparison import to_json, to_markdown, to_text
from tracediff.report.terminal import Style


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("x"), SGD, changed(SGD, lr=0.06, clipnorm=0.1))


@pytest.fixture(scope="module")
def identical(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("x"), SGD, SGD)


@pytest.fixture(scope="module")
def rounding(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("x"), SGD, changed(SGD, reordered_sums=True))


def test_the_answer_comes_first(diverged, identical, rounding):
    assert to_text(diverged).splitlines()[0].startswith("The runs diverge.")
    assert to_text(identical).splitlines()[0].startswith("The runs are identical.")
    assert to_text(rounding).splitlines()[0].startswith("The runs agree within rounding.")


def test_the_first_divergence_is_told_with_place_size_and_values(diverged):
    text = " ".join(to_text(diverged).split())
    first = diverged.first_divergence
    assert f"step {first.step} (epoch 0, batch 0), gradient stage" in text
    assert "applied gradient of" in text
    assert f"A {first.worst.a!r}, B {first.worst.b!r}" in text
    assert "times what rounding explains" in text
    assert "data (2 tensors): equal" in text


def test_causes_stand_with_their_evidence(diverged):
    text = " ".join(to_text(diverged).split())
    for cause in diverged.causes:
        assert cause.summary in text
        assert all(line in text for line in cause.evidence)


def test_runs_that_agree_have_no_divergence_to_tell(identical, rounding):
    for comparison in (identical, rounding):
        text = to_text(comparison)
        assert "First divergence" not in text
        assert "Cause" not in text
    assert "First difference of any size" in to_text(rounding)
    assert "First difference" not in to_text(identical)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(diverged, width):
    assert max(map(len, to_text(diverged, width=width).splitlines())) <= width


def test_long_names_are_cut_to_fit(diverged):
    long = "encoder/block_of_layers_with_a_name/attention/output_projection/kernel"
    rows = tuple(replace(row, tensor=f"{long}_{i}") for i, row in enumerate(diverged.drift))
    lines = to_text(replace(diverged, drift=rows), width=80).splitlines()
    table = [line for line in lines if "…" in line]
    assert len(table) > 3
    assert max(map(len, table)) <= 80


def test_many_rows_are_cut_and_the_report_says_where_all_are(diverged):
    rows = tuple(
        replace(row, tensor=f"{row.tensor}_{i}") for i in range(9) for row in diverged.drift
    )
    text = to_text(replace(diverged, drift=rows))
    assert re.search(r"\.\.\. \d+ more, --format json has all", text)


def test_colour_only_where_asked_for(diverged):
    assert "\x1b" not in to_text(diverged)
    assert "\x1b[31m" in to_text(diverged, style=Style(colour=True))


def test_names_from_a_trace_cannot_move_the_cursor(diverged):
    rows = tuple(replace(row, tensor="evil\x1b[2J") for row in diverged.drift)
    comparison = replace(diverged, drift=rows, notes=("note\x1b[2J",))
    for text in (to_text(comparison), to_markdown(comparison)):
        assert "\x1b" not in text


def test_json_has_the_promised_fields(diverged):
    found = json.loads(to_json(diverged))
    assert found["schema"] == 1
    assert found["verdict"] == "diverged"
    assert {"step", "stage", "tensor", "layer", "role"} <= found["first_divergence"].keys()
    assert {"step", "stage", "tensor"} <= found["first_bit_difference"].keys()
    for cause in found["causes"]:
        assert cause["code"] in CAUSES
        assert 0.0 <= cause["confidence"] <= 1.0
        assert cause.keys() >= {"summary", "step", "subject", "a", "b", "evidence"}
    for row in found["drift"]:
        assert row.keys() >= {"tensor", "layer", "role", "first_step", "growth"}
        assert row["relative_l2"].keys() == {"first", "median", "last", "max"}
    steps = {"a": 8, "b": 8, "compared": 8, "alignment": "number", "offset": 0, "reason": None}
    assert found["steps"] == steps
    assert found["unpaired"] == []
    assert found["first_divergence"]["stage"] in STAGES


def test_json_of_runs_that_agree(identical):
    found = json.loads(to_json(identical))
    assert found["verdict"] == "identical"
    assert found["first_divergence"] is None
    assert found["first_bit_difference"] is None
    assert found["causes"] == []


def test_json_is_strict(diverged):
    rows = tuple(replace(row, max_abs=math.inf, cosine=math.nan) for row in diverged.drift)
    text = to_json(replace(diverged, drift=rows))

    def refuse(constant):
        raise AssertionError(constant)

    row = json.loads(text, parse_constant=refuse)["drift"][0]
    assert row["max_abs"] is None
    assert row["cosine"] is None


def test_json_leaves_out_only_the_series(diverged):
    row = json.loads(to_json(diverged))["drift"][0]
    assert {field.name for field in fields(DriftRow)} - row.keys() == {"steps", "series"}


def test_markdown_is_a_report_with_tables(diverged):
    text = to_markdown(diverged)
    assert text.startswith("## The runs diverge.")
    assert "| tensor | role |" in text
    assert "**`gradient.processing`**" in text
    lines = text.splitlines()
    header, rule = lines[lines.index("### Drift") + 2 :][:2]
    assert header.count("|") == rule.count("|")


def test_markdown_escapes_what_would_be_markup(diverged):
    comparison = replace(diverged, notes=("a_b *c* <d> | e",))
    assert r"a\_b \*c\* \<d\> \| e" in to_markdown(comparison)
