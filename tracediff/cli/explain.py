"""``tracediff explain``: what a cause code means, and what is known to differ between versions."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tracediff.catalogue import find
from tracediff.report.explain import FORMATS, to_json, to_markdown, to_text
from tracediff.report.terminal import Style, terminal_width

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

_EXAMPLES = """\
examples:
  tracediff explain                     every cause code and every known change
  tracediff explain optimizer.rule      what a cause means, and when it is asserted
  tracediff explain rmsprop-epsilon     a known change: how it shows, its source, its remedy
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff explain``."""
    parser = subparsers.add_parser(
        "explain",
        help="say what a cause or a known change between versions is",
        description="Print an entry of the catalogue: a cause code or a known change between "
        "versions; without a name, list all.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="CODE", nargs="?", help="a cause code or a known change")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="what to print (default: text)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the entry; the exit status is 0."""
    entry = None if arguments.name is None else find(arguments.name)
    if arguments.format == "json":
        print(to_json(entry))
    elif arguments.format == "markdown":
        print(to_markdown(entry).rstrip())
    else:
        print(to_text(entry, style=Style.for_stream(sys.stdout), width=terminal_width()))
    return 0
