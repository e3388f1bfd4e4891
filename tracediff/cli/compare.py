"""``tracediff compare``: name the first tensor in which two runs part, and why."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tracediff.compare import (
    Bounds,
    Repeats,
    align_options,
    bounds,
    compare,
    open_run,
    parse_rules,
)
from tracediff.report.comparison import FORMATS, to_json, to_junit, to_markdown, to_text
from tracediff.report.terminal import Style, byte_size, terminal_width
from tracediff.trace import Run, open_trace

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

_EXAMPLES = """\
examples:
  tracediff compare a.zarr b.zarr                       the report
  tracediff compare a.zarr/run-0 a.zarr/run-1           two runs in one trace
  tracediff compare a.zarr b.zarr --format markdown     for a bug report
  tracediff compare a.zarr b.zarr --map map.json        with tensors paired as the file says
  tracediff compare a.zarr b.zarr --align steps=batches with the steps that took the same batch
  tracediff compare a.zarr b.zarr --repeat a2.zarr      with the noise that a repeat shows
  tracediff compare a.zarr b.zarr --rtol 1e-4 --ignore 'slot ' --format junit
  tracediff compare a.zarr b.zarr --format json | jq .first_divergence

exit status: 0 the runs agree (identical, or within rounding), 1 they diverge, 2 trouble
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff compare``."""
    parser = subparsers.add_parser(
        "compare",
        help="name the first tensor in which two runs part, and why",
        description="Compare two recorded runs step by step: the first divergent tensor, what "
        "explains it, and how every tensor drifts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="a trace, or a run in it: a.zarr/run-1")
    parser.add_argument("b", metavar="B", help="the trace or run to compare it with")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="what to print (default: text)"
    )
    add_alignment(parser)
    add_bounds(parser)
    add_repeats(parser)
    parser.add_argument(
        "--no-cache", action="store_true", help="compare again, and keep nothing in the cache"
    )


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what may differ by how much."""
    group = parser.add_argument_group(
        "tolerances",
        "Without these, what rounding explains. Elements may differ by ATOL + RTOL times the "
        "tensor's largest magnitude. A PATTERN is a regular expression, searched for in ROLE NAME.",
    )
    group.add_argument("--rtol", type=float, help="for all tensors")
    group.add_argument("--atol", type=float, help="for all tensors")
    group.add_argument(
        "--tolerance",
        metavar="PATTERN=RTOL[,ATOL]",
        action="append",
        default=[],
        help="for some tensors; the first pattern found counts",
    )
    group.add_argument(
        "--ignore", metavar="PATTERN", action="append", default=[], help="for none of these"
    )


def add_repeats(parser: argparse.ArgumentParser) -> None:
    """Add the options that name repeats."""
    group = parser.add_argument_group(
        "noise floor",
        "Without these, a model of floating-point rounding. A repeat is another run of the same "
        "script, with the same configuration, initial weights and batches. May be given several "
        "times.",
    )
    for option, whose in (
        ("--repeat", "A or of B, whichever it fits"),
        ("--repeat-a", "A"),
        ("--repeat-b", "B"),
    ):
        group.add_argument(
            option, metavar="TRACE", action="append", default=[], help=f"a repeat of {whose}"
        )


def chosen_repeats(arguments: argparse.Namespace) -> Repeats:
    """Return the repeats that the command line gives."""
    given = (arguments.repeat, arguments.repeat_a, arguments.repeat_b)
    return Repeats(*(tuple(_chosen(path) for path in some) for some in given))


def chosen_bounds(arguments: argparse.Namespace) -> Bounds:
    """Return the tolerances that the command line gives."""
    return bounds(
        rtol=arguments.rtol,
        atol=arguments.atol,
        rules=parse_rules(arguments.tolerance),
        ignore=arguments.ignore,
    )


def add_alignment(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what belongs together."""
    parser.add_argument(
        "--map",
        metavar="FILE",
        help="pair layers and tensors as this file says; tracediff map writes one",
    )
    parser.add_argument(
        "--align",
        metavar="steps=HOW",
        action="append",
        help="tell steps by number, iteration, state or batches (default: auto)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; the exit status is 0 if the runs agree and 1 if they diverge."""
    run_a, run_b = _chosen(arguments.a), _chosen(arguments.b)
    progress = _Progress() if sys.stderr.isatty() else None
    try:
        chosen = align_options(arguments.align, arguments.map)
        comparison = compare(
            run_a,
            run_b,
            align=chosen,
            progress=progress,
            within=chosen_bounds(arguments),
            repeats=chosen_repeats(arguments),
            cache=not arguments.no_cache,
        )
    finally:
        if progress is not None:
            progress.clear()
    if arguments.format == "json":
        print(to_json(comparison))
    elif arguments.format == "junit":
        print(to_junit(comparison))
    elif arguments.format == "markdown":
        print(to_markdown(comparison))
    else:
        print(to_text(comparison, style=Style.for_stream(sys.stdout), width=terminal_width()))
    return 0 if comparison.agree else 1


def _chosen(path: str) -> Run:
    """Open the run that ``path`` stands for, and say so where the trace has others."""
    trace = open_trace(path)
    chosen = open_run(trace)
    others = [one.path for one in trace.runs if one is not chosen]
    if others:
        print(
            f"note: {path} holds {len(trace.runs)} runs; comparing {chosen.path}. "
            f"To choose another: {', '.join(others[:4])}{' ...' if len(others) > 4 else ''}",
            file=sys.stderr,
        )
    return chosen


class _Progress:
    """One line on the terminal that says how far the comparison is, and how long it will take."""

    def __init__(self) -> None:
        self._began, self._shown = time.monotonic(), 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown < _REFRESH or not total:
            return
        self._shown = now
        filled = _WIDTH * done // total
        bar = "#" * filled + "-" * (_WIDTH - filled)
        left = (now - self._began) * (total - done) / max(1, done)
        line = f"comparing [{bar}] {byte_size(done)} of {byte_size(total)}, {_span(left)} left"
        print(f"\r{line}\x1b[K", end="", file=sys.stderr)
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away before the report."""
        print("\r\x1b[K", end="", file=sys.stderr)
        sys.stderr.flush()


_REFRESH = 0.1
_WIDTH = 20


def _span(seconds: float) -> str:
    """Return a time as minutes and seconds.

    Example:
        >>> _span(5.4), _span(125)
        ('0:05', '2:05')
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
