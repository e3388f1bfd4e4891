"""Traces of every kind, really recorded: what each gives is shown, and is what the report says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from support.screens import press, settle, status, text

from tracediff.compare import AlignOptions, examine
from tracediff.report.comparison import to_json
from tracediff.trace import SKETCH_ERROR, open_trace
from tracediff_tui import palette
from tracediff_tui.views import overview, places, steps
from tracediff_tui.views.places import Spot
from tracediff_tui.views.remarks import remarks
from tracediff_tui.views.summaries import HEADER, summarize

SCRIPT = Path(__file__).parent / "programs" / "train_kinds.py"
FAULTS = ("epsilon", "element", "layer", "draw", "nan")
KINDS = (
    *("base", "again", *FAULTS, "more", "later", "lockstep", "sketch", "sketch-epsilon"),
    *("sketch-nan", "digest", "digest-epsilon", "some", "some-epsilon"),
)
KERNEL = ("weight", "first/kernel")
SIZES = ((80, 24), (120, 36), (200, 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, keras3):
    """Every kind of trace, recorded on Keras 3."""
    made = tmp_path_factory.mktemp("kinds")
    keras3.run(SCRIPT, made, *KINDS)
    return made


@pytest.fixture(scope="module")
def compared(folder):
    """Compare two kinds, once for all tests."""
    known = {}

    def pair(a, b, align=None):
        key = a, b, align
        if key not in known:
            runs = [open_trace(folder / f"{name}.zarr").runs[0] for name in (a, b)]
            known[key] = examine(*runs, align=align)
        return known[key]

    return pair


def read(folder, name, key, step, moment="after"):
    run = open_trace(folder / f"{name}.zarr").runs[0]
    return run.read(run.find(*key), step, moment).astype(np.float64)


def shown_in(row):
    return dict(zip(HEADER, row.cells(), strict=True))


def words_of(found):
    return json.loads(to_json(found.comparison))


@pytest.mark.parametrize("fault", FAULTS)
async def test_two_keys_lead_to_the_worst_element_at_every_size(compared, begin, fault):
    await leads_to_the_worst_element(compared("base", fault), begin)


@pytest.mark.exhaustive
async def test_two_keys_lead_to_the_worst_element_on_every_stack(tmp_path, training, begin):
    training.run(SCRIPT, tmp_path, "base", *FAULTS)
    for fault in FAULTS:
        runs = [open_trace(tmp_path / f"{name}.zarr").runs[0] for name in ("base", fault)]
        await leads_to_the_worst_element(examine(*runs), begin)


async def leads_to_the_worst_element(found, begin):
    first = words_of(found)["first_divergence"]
    for size in SIZES:
        app = begin(found)
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            await press(app, pilot, "enter", "enter")
            assert app.current_mode == "tensor"
            assert app.spot.key == (first["role"], first["tensor"])
            assert app.spot.step == first["step"]
            at = first["worst"]["index"]
            assert status(app).startswith(f"[{', '.join(map(str, at))}]")
            cells = app.screen.worst.rows[0].cells
            for shown, told in ((cells[1], "a"), (cells[2], "b")):
                value = first["worst"][told]
                assert np.float32(shown) == np.float32(value) or (value is None and shown == "nan")
            assert max(map(len, text(app).splitlines())) <= size[0]


async def test_equal_runs_of_a_real_stack_are_said_to_be_equal(compared, begin):
    app = begin(compared("base", "again"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(app, pilot)
        assert "The runs are identical" in text(app)
        await press(app, pilot, "enter", "enter")
        assert app.is_running


@pytest.mark.parametrize("pair", [("sketch", "sketch-epsilon"), ("base", "sketch-epsilon")])
def test_numbers_from_sketches_are_those_of_the_report_and_near_the_truth(compared, folder, pair):
    # given: the same runs recorded in full as well, which are the oracle
    found = compared(*pair)
    report = {(row["role"], row["tensor"]): row for row in words_of(found)["drift"]}
    assert any(role == "activation" for role, _ in report)
    estimated = 0
    for key, row in report.items():
        # when
        summary = summarize(found, Spot(key, 0), "why")
        apart = summary.apart()
        # then: by the report
        assert np.nanmax(apart, initial=0.0) <= (row["relative_l2"]["max"] or math.inf)
        assert apart[-1] == pytest.approx(row["relative_l2"]["last"], rel=0, abs=0)
        assert row["first_step"] is None or summary.rows[-1].differs
        for one in summary.rows:
            # and by the values themselves
            a, b = (read(folder, name, key, one.step) for name in ("base", "epsilon"))
            true = np.linalg.norm(a - b) / max(np.linalg.norm(a), np.linalg.norm(b), 1e-300)
            error = 5 * SKETCH_ERROR if one.estimated else 1e-6
            assert one.relative_l2 == pytest.approx(true, rel=error, abs=1e-12)
            assert one.estimated == (one.differs and a.size > 509)
            estimated += one.estimated
            for side, values in ((one.a, a), (one.b, b)):
                told = side.statistics
                assert (told.min, told.max) == (values.min(), values.max())
                assert told.norm == pytest.approx(np.linalg.norm(values), rel=1e-5)
                assert (told.nan, told.inf) == (0, 0)
    assert estimated > 10


async def test_a_sketched_tensor_shows_both_runs_over_the_steps(compared, begin):
    found = compared("sketch", "sketch-epsilon")
    app = begin(found)
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "g", *"1:weight first/kernel", "enter", "3")
        screen = app.screen
        assert "estimated from sketches of 640 elements, off by 3.1 % (rms)" in text(app)
        assert 'TraceCallback(..., level="full", tensors=["first/kernel"])' in text(app)
        assert screen.focused is screen.known.steps
        assert (screen.known.steps.count, screen.known.steps.row) == (6, 1)
        row = shown_in(screen.summary.rows[1])
        assert row["rel L2"].startswith("≈")
        assert row["kept"] == "sketch"
        assert all(cell in text(app) for cell in row.values())
        await press(app, pilot, "down", "enter")
        assert app.spot == Spot(KERNEL, 2)
        await press(app, pilot, "n")
        assert app.spot.step == 3
        await press(app, pilot, "v")
        assert screen.known.steps.row == 3
        await press(app, pilot, "u")
        assert "no elements were kept here" in status(app)
        await press(app, pilot, "y")
        assert app.clipboard.split()[0] == "3"
        await press(app, pilot, "right_square_bracket")
        assert app.spot.key != KERNEL


async def test_digests_tell_which_steps_are_equal(compared, begin, tmp_path):
    found = compared("digest", "digest-epsilon")
    app = begin(found)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "g", *"0:gradient first/kernel", "enter", "3")
        gradient = app.screen.summary
        assert [row.differs for row in gradient.rows] == [False, *[True] * 5]
        assert shown_in(gradient.rows[0])["digests"] == "equal"
        row = gradient.rows[1]
        assert shown_in(row)["rel L2"].startswith("≥")
        assert row.at_least
        true = compared("base", "epsilon").case.onset.judged["gradient", "first/kernel"].track
        assert 0.0 < row.relative_l2 <= true.after["relative_l2"][1]
        assert "here the runs hold only a digest and statistics" in text(app)
        app.screen.export(tmp_path / "view.json")
        app.screen.export(tmp_path / "view.npz")
    told = json.loads((tmp_path / "view.json").read_text())["steps"]
    assert [step["differs"] for step in told] == [row.differs for row in gradient.rows]
    assert told[0]["a"]["norm"] == gradient.rows[0].a.statistics.norm
    assert np.load(tmp_path / "view.npz")["norm_a"].shape == (6,)


async def test_steps_whose_elements_were_kept_are_named(compared, begin):
    app = begin(compared("some", "some-epsilon"))
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "g", *"1:weight first/kernel", "enter", "3")
        assert app.screen.summary is not None
        assert 'steps="1:2"' in text(app)
        kept = [row.step for row in app.screen.summary.rows if row.elements]
        assert f"elements are there at {len(kept)} steps: {kept[0]}" in text(app)
        await press(app, pilot, "g", *f"{kept[0]}:weight first/kernel", "enter")
        assert app.screen.summary is None
        assert app.screen.focused is app.screen.worst
        assert "distance in ulp" in text(app)


@pytest.mark.parametrize("other", ["nan", "sketch-nan"])
async def test_nan_is_told_by_its_count(compared, begin, other):
    app = begin(compared("base" if other == "nan" else "sketch", other))
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "g", *"2:input/0", "enter")
        assert app.spot.step == 2
        if other == "nan":
            assert "NaN or infinite: 0 in A, 1 in B" in status(app)
            assert "rel ?" not in status(app)
        await press(app, pilot, "3")
        assert "nan 1 inf 0" in text(app)


async def test_a_single_run_of_sketches_shows_norms_and_nan(folder, alone):
    app = alone(folder / "sketch-nan.zarr")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        grid = app.screen.grid
        number = next(i for i, row in enumerate(grid.rows) if row.key == KERNEL)
        expected = [np.linalg.norm(read(folder, "base", KERNEL, step)) for step in (0, 1)]
        np.testing.assert_allclose(grid.norms[number, :2], expected, rtol=1e-5)
        await press(app, pilot, "n")
        assert "1 element is NaN or infinite" in status(app)
        await press(app, pilot, "enter")
        assert app.current_mode == "values"
        assert "here the run holds only a sketch and statistics" in text(app)
        assert shown_in(app.screen.summary.rows[2])["A nan/inf"] == "1/0"
        assert "B norm" not in text(app)


async def test_unpaired_tensors_stand_in_the_overview_and_among_the_findings(compared, begin):
    found = compared("base", "more")
    report = words_of(found)
    assert report["unpaired"]
    app = begin(found)
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "slash", *"between", "enter")
        assert "only in B" in status(app)
        await press(app, pilot, "escape", "4", "end")
        assert app.screen.remark.code == "unpaired"
        shown = " ".join(line.text for line in app.screen.details)
        for one in report["unpaired"]:
            assert one["tensor"] in shown


async def test_runs_in_lockstep_show_the_local_errors_as_places(compared, begin):
    found = compared("base", "lockstep")
    report = words_of(found)["lockstep"]
    [remark] = [one for one in remarks(found) if one.code == "lockstep"]
    led = [one.spot for one in remark.sentences if one.spot is not None]
    assert led == [
        Spot((one["role"], one["tensor"]), one["worst_step"]) for one in report["errors"]
    ]
    app = begin(found)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        row = [remark.code for remark in remarks(found)].index("lockstep")
        await press(app, pilot, "4", *["down"] * (len(found.comparison.causes) + row))
        assert "each difference is that step's own" in status(app)
        lines = app.screen.details
        steps_down = next(i for i, line in enumerate(lines) if line.spot is not None)
        await press(app, pilot, "tab", *["down"] * steps_down, "enter")
        assert app.current_mode == "tensor"
        assert app.spot == led[0]
        await press(app, pilot, "escape")
        assert app.screen.detail.row == steps_down


async def test_steps_without_a_partner_are_named_by_both_numbers(compared, begin):
    found = compared("base", "later", AlignOptions("batches"))
    assert words_of(found)["steps"]["offset"] == -2
    app = begin(found)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "g", *"4", "enter", "2")
        assert "B's step 2" in text(app)
        await press(app, pilot, "less_than_sign")
        assert "B has no such step" in text(app)
        assert "loss B -" in text(app)
        await press(app, pilot, "3", "1", "4", "5")
        assert app.is_running


def test_verdicts_on_layer_outputs_are_those_of_the_report(compared):
    found = compared("base", "layer")
    first = words_of(found)["first_divergence"]
    assert (first["role"], first["tensor"]) == ("activation", "second")
    lines = {line.spot.key: line for line in steps.step_lines(found, 0)}
    assert lines["activation", "first"].verdict == "equal"
    assert lines["activation", "second"].verdict == "origin"
    assert lines["activation", "second"].max_ulp == first["max_ulp"]
    assert lines["activation", "last"].verdict == "inherited"
    shown = overview.Overview(found)
    outputs = shown.lines(kind=[words for words, _ in overview.KINDS].index("outputs"))
    assert [shown.label(line) for line in outputs] == [
        "first output",
        "second output",
        "last output",
    ]


async def test_a_finding_leads_to_its_setting_and_back_and_its_remedy_is_copied(compared, begin):
    found = compared("base", "layer")
    cause = found.comparison.causes[0]
    assert (cause.code, cause.subject) == ("layer.forward", "second.activation")
    app = begin(found)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "4", "tab")
        lines = [line.head for line in app.screen.details]
        app.screen.detail.select(lines.index("about"))
        await settle(app, pilot)
        assert status(app) == "Enter opens the configuration"
        await press(app, pilot, "enter")
        assert app.current_mode == "settings"
        row = app.screen.rows[app.screen.list.row]
        assert (row.key, row.a, row.b) == ("second.activation", "relu", "elu")
        await press(app, pilot, "enter")
        assert app.current_mode == "findings"
        app.screen.detail.select(lines.index("try"))
        await press(app, pilot, "y")
        assert app.clipboard == cause.remedy


def test_what_sketches_do_not_tell_is_no_level(compared):
    found = compared("sketch", "sketch-epsilon")
    cells = found.case.onset.judged[KERNEL].track.after
    tolerance = found.case.onset.judged[KERNEL].tolerance_after
    assert cells["estimated"].all()
    for metric in palette.METRICS:
        levels = palette.levels(metric, cells, tolerance)
        assert (levels == palette.UNKNOWN).all() == (metric.id in ("ulp", "abs", "cos"))


async def test_layers_are_told_as_the_report_tells_them(compared, begin):
    found = compared("base", "epsilon")
    [layer] = [row for row in words_of(found)["layers"] if row["layer"] == "first"]
    app = begin(found)
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(app, pilot)
        row = next(i for i, line in enumerate(app.screen.lines) if line.group == "first")
        app.screen.map.select(row)
        await settle(app, pilot)
        said = status(app)
        assert said.startswith(f"layer first · bits {layer['first_step']} · ")
        weight = next(part for part in layer["parts"] if part["role"] == "weight")
        assert f"weight {weight['relative_l2']['max']:.2g}" in said
        assert "origin" in said
        await press(app, pilot, "down", "3")
        assert "layer first · bits" in text(app)


def test_places_know_both_names(compared):
    found = compared("base", "epsilon")
    assert places.names_of(found, KERNEL) == ("first/kernel", "first/kernel")
