"""The user's own theme and keys, from a file."""

from __future__ import annotations

import pytest
from support.screens import press, settle, text

from tracediff.cli import main
from tracediff.errors import UsageError
from tracediff_tui.config import Config, config_path, read_config


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "tui.toml"
        path.write_text(content)
        return path

    return write


def test_without_a_file_nothing_is_set(tmp_path):
    assert read_config(tmp_path / "none.toml") == Config()


def test_the_file_is_looked_for_where_the_variable_says(monkeypatch, written):
    path = written('theme = "nord"')
    monkeypatch.setenv("TRACEDIFF_CONFIG", str(path))
    assert config_path() == path
    assert read_config() == Config("nord", {})


def test_characters_and_names_of_keys_mean_the_same(written):
    by_character = read_config(written('[keys]\nfilter = "?"\nkeys = "/"'))
    by_name = read_config(written('[keys]\nfilter = "question_mark"\nkeys = "slash"'))
    assert by_character == by_name


async def test_another_key_does_it_and_the_old_one_does_not(digits, begin, written):
    config = read_config(written('[keys]\nstep = "s"'))
    app = begin(digits, config=config)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "2")
        assert app.current_mode == "overview"
        await press(app, pilot, "s")
        assert app.current_mode == "step"
        assert "s Step" in text(app)


async def test_two_keys_change_places_in_footer_and_help(digits, begin, written):
    app = begin(digits, config=read_config(written('[keys]\nmetric = "z"\nzoom_in = "m"')))
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(app, pilot)
        before = app.screen.metric
        await press(app, pilot, "z")
        assert app.screen.metric != before
        await press(app, pilot, "question_mark")
        words = [line.split() for line in app.screen.text().splitlines()]
        assert ["m", "Zoom"] in [line[:2] for line in words]
        assert ["z", "Metric"] in [line[:2] for line in words]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("theme = ", "is no TOML"),
        ("colour = 1", "sets colour"),
        ("theme = 3", "sets theme to 3"),
        ("keys = 3", "sets keys to 3"),
        ('[keys]\nnexxt = "s"', "sets a key for nexxt"),
        ("[keys]\nnext = 3", "sets the key of next to 3"),
        ('[keys]\nnext = "m"', "gives m two meanings on the screen Overview: next and metric"),
    ],
)
def test_what_makes_no_sense_is_said(written, content, said):
    path = written(content)
    with pytest.raises(UsageError) as problem:
        read_config(path)
    assert said in problem.value.message
    assert str(path) in problem.value.message
    assert problem.value.hint or "TOML" in said


def test_a_bad_file_is_one_line_and_status_2(written, monkeypatch, capsys, tmp_path):
    from support.build import linear_run, make_trace

    trace = str(make_trace(tmp_path / "a.zarr", linear_run()))
    monkeypatch.setenv("TRACEDIFF_CONFIG", str(written("colour = 1")))
    monkeypatch.setenv("TEXTUAL_DRIVER", "tests")
    assert main(["tui", trace]) == 2
    assert "sets colour" in capsys.readouterr().err.splitlines()[0]
