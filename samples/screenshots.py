"""Render the pictures of docs/images from the sample traces: python samples/screenshots.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tracediff.trace import open_trace
from tracediff_tui.app import TracediffApp

_HERE = Path(__file__).parents[1] / "docs"
_TRACES = _HERE.parent / "samples" / "digits" / "traces"
_SHOTS = {
    "overview": (),
    "step": ("enter",),
    "tensor": ("enter", "enter"),
    "findings": ("4",),
    "settings": ("5",),
}
"""The keys that lead to each screen."""


async def _settled(app: TracediffApp, pilot: object) -> None:
    for _ in range(3):
        await app.workers.wait_for_complete()
        await pilot.pause()  # type: ignore[attr-defined]


async def _shoot(name: str, keys: tuple[str, ...]) -> None:
    runs = [open_trace(_TRACES / f"{stack}.zarr").runs[0] for stack in ("keras2.3", "keras3")]
    for run in runs:
        # The pictures are the same wherever the checkout lies.
        run.path = Path(run.path).name
    app = TracediffApp(*runs)
    async with app.run_test(size=(120, 36)) as pilot:
        await _settled(app, pilot)
        for key in keys:
            await pilot.press(key)
            await _settled(app, pilot)
        (_HERE / "images").mkdir(exist_ok=True)
        target = _HERE / "images" / f"tui-{name}.svg"
        target.write_text(app.export_screenshot(title="tracediff tui"), encoding="utf-8")


if __name__ == "__main__":
    for _name, _keys in _SHOTS.items():
        asyncio.run(_shoot(_name, _keys))
