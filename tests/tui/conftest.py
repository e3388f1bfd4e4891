"""What the tests of the interface share: real traces, compared once, and a hand on the keys."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import pytest
from support.build import linear_run, make_trace

from tracediff.compare import examine
from tracediff.trace import open_trace

# They run in the training environments; collecting them for doctests would import frameworks.
collect_ignore = ["programs"]

TRACES = Path(__file__).parents[2] / "samples" / "digits" / "traces"


def pytest_collection_modifyitems(items):
    """Let flows be coroutines: each runs in an event loop of its own."""
    for item in items:
        function = getattr(item, "obj", None)
        if asyncio.iscoroutinefunction(function):
            item.obj = _in_a_loop(function)


def _in_a_loop(function):
    @functools.wraps(function)
    def run(*arguments, **options):
        return asyncio.run(function(*arguments, **options))

    return run


@pytest.fixture(scope="session")
def digits():
    """The same task on Keras 2.3 and Keras 3, compared."""
    runs = [open_trace(TRACES / f"{stack}.zarr").runs[0] for stack in ("keras2.3", "keras3")]
    for run in runs:
        # Screens look the same wherever the checkout lies.
        run.path = Path(run.path).name
    return examine(*runs)


@pytest.fixture(scope="session")
def twins(tmp_path_factory):
    """Two runs that are equal bit for bit."""
    folder = tmp_path_factory.mktemp("twins")
    paths = [make_trace(folder / f"{name}.zarr", linear_run()) for name in "ab"]
    return examine(*map(str, paths))


@pytest.fixture
def begin(monkeypatch):
    """Start the interface on an examination, without comparing again."""
    from tracediff_tui.app import TracediffApp
    from tracediff_tui.options import Options

    def start(found, **options):
        monkeypatch.setattr("tracediff_tui.app.examine", lambda *_, **__: found)
        return TracediffApp(found.case.a, found.case.b, Options(**options))

    return start


@pytest.fixture
def alone():
    """Start the interface on one run."""
    from tracediff_tui.app import TracediffApp
    from tracediff_tui.options import Options

    def start(path=TRACES / "keras3.zarr", **options):
        return TracediffApp(open_trace(path).runs[0], None, Options(**options))

    return start
