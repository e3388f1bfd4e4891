"""What goes wrong: growing and damaged traces, nothing to compare, small and closed terminals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.build import RunPlan, Step, linear_run, make_trace
from support.screens import press, settle, status, text

from tracediff.cli import main
from tracediff.compare import examine
from tracediff.errors import DamagedTrace, NothingComparable
from tracediff.trace import open_trace
from tracediff_tui.app import TracediffApp
from tracediff_tui.views.places import Spot

KERNEL = ("weight", "dense/kernel")


def damage(trace, role, name):
    """Change every byte in the chunks of a tensor's values."""
    folder = Path(trace) / "run-0" / "values" / role / name
    chunks = [path for path in folder.rglob("*") if path.is_file() and path.name[0].isdigit()]
    assert chunks
    for path in chunks:
        path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


async def test_an_unreadable_chunk_under_the_cursor_is_told_and_survived(tmp_path, begin):
    # given: values that are equal by their digests, so that comparing reads none of them
    paths = [str(make_trace(tmp_path / f"{name}.zarr", linear_run())) for name in "ab"]
    found = examine(*paths)
    damage(paths[1], *KERNEL)
    fresh = examine(*paths)
    assert fresh.comparison.verdict == found.comparison.verdict == "identical"
    app = begin(fresh, at="0:dense/kernel")
    async with app.run_test(size=(100, 30)) as pilot:
        # when
        await settle(app, pilot)
        # then
        assert app.current_mode == "tensor"
        assert "is not what was recorded" in status(app)
        await press(app, pilot, "g", *"0:loss", "enter")
        assert "is not what was recorded" not in text(app)


async def test_a_trace_that_cannot_be_compared_says_why_and_shows_the_rest(tmp_path):
    paths = [
        str(make_trace(tmp_path / f"{name}.zarr", linear_run(seed=seed)))
        for seed, name in enumerate("ab")
    ]
    damage(paths[1], *KERNEL)
    app = TracediffApp(*(open_trace(path).runs[0] for path in paths))
    async with app.run_test(size=(120, 30)) as pilot:
        await settle(app, pilot)
        assert "is not what was recorded" in status(app)
        await press(app, pilot, "5")
        assert "optimizer" in text(app) or "0 differ" in text(app)
    assert isinstance(app.problem, DamagedTrace)


async def test_runs_without_anything_in_common_end_it(tmp_path):
    a = make_trace(tmp_path / "a.zarr", linear_run())
    other = ("weight", "elsewhere/w")
    plan = RunPlan([Step(after={other: np.ones(3, "f4")})], {other: np.zeros(3, "f4")})
    b = make_trace(tmp_path / "b.zarr", plan)
    app = TracediffApp(open_trace(a).runs[0], open_trace(b).runs[0])
    async with app.run_test() as pilot:
        await settle(app, pilot)
    assert isinstance(app.problem, NothingComparable)


async def test_a_trace_that_is_being_written_is_shown_and_read_again(tmp_path):
    a = make_trace(tmp_path / "a.zarr", linear_run(steps=6))
    growing = tmp_path / "b.zarr"
    make_trace(growing, linear_run(steps=3, status="recording"))
    app = TracediffApp(open_trace(a).runs[0], open_trace(growing).runs[0])
    async with app.run_test(size=(120, 30)) as pilot:
        await settle(app, pilot)
        assert app.steps == 3
        assert app.found.comparison.b.status == "recording"
        assert "B incomplete: F5 reads on" in text(app)
        growing.rename(tmp_path / "gone.zarr")
        make_trace(growing, linear_run(steps=5, status="recording"))
        await press(app, pilot, "f5")
        assert app.steps == 5


async def test_digests_only_says_how_to_record_more(tmp_path, begin):
    paths = [
        str(make_trace(tmp_path / f"{name}.zarr", linear_run(seed=seed), level="digest"))
        for seed, name in enumerate("ab")
    ]
    app = begin(examine(*paths))
    async with app.run_test(size=(120, 30)) as pilot:
        await settle(app, pilot)
        assert "~" in text(app)
        app.spot = Spot(KERNEL, 2)
        await press(app, pilot, "3")
        assert 'level="full"' in text(app)
        assert "rel at least" in text(app)


