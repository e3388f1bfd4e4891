"""Keys and what they do, on real traces: every screen, from the whole run to one element."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from support.screens import press, settle, status, text

from tracediff_tui.keys import bindings_of, keys_of
from tracediff_tui.registry import KEYS
from tracediff_tui.screens.help import EXPLAINED
from tracediff_tui.views.places import Spot, first_spot, onsets


async def test_opens_on_the_first_divergence_and_its_cause(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        first = digits.comparison.first_divergence
        shown = text(app)
        assert app.current_mode == "overview"
        assert f"First divergence: step {first.step}" in shown
        assert first.tensor in shown
        assert digits.comparison.causes[0].summary[:60] in shown
        assert app.spot == Spot((first.role, first.tensor), first.step)
        assert status(app).startswith(f"weight {first.tensor} · step {first.step}")


async def test_two_keys_lead_to_the_worst_element_of_the_responsible_tensor(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "enter", "enter")
        worst = digits.comparison.first_divergence.worst
        assert app.current_mode == "tensor"
        assert status(app).startswith(f"[{', '.join(map(str, worst.index))}]")
        cells = app.screen.worst.rows[0].cells
        assert np.float32(cells[1]) == np.float32(worst.a)
        assert np.float32(cells[2]) == np.float32(worst.b)
        assert int(cells[3], 16) == int(np.float32(worst.a).view("u4"))


async def test_enter_pressed_too_early_is_not_lost(digits, begin, monkeypatch):
    app, ready = begin(digits), threading.Event()
    monkeypatch.setattr("tracediff_tui.app.examine", lambda *_, **__: ready.wait() and digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("enter", "enter")
        assert "comparing" in text(app)
        ready.set()
        await settle(app, pilot)
        assert app.current_mode == "tensor"
        await press(app, pilot, "escape")
        assert app.current_mode == "step"
        await press(app, pilot, "escape")
        assert app.current_mode == "overview"


async def test_escape_goes_back_and_never_leaves(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "4", "5", "escape")
        assert app.current_mode == "findings"
        await press(app, pilot, "escape", "escape", "escape")
        assert app.current_mode == "overview"


async def test_n_goes_through_the_onsets_in_the_order_of_the_run(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        expected = onsets(digits)
        await press(app, pilot, "n", "n")
        assert app.spot == expected[2]
        await press(app, pilot, "N")
        assert app.spot == expected[1]
        for _ in range(len(expected)):
            await pilot.press("n")
        await settle(app, pilot)
        assert app.spot == expected[-1]
        assert "no more onsets" in status(app)


async def test_overview_keys(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        screen = app.screen
        count = screen.map.count
        await press(app, pilot, "m")
        assert screen.metric == 1
        assert "largest distance in ulp" in text(app)
        await press(app, pilot, "equals_sign")
        assert "input/0" not in text(app)
        assert screen.map.count < count
        await press(app, pilot, "equals_sign", "t")
        assert all(key[0] == "weight" for key in _keys_shown(app))
        await press(app, pilot, "t", "t", "t", "t", "t", "t")
        assert screen.map.count == count
        await press(app, pilot, "asterisk")
        assert "▸ hidden (8)" in text(app)
        await press(app, pilot, "ctrl+home", "space")
        assert "▾ data (2)" in text(app)
        await press(app, pilot, "z", "z")
        assert screen.range is not None
        await press(app, pilot, "Z")
        await press(app, pilot, "0")
        assert screen.range is None
        await press(app, pilot, "0")
        assert screen.even
        await press(app, pilot, "end")
        assert "step 45" in status(app)
        await press(app, pilot, "home", "full_stop", "greater_than_sign", "less_than_sign", "comma")
        assert screen.map.column == 0
        await press(app, pilot, "ctrl+end", "pageup", "pagedown", "k", "j", "h", "l")
        assert screen.map.row == screen.map.count - 1


def _keys_shown(app):
    overview = app.overview
    return [overview.entries[one.entry].key for one in app.screen.lines if one.entry is not None]


async def test_filter_keeps_what_contains_a_text_and_escape_ends_it(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        count = app.screen.map.count
        await press(app, pilot, "slash", *"digit/bias")
        assert {key[1].split("/m")[0].split("/v")[0] for key in _keys_shown(app)} == {"digit/bias"}
        await press(app, pilot, "enter")
        await press(app, pilot, "down", "escape")
        assert app.screen.map.count == count
        await press(app, pilot, "slash", *"re:^hidden.*kernel$")
        assert {key[1] for key in _keys_shown(app)} == {"hidden/kernel"}
        await press(app, pilot, "escape", "slash", *"re:(")
        assert app.screen.map.count == count
        await press(app, pilot, "escape", "slash", *"nothing")
        assert "nothing passes" in text(app)


async def test_goto_understands_steps_tensors_and_epochs(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "g", *"37:digit/bias", "enter")
        assert app.spot == Spot(("weight", "digit/bias"), 37)
        await press(app, pilot, "2", "g", *"epoch 1", "enter")
        assert app.spot.step == int(np.argmax(digits.case.a.epoch == 1))
        await press(app, pilot, "g", *"gradient hidden/bias", "enter")
        assert app.spot.key == ("gradient", "hidden/bias")
        await press(app, pilot, "g", *"999", "enter")
        assert "there is no step 999" in status(app)


async def test_step_keys(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "2")
        screen = app.screen
        assert "loss A 2.2953136" in text(app)
        await press(app, pilot, "full_stop", "greater_than_sign")
        assert screen.step == 11
        await press(app, pilot, "less_than_sign", "comma", "right", "left")
        assert screen.step == 0
        await press(app, pilot, "o")
        assert {line.verdict for line in screen.lines} == {"origin"}
        onset = digits.case.onset
        expected = {key for key in onset.origins if onset.firsts[key].step == 0}
        assert {line.spot.key for line in screen.lines} == expected
        await press(app, pilot, "o", "equals_sign")
        assert "equal" not in {line.verdict for line in screen.lines}
        await press(app, pilot, "u")
        sizes = [line.relative_l2 for line in screen.lines]
        assert sizes == sorted(sizes, reverse=True)
        await press(app, pilot, "u", "slash", *"loss", "enter", "escape", "n", "N")
        assert app.current_mode == "step"


async def test_tensor_keys(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(140, 40)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "3")
        screen = app.screen
        elements = screen.elements
        assert "distance in ulp" in text(app)
        assert "relative error" in text(app)
        await press(app, pilot, "n", "n", "N")
        assert screen.worst.row == 1
        assert screen.slice_map.slice.at == elements.index(int(elements.orders["abs"][1]))
        await press(app, pilot, "u")
        distances = [int(row.cells[5]) for row in screen.worst.rows]
        assert distances == sorted(distances, reverse=True)
        assert distances[0] == elements.drift.max_ulp
        await press(app, pilot, "x")
        assert [len(part) for part in screen.worst.rows[0].cells[3].split()] == [1, 8, 23]
        await press(app, pilot, "x", "r", "R", "p", "P")
        await press(app, pilot, "enter")
        assert screen.focused.id == "slice"
        before = screen.slice_map.slice.at
        await press(app, pilot, "down", "right")
        assert screen.slice_map.slice.at == tuple(np.add(before, 1).tolist())
        await press(app, pilot, "tab", "right")
        assert screen.focused.id == "drift"
        assert app.spot.step == 1
        await press(app, pilot, "shift+tab", "comma", "v")
        assert app.spot.shown == "before"
        assert "all elements are equal" in text(app)
        await press(app, pilot, "v")
        assert "the update itself" in text(app)
        place = app.spot.key
        await press(app, pilot, "right_square_bracket", "left_square_bracket")
        assert app.spot.key == place
        await press(app, pilot, "full_stop", "greater_than_sign", "less_than_sign")
        assert app.spot.step == 1


async def test_finding_keys(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "4")
        screen = app.screen
        cause = digits.comparison.causes[0]
        assert cause.code in text(app)
        assert cause.evidence[0][:40] in text(app)
        await press(app, pilot, "f", "f", "n", "N", "tab", "down", "down")
        assert screen.focused.id == "detail"
        await press(app, pilot, "up", "up", "up", "enter")
        assert app.current_mode == "tensor"
        await press(app, pilot, "escape", "shift+tab", "enter")
        assert app.current_mode == "step"
        await press(app, pilot, "4", "slash", *"no such", "enter")
        assert "nothing passes" in text(app)


async def test_settings_keys(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "5")
        screen = app.screen
        assert "1.15.5" in text(app)
        differing = len(screen.rows)
        await press(app, pilot, "d")
        assert len(screen.rows) > differing
        await press(app, pilot, "n", "n", "N")
        assert screen.rows[screen.list.row].mark == "≠"
        await press(app, pilot, "enter")
        assert "no finding speaks of this" in status(app)
        await press(app, pilot, "slash", *"tensorflow", "enter")
        assert all(
            "tensorflow" in f"{r.key}{r.a}{r.b}".lower()
            for r in screen.rows
            if not isinstance(r, str)
        )


@pytest.mark.parametrize("screen", ["overview", "step", "tensor", "findings", "settings"])
async def test_help_names_every_key_of_the_registry(digits, begin, screen):
    app = begin(digits)
    async with app.run_test(size=(120, 60)) as pilot:
        await settle(app, pilot)
        app.go(screen)
        await settle(app, pilot)
        await press(app, pilot, "question_mark")
        shown = app.screen.text()
        for key in keys_of(screen):
            assert key.help in shown
        await press(app, pilot, "escape", "f1")
        assert EXPLAINED[screen][:30] in app.screen.text()
        await press(app, pilot, "q")
        assert app.current_mode == screen
        assert app.is_running


def test_every_key_has_an_action_on_each_of_its_screens():
    from tracediff_tui.app import TracediffApp

    for name, screen in TracediffApp.MODES.items():
        assert len(screen.BINDINGS) == len(bindings_of(name))
        for key in keys_of(name):
            action = key.action.split("(")[0]
            if action != "app.quit":
                assert hasattr(screen, f"action_{action}"), (name, key.id)


def test_no_key_has_two_meanings_on_one_screen():
    for name in {screen for key in KEYS for screen in key.screens}:
        keys = [one for key in keys_of(name) for one in key.keys.split(",")]
        assert len(keys) == len(set(keys)), name


@pytest.mark.parametrize("screen", ["overview", "step", "tensor", "findings", "settings"])
async def test_every_view_is_copied_and_exported(digits, begin, tmp_path, monkeypatch, screen):
    monkeypatch.chdir(tmp_path)
    app = begin(digits)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        app.go(screen)
        await settle(app, pilot)
        await press(app, pilot, "y")
        assert app.clipboard.strip()
        for kind in ("txt", "json", "md", "svg", "npz"):
            await press(app, pilot, "e")
            app.screen.query_one("Prompt").value = f"view.{kind}"
            await press(app, pilot, "enter")
            assert (tmp_path / f"view.{kind}").stat().st_size > 100, status(app)
        assert json.loads((tmp_path / "view.json").read_text())["title"]
        assert all(len(array) for array in np.load(tmp_path / "view.npz").values())
        await press(app, pilot, "e")
        app.screen.query_one("Prompt").value = "view.txt"
        await press(app, pilot, "enter")
        assert "is there already" in status(app)


@pytest.mark.parametrize("screen", ["run", "values", "settings"])
async def test_every_view_of_a_single_run_is_exported(alone, tmp_path, screen):
    app = alone()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        app.go(screen)
        await settle(app, pilot)
        for kind in ("txt", "json", "md", "svg", "npz"):
            app.screen.export(tmp_path / f"view.{kind}")
    told = json.loads((tmp_path / "view.json").read_text())
    table = [line for line in (tmp_path / "view.md").read_text().splitlines() if line[:1] == "|"]
    assert told["title"] in (tmp_path / "view.txt").read_text()
    assert len({line.count("|") for line in table}) == 1
    assert (tmp_path / "view.svg").read_text().startswith("<svg")
    assert len(np.load(tmp_path / "view.npz").files) > 0


async def test_arrays_are_exported_in_full(digits, begin, tmp_path):
    app = begin(digits)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        app.screen.export(tmp_path / "overview.npz")
        await press(app, pilot, "3")
        app.screen.export(tmp_path / "tensor.npz")
    overview, tensor = (np.load(tmp_path / f"{name}.npz") for name in ("overview", "tensor"))
    assert overview["relative_l2"].shape == (22, 46)
    pair = digits.case.read(("weight", "hidden/kernel"), 0, "after")
    np.testing.assert_array_equal(tensor["a"], pair[0])
    np.testing.assert_array_equal(tensor["b"], pair[1])


async def test_the_palette_offers_keys_exports_and_copies(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "3")
        titles = {command.title: command for command in app.get_system_commands(app.screen)}
        assert {"Export as .npz", "Copy as Python", "Copy as command line", "Sort"} <= set(titles)
        titles["Copy as Python"].callback()
        assert app.clipboard.startswith("index, a, b = (13, 22), np.float32(-0.054283466190099716)")
        titles["Copy as command line"].callback()
        assert app.clipboard.endswith("--at '0:weight hidden/kernel'")
        titles["Sort"].callback()
        await settle(app, pilot)
        assert app.screen.sort == 1
        await press(app, pilot, "ctrl+p")
        assert type(app.screen).__name__ == "CommandPalette"


async def test_at_begins_at_a_step_and_a_tensor(digits, begin):
    app = begin(digits, at="37:digit/kernel")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        assert app.current_mode == "tensor"
        assert app.spot == Spot(("weight", "digit/kernel"), 37)
        await press(app, pilot, "escape")
        assert app.current_mode == "overview"


@pytest.mark.parametrize("at", ["99:digit/kernel", "3:nowhere/kernel"])
async def test_a_place_that_is_not_there_is_said_and_the_overview_shown(digits, begin, at):
    app, told = begin(digits, at=at), []
    async with app.run_test(
        size=(120, 40), notifications=True, message_hook=lambda message: told.append(repr(message))
    ) as pilot:
        await settle(app, pilot)
        assert app.current_mode == "overview"
        assert app.spot == first_spot(digits)
        assert any(
            f"--at: there is no {what}" in one for one in told for what in ("step", "tensor")
        )


async def test_mouse_does_what_keys_do(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        heat = app.screen.map
        at = heat.label_width() + 2 + 3 * heat.picture.width
        await pilot.click("#map", offset=(at, 6))
        await settle(app, pilot)
        assert (heat.row, heat.column) == (5, 3)
        await pilot.click("#map", offset=(at, 6), times=2)
        await settle(app, pilot)
        assert app.current_mode == "step"
        await pilot.click("KeyBar", offset=(2, 0))
        await settle(app, pilot)
        assert app.current_mode == "tensor"
        await pilot.click("#head", offset=(2, 0))
        await settle(app, pilot)
        assert type(app.screen).__name__ == "CommandPalette"
        titles = {command.title for command in app.get_system_commands(app.screen_stack[0])}
        keys = {key.label for key in keys_of("tensor") if key.id != "palette"}
        assert keys <= titles


async def test_equal_runs_say_so(twins, begin):
    app = begin(twins)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(app, pilot)
        assert "The runs are identical" in text(app)
        assert "bit for bit" in text(app)
        await press(app, pilot, "n")
        assert "no tensor parts" in status(app)
        await press(app, pilot, "enter", "enter", "4")
        assert "no finding" in text(app)


async def test_bits_that_differ_are_underlined(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "3")
        worst = app.screen.worst
        strip = worst.render_line(worst.head)
        row = worst.rows[0].cells
        marked = "".join(one.text for one in strip if one.style and one.style.underline)
        bits = zip(row[3], row[4], strict=True)
        differing = [(one, other) for one, other in bits if one != other]
        assert differing
        expected = "".join(one for one, _ in differing) + "".join(other for _, other in differing)
        assert marked == expected
