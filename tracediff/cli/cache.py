"""``tracediff cache``: say where comparisons are kept, or remove them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tracediff.compare.cache import CACHE_LIMIT, clear, contents
from tracediff.report.terminal import byte_size

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

_EXAMPLES = """\
examples:
  tracediff cache              where comparisons are kept, how many, how large
  tracediff cache clear        remove them all

A pair of traces that was compared once opens at once, until either changes. TRACEDIFF_CACHE names
another folder; compare and tui leave the cache alone with --no-cache.
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff cache``."""
    parser = subparsers.add_parser(
        "cache",
        help="show or clear what is kept of earlier comparisons",
        description="Show where comparisons are kept, or remove them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", choices=["show", "clear"], default="show")


def run(arguments: argparse.Namespace) -> int:
    """Show or clear the cache; the exit status is 0."""
    folder, count, size = contents()
    if arguments.action == "clear":
        count, size = clear()
        print(f"removed {_counted(count)}, {byte_size(size)}, from {folder}")
    else:
        print(f"{folder}: {_counted(count)}, {byte_size(size)} of at most {byte_size(CACHE_LIMIT)}")
    return 0


def _counted(count: int) -> str:
    return "1 comparison" if count == 1 else f"{count} comparisons"
