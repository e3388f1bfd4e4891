"""What a key sends over the line: the interface is used over SSH."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

TRACES = Path(__file__).parents[2] / "samples" / "digits" / "traces"
# Bytes at most, by size of the terminal.
ARROW = {(80, 24): 1500, (200, 60): 2500}
SCREENFUL = {(80, 24): 20_000, (200, 60): 80_000}


class Terminal:
    """A program in a pseudo-terminal, and what it sent."""

    def __init__(self, command, columns, lines):
        self.end, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )
        os.close(inside)

    def read(self, quiet=1.0, until=b""):
        """Return what comes until `quiet` seconds bring nothing, `until` having been seen."""
        sent, end = b"", time.monotonic() + 120
        while time.monotonic() < end:
            ready, _, _ = select.select([self.end], [], [], quiet)
            if ready:
                sent += os.read(self.end, 1 << 16)
            elif until in sent:
                return sent
        raise AssertionError(f"the screen does not come to rest: {sent[-200:]!r}")

    def press(self, keys):
        os.write(self.end, keys)
        return self.read()

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.end)


@pytest.fixture(params=list(ARROW), ids="{0[0]}x{0[1]}".format)
def terminal(request):
    paths = [str(TRACES / f"{stack}.zarr") for stack in ("keras2.3", "keras3")]
    command = [sys.executable, "-m", "tracediff", "tui", *paths]
    opened = Terminal(command, *request.param)
    opened.size = request.param
    yield opened
    opened.close()


def test_a_key_sends_no_more_than_its_budget(terminal):
    # Given the overview, with the comparison done
    terminal.read(quiet=3.0, until=b"hidden/kernel")
    # When the cursor moves by a cell, then a screenful, then another screen opens
    arrows = [len(terminal.press(key)) for key in (b"\x1b[B", b"\x1b[B", b"\x1b[C", b"\x1b[A")]
    screenfuls = [len(terminal.press(key)) for key in (b"*", b"\x1b[6~", b"2", b"3", b"4", b"5")]
    # Then each stays below what a slow line carries in a moment
    assert min(arrows) > 0
    assert max(arrows) <= ARROW[terminal.size]
    assert max(screenfuls) <= SCREENFUL[terminal.size]
