"""``tracediff info``: show what a trace holds."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tracediff.report import info
from tracediff.report.terminal import Style, terminal_width
from tracediff.trace import open_trace, summarize

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

_EXAMPLES = """\
examples:
  tracediff info a.zarr               every run in the trace
  tracediff info a.zarr/run-1         one of them
  tracediff info a.zarr --tensors     with every tensor: role, name, type, shape
  tracediff info a.zarr --format json | jq .runs[0].optimizer
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff info``."""
    parser = subparsers.add_parser(
        "info",
        help="show what a trace holds",
        description="Show what a trace holds: stack, model, optimizer, steps, tensors, events.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", metavar="TRACE", help="a trace, or a run in it: a.zarr/run-1")
    parser.add_argument(
        "--format", choices=["text", "json"], default="text", help="what to print (default: text)"
    )
    parser.add_argument("--tensors", action="store_true", help="list every tensor (text)")


def run(arguments: argparse.Namespace) -> int:
    """Print what the trace holds; the exit status is 0."""
    summary = summarize(open_trace(arguments.trace))
    if arguments.format == "json":
        print(info.to_json(summary))
        return 0
    style = Style.for_stream(sys.stdout)
    width = terminal_width()
    print(info.to_text(summary, style=style, width=width, tensors=arguments.tensors))
    return 0
