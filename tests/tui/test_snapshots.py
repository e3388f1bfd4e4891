"""What people see, as text that can be read in a diff: every screen at three sizes, and plain.

``TRACEDIFF_UPDATE_SNAPSHOTS=1`` writes the files again; read the diff before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.screens import press, settle, text

_FOLDER = Path(__file__).parent / "snapshots"
_SIZES = ((80, 24), (120, 36), (200, 60))
_KEYS = {
    "overview": (),
    "step": ("enter",),
    "tensor": ("enter", "enter"),
    "findings": ("4",),
    "settings": ("5",),
}


def agree(name, shown):
    path = _FOLDER / f"{name}.txt"
    if os.environ.get("TRACEDIFF_UPDATE_SNAPSHOTS"):
        _FOLDER.mkdir(exist_ok=True)
        path.write_text(shown + "\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == shown + "\n"


@pytest.mark.parametrize("size", _SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_screens(digits, begin, size):
    app = begin(digits)
    async with app.run_test(size=size) as pilot:
        for name, keys in _KEYS.items():
            await settle(app, pilot)
            await press(app, pilot, "1", *keys)
            agree(f"{name}-{size[0]}x{size[1]}", text(app))


async def test_plain_screens_are_ascii(digits, begin):
    app = begin(digits, plain=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(app, pilot)
        agree("plain-overview-100x30", text(app))
        for name, keys in _KEYS.items():
            await press(app, pilot, "1", *keys)
            assert text(app).isascii(), name


async def test_a_run_alone(alone):
    app = alone()
    app.a.path = Path(app.a.path).name
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        agree("run-120x36", text(app))
        await press(app, pilot, "enter")
        assert app.current_mode == "values"
        await press(app, pilot, "v", "full_stop", "right_square_bracket", "y", "n", "5", "1")
        await press(app, pilot, "m", "t", "z", "Z", "0", "0", "asterisk", "asterisk", "slash")
        await press(app, pilot, *"bias", "enter")
        assert "bias update" in text(app)
        assert "input/0" not in text(app)


async def test_no_colour_keeps_every_word(digits, begin, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    app = begin(digits)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        assert text(app) + "\n" == (_FOLDER / "overview-120x36.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark"])
async def test_themes(digits, begin, theme):
    app = begin(digits, theme=theme)
    async with app.run_test(size=(120, 36)) as pilot:
        await settle(app, pilot)
        assert app.theme == theme
        assert "First divergence" in text(app)
