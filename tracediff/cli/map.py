"""``tracediff map``: write down which tensor of one run is which of another, in which layout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracediff.compare import AlignOptions, mapping_of, open_run
from tracediff.errors import UsageError
from tracediff.trace import open_trace

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

_EXAMPLES = """\
examples:
  tracediff map a.zarr b.zarr                           the mapping, on stdout
  tracediff map a.zarr b.zarr -o map.json               to a file, to be edited
  tracediff map a.zarr b.zarr --map map.json            what an edited one comes to
  tracediff compare a.zarr b.zarr --map map.json        compare with it

exit status: 0; 2 trouble
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff map``."""
    parser = subparsers.add_parser(
        "map",
        help="write down which tensor of A is which of B",
        description="Pair the layers, weights and data of two runs and write the pairs as JSON, "
        "each with its reason, its confidence, and what brings B's values into A's layout.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="a trace, or a run in it: a.zarr/run-1")
    parser.add_argument("b", metavar="B", help="the trace or run to pair it with")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default: stdout)")
    parser.add_argument("--map", metavar="FILE", help="pairs that are given, as compare takes them")


def run(arguments: argparse.Namespace) -> int:
    """Write the mapping and say on stderr what has no partner."""
    run_a, run_b = (open_run(open_trace(path)) for path in (arguments.a, arguments.b))
    given = None if arguments.map is None else AlignOptions(mapping=arguments.map)
    mapping, pairing = mapping_of(run_a, run_b, given)
    text = json.dumps(mapping, indent=2, ensure_ascii=False)
    if arguments.output is None:
        print(text)
    else:
        _write(arguments.output, text)
    print(_summary(mapping, len(pairing.unpaired)), file=sys.stderr)
    return 0


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _summary(mapping: dict[str, Any], unpaired: int) -> str:
    tensors = mapping["tensors"]
    adapted = sum(bool(one["layout"] or one.get("layout_a")) for one in tensors)
    unsure = sum(one["confidence"] < 0.9 for one in tensors)
    return (
        f"note: {len(tensors)} pairs, {adapted} of another layout, {unsure} with a confidence "
        f"below 90%; {unpaired} tensors without a partner"
    )