async def test_nan_is_shown_and_found(tmp_path, begin, alone):
    broken = np.full((3, 2), np.nan, "f4")
    plans = [linear_run(), linear_run()]
    last = plans[1].steps[4]
    plans[1].steps[4] = Step(last.observed, {**last.after, KERNEL: broken}, epoch=1, batch=1)
    paths = [str(make_trace(tmp_path / f"{n}.zarr", p)) for n, p in zip("ab", plans, strict=True)]
    app = begin(examine(*paths), at="4:weight dense/kernel")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        assert "nan 6" in text(app)
        assert "7fc00000" in text(app)
        await press(app, pilot, "1")
        assert "!" in text(app).split("relative L2:")[0]
    app = alone(paths[1])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        await press(app, pilot, "n")
        assert "6 elements are NaN or infinite" in status(app)
        await press(app, pilot, "enter")
        assert app.current_mode == "values"
        assert "nan 6" in text(app)


async def test_a_damaged_trace_alone_shows_what_can_be_read(tmp_path, alone):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    damage(path, *KERNEL)
    app = alone(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(app, pilot)
        assert "~" in text(app)
        await press(app, pilot, "n")
        assert "cannot be read" in status(app)
        await press(app, pilot, "enter")
        assert "is not what was recorded" in status(app)


async def test_a_small_terminal_says_so_and_still_works(digits, begin):
    app = begin(digits)
    async with app.run_test(size=(50, 12)) as pilot:
        await settle(app, pilot)
        assert "the terminal is small" in status(app)
        await pilot.resize_terminal(120, 36)
        await settle(app, pilot)
        assert "weight hidden/kernel" in status(app)
        await pilot.resize_terminal(79, 23)
        await settle(app, pilot)
        assert "below 80x24 some columns and lines are left out" in status(app)
        await press(app, pilot, "down")
        assert "kernel gradient" not in status(app)
        assert "gradient hidden/kernel" in status(app)
        for size in ((60, 15), (30, 8), (200, 60), (80, 24)):
            for key in "12345":
                await press(app, pilot, key)
                await pilot.resize_terminal(*size)
                await settle(app, pilot)
                assert app.is_running


def test_without_a_terminal_it_prints_what_compare_prints(tmp_path, capsys):
    paths = [
        str(make_trace(tmp_path / f"{name}.zarr", linear_run(seed=seed)))
        for seed, name in enumerate("ab")
    ]
    assert main(["tui", *paths]) == 1
    shown = capsys.readouterr().out
    assert main(["compare", *paths]) == 1
    assert capsys.readouterr().out == shown
    assert main(["tui", paths[0]]) == 0
    assert "6 steps" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["nowhere.zarr"], ["nowhere.zarr", "--serve"]])
def test_trouble_is_one_line_and_status_2(capsys, words):
    assert main(["tui", *words]) == 2
    error, *_ = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert "nowhere.zarr" in error


def test_a_server_gets_the_interface_and_not_the_report(tmp_path):
    path = str(make_trace(tmp_path / "a.zarr", linear_run()))
    process = subprocess.Popen(
        [sys.executable, "-m", "tracediff", "tui", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )
    try:
        assert process.stdout.readline() == b"__GANGLION__\n"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ignored", [False, True], ids=["", "as under nohup"])
def test_a_terminal_that_is_closed_ends_it(tmp_path, ignored):
    paths = [str(make_trace(tmp_path / f"{name}.zarr", linear_run())) for name in "ab"]
    main_end, terminal = pty.openpty()
    # The signal's handling is inherited from whoever started the tests.
    handling = signal.SIG_IGN if ignored else signal.SIG_DFL
    process = subprocess.Popen(
        [sys.executable, "-m", "tracediff", "tui", *paths],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, handling),  # noqa: PLW1509 - no other way
        env={
            **os.environ,
            "TERM": "xterm",
            "COLUMNS": "100",
            "LINES": "30",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )
    os.close(terminal)
    try:
        shown, until = b"", time.monotonic() + 60
        while b"Overview" not in shown and time.monotonic() < until:
            shown += os.read(main_end, 65536)
        assert b"Overview" in shown
        os.close(main_end)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
        process.wait()
