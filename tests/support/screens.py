"""Reads a screen of the interface as plain text, and waits until it has settled."""

from __future__ import annotations

import contextlib

from textual.worker import WorkerCancelled


def text(app):
    """Return what the terminal shows, line by line."""
    # The one private call: Textual offers the screen as SVG only.
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def settle(app, pilot):
    """Wait until workers are done and what they sent is shown."""
    for _ in range(6):
        # A worker that was overtaken by another, or by the end, is done as well.
        with contextlib.suppress(WorkerCancelled):
            await app.workers.wait_for_complete()
        await pilot.pause()


async def press(app, pilot, *keys):
    """Press keys, one after the other, each when the one before has had its effect."""
    for key in keys:
        await pilot.press(key)
        await settle(app, pilot)


def status(app):
    """Return what the status line says."""
    return app.screen.query_one("#status").left.strip()
