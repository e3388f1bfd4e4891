"""``tracediff tui``: look for yourself, from the whole run down to one element."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from tracediff.cli.compare import add_alignment, add_repeats, chosen_repeats
from tracediff.compare import align_options, open_run
from tracediff.errors import NothingComparable, UsageError
from tracediff.trace import Run, open_trace

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

_EXAMPLES = """\
examples:
  tracediff tui a.zarr b.zarr                           where two runs part
  tracediff tui a.zarr                                  one run by itself
  tracediff tui a.zarr b.zarr --at 37:hidden/kernel     begin at a step and a tensor
  tracediff tui a.zarr b.zarr --serve                   in a browser on this machine

In the interface ? shows the keys, F1 explains the screen, q leaves. Where stdout is no terminal,
what `tracediff compare` (for one run: `tracediff info`) prints is printed.

exit status: 0; 2 trouble; where stdout is no terminal, that of compare or info
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff tui``."""
    parser = subparsers.add_parser(
        "tui",
        help="look for yourself, step by step, in the terminal",
        description="Look at two recorded runs, or at one, in the terminal: the whole run, a step, "
        "a tensor, an element; the findings and their evidence; both configurations.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="a trace, or a run in it: a.zarr/run-1")
    parser.add_argument("b", metavar="B", nargs="?", help="the trace or run to compare it with")
    parser.add_argument(
        "--at", metavar="STEP:TENSOR", help="where to begin; default: where the runs first part"
    )
    add_alignment(parser)
    add_repeats(parser)
    parser.add_argument(
        "--plain", action="store_true", help="ASCII only, and leave the mouse to the terminal"
    )
    parser.add_argument("--theme", help="a theme of Textual's, such as textual-light or ansi-dark")
    parser.add_argument(
        "--no-cache", action="store_true", help="compare again, and keep nothing in the cache"
    )
    parser.add_argument("--serve", action="store_true", help="serve it to a browser instead")
    parser.add_argument(
        "--host", default="localhost", help="with --serve: the interface (default: localhost)"
    )
    parser.add_argument("--port", type=int, default=8000, help="with --serve (default: 8000)")


def run(arguments: argparse.Namespace) -> int:
    """Run the interface until the user leaves."""
    if arguments.serve:
        return _serve(arguments)
    # Textual draws on stderr: all three have to be the terminal. A server brings its own driver.
    served = "TEXTUAL_DRIVER" in os.environ
    if not served and not all(one.isatty() for one in (sys.stdin, sys.stdout, sys.stderr)):
        return _print(arguments)
    run_a = _open(arguments.a)
    run_b = _open(arguments.b) if arguments.b is not None else None
    from tracediff_tui import Options, read_config, start

    config = read_config()
    plain = arguments.plain or not _speaks_unicode()
    theme = _theme(arguments.theme or config.theme)
    align = align_options(arguments.align, arguments.map)
    options = Options(
        at=arguments.at,
        plain=plain,
        theme=theme,
        config=config,
        align=align,
        repeats=chosen_repeats(arguments),
        cache=not arguments.no_cache,
    )
    start(run_a, run_b, options)
    return 0


def _open(path: str) -> Run:
    found = open_run(open_trace(path))
    if not found.steps:
        raise NothingComparable(
            f"{found.path} holds no complete step, so there is nothing to look at",
            hint="a step is complete when its update has been recorded; let it train longer",
        )
    return found


def _theme(name: str | None) -> str | None:
    if name is None:
        return None
    from tracediff_tui import themes

    known = themes()
    if name not in known:
        raise UsageError(f"there is no theme {name}", hint=f"there are {', '.join(known)}")
    return name


def _speaks_unicode() -> bool:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return encoding == "utf8" and os.environ.get("TERM") != "linux"


def _print(arguments: argparse.Namespace) -> int:
    """Do what the verb does that prints."""
    from tracediff.cli import compare, info

    if arguments.b is None:
        values = {"trace": arguments.a, "format": "text", "tensors": False}
        return info.run(argparse.Namespace(**values))
    values = {"a": arguments.a, "b": arguments.b, "format": "text"}
    aligned = {
        "map": arguments.map,
        "align": arguments.align,
        "no_cache": arguments.no_cache,
        "repeat": arguments.repeat,
        "repeat_a": arguments.repeat_a,
        "repeat_b": arguments.repeat_b,
        "rtol": None,
        "atol": None,
        "tolerance": [],
        "ignore": [],
    }
    return compare.run(argparse.Namespace(**values, **aligned))


def _serve(arguments: argparse.Namespace) -> int:
    for path in filter(None, (arguments.a, arguments.b)):
        _open(path)
    try:
        from textual_serve.server import Server
    except ImportError:
        raise UsageError(
            "--serve needs textual-serve, which is not installed",
            hint='pip install "tracediff[serve]"',
        ) from None
    words = [sys.executable, "-m", "tracediff", "tui", arguments.a]
    words += [arguments.b] if arguments.b is not None else []
    for option, value in (("--at", arguments.at), ("--map", arguments.map)):
        words += [option, value] if value else []
    for value in arguments.align or []:
        words += ["--align", value]
    for option in ("repeat", "repeat_a", "repeat_b"):
        for value in getattr(arguments, option):
            words += [f"--{option.replace('_', '-')}", value]
    words += ["--no-cache"] if arguments.no_cache else []
    print(f"http://{arguments.host}:{arguments.port}", file=sys.stderr)
    server = Server(shlex.join(words), host=arguments.host, port=arguments.port, title="tracediff")
    server.serve()
    return 0
