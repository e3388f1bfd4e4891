"""``tracediff luck``: is the gap between two groups of trainings more than seed-to-seed spread?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tracediff.compare import open_run
from tracediff.luck import CONFIDENCE, luck
from tracediff.outcome import final_value
from tracediff.report.luck import to_json, to_text

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

_EXAMPLES = """\
examples:
  tracediff luck --a a1.zarr a2.zarr a3.zarr --b b1.zarr b2.zarr b3.zarr
  tracediff luck --metric accuracy --a a1.zarr a2.zarr --b b1.zarr b2.zarr
  tracediff luck --a 0.912 0.908 0.915 --b 0.894 0.899      numbers of your own, such as validation

exit status: 0 luck explains the gap, or there is no telling; 1 it is more than luck; 2 trouble
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff luck``."""
    parser = subparsers.add_parser(
        "luck",
        help="is the gap more than the spread between seeds?",
        description="Compare the final metric of several trainings on either side, each with a "
        "seed of its own, and say whether the gap exceeds their spread.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for side in ("a", "b"):
        parser.add_argument(
            f"--{side}",
            nargs="+",
            required=True,
            metavar=side.upper(),
            help=f"{side.upper()}'s runs: traces, or numbers",
        )
    parser.add_argument(
        "--metric", default="loss", help="what is compared (default: loss, of the last epoch)"
    )
    parser.add_argument(
        "--confidence", type=float, default=CONFIDENCE, help="of the interval (default: 0.95)"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="what to print (default: text)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the answer; the exit status is 1 if the gap is more than luck."""
    a, b = ([_value(one, arguments.metric) for one in side] for side in (arguments.a, arguments.b))
    found = luck(a, b, metric=arguments.metric, confidence=arguments.confidence)
    print(to_json(found) if arguments.format == "json" else to_text(found))
    return int(found.answer == "more than luck")


def _value(given: str, metric: str) -> float:
    try:
        return float(given)
    except ValueError:
        return final_value(open_run(given), metric)
