"""``tracediff ladder``: train B again and again, each time with more taken from A."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracediff.cli._trainings import clear, on_terminal, train
from tracediff.compare import AlignOptions, open_run
from tracediff.errors import UsageError
from tracediff.ladder import OPTIONS, Control, check_replayable, ladder, random_layers_off
from tracediff.report.ladder import WORDS, to_json, to_markdown, to_text
from tracediff.report.terminal import Style, terminal_width

if TYPE_CHECKING:
    from tracediff.cli._main import Parser

PLACEHOLDER = "{record}"
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
"""Options of the interpreter that take a word of their own."""

_EXAMPLES = """\
examples:
  tracediff ladder a.zarr -- python train.py --its --args
  tracediff ladder a.zarr -o rungs -- /old/env/bin/python -m my_package.train
  tracediff ladder a.zarr -- tracediff-record train.py
  tracediff ladder a.zarr -- docker run ... python {record} train.py

COMMAND trains B, four times: as it is, with A's initial weights, with A's batches as well, and with
A's state before every step. `-m tracediff_hooks record OPTIONS` is put behind the interpreter, or
where {record} stands; the package tracediff-hooks has to be installed where B trains.

exit status: 0 the runs agree without control, 1 they diverge, 2 trouble
"""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Add the parser of ``tracediff ladder``."""
    parser = subparsers.add_parser(
        "ladder",
        help="train B with ever more taken from A: where is the cause?",
        description="Record B's training under increasing control by A's trace, compare each, and "
        "say which part of the training makes them part.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="the trace to replay, recorded with level full")
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="where B's traces go (default: A.ladder)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace traces of an earlier ladder in DIR"
    )
    parser.add_argument("--map", metavar="FILE", help="which tensor is which, from tracediff map")
    parser.add_argument(
        "--format",
        choices=("text", "json", "markdown"),
        default="text",
        help="what to print (default: text)",
    )
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="what trains B")


def run(arguments: argparse.Namespace) -> int:
    """Record every rung and print the ladder; the exit status is 1 if the runs diverge."""
    a = open_run(arguments.a)
    # Four trainings may take long: say before them what the second of them would be refused for.
    check_replayable(a)
    folder = _folder(arguments)
    paths: dict[Control, Path] = {control: folder / f"{control}.zarr" for control in OPTIONS}
    there = [path for path in paths.values() if path.exists()]
    if there and not arguments.overwrite:
        raise UsageError(
            f"{there[0]} exists already", hint="--overwrite replaces it; -o names another folder"
        )
    off = random_layers_off(a)
    commands = {
        control: recording(arguments.command, _options(control, path, arguments, off=off))
        for control, path in paths.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    for number, (control, command) in enumerate(commands.items(), start=1):
        title = f"training {number} of {len(commands)}"
        _tell(f"{title}, from A: {WORDS[control]}")
        began, log = time.monotonic(), folder / f"{control}.log"
        steps = train(command, log=log, trace=paths[control], tell=on_terminal(title))
        clear()
        _tell(f"{title} recorded {steps} steps in {time.monotonic() - began:.0f} s")
    runs = ((control, open_run(str(path))) for control, path in paths.items())
    align = None if arguments.map is None else AlignOptions(mapping=arguments.map)
    found = ladder(a, runs, align=align, progress=lambda one: _tell(f"comparing: {WORDS[one]}"))
    if arguments.format == "json":
        print(to_json(found))
    elif arguments.format == "markdown":
        print(to_markdown(found))
    else:
        print(to_text(found, style=Style.for_stream(sys.stdout), width=terminal_width()))
    return 0 if found.agree else 1


def _folder(arguments: argparse.Namespace) -> Path:
    """Return where the rungs go.

    Raises:
        UsageError: A is no local trace, and no folder was named.
    """
    if arguments.output is None and "://" in arguments.a:
        raise UsageError(f"{arguments.a} is not on this disk", hint="-o DIR says where B's go")
    beside = re.sub(r"(\.zarr)?(/(?=run-\d+/*$)|/*$)", ".", arguments.a, count=1).rstrip("/.")
    folder = Path(arguments.output or f"{beside}.ladder")
    # A script may change its directory; in a container, the path may be another.
    return folder if PLACEHOLDER in arguments.command else folder.absolute()


def recording(command: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return a command that records what ``command`` trains.

    Raises:
        UsageError: It is no Python command, and does not say where to put the recorder.

    Example:
        >>> recording(["python", "-u", "train.py"], ["-o", "b.zarr"])
        ['python', '-u', '-m', 'tracediff_hooks', 'record', '-o', 'b.zarr', 'train.py']
    """
    record = ["-m", "tracediff_hooks", "record", *options]
    if PLACEHOLDER in command:
        at = command.index(PLACEHOLDER)
        return [*command[:at], *record, *command[at + 1 :]]
    name = os.path.basename(command[0])  # noqa: PTH119 # A word of a command line, and no path yet
    if name == "tracediff-record":
        return [command[0], *options, *command[1:]]
    if not re.match(r"(python|pypy)[\d.]*(\.exe)?$", name):
        raise UsageError(
            f"{shlex.join(command)} is no Python command, so there is no place for the recorder",
            hint=f"write {PLACEHOLDER} where -m tracediff_hooks record is to stand",
        )
    at = 1
    while at < len(command) and command[at].startswith("-") and command[at] not in ("-m", "-c"):
        at += 2 if command[at] in _WITH_VALUE else 1
    if at >= len(command) or command[at] == "-c":
        raise UsageError(
            f"{shlex.join(command)} names no script to train with", hint="put it into a file"
        )
    return [*command[:at], *record, *command[at:]]


def _options(
    control: Control, path: Path, arguments: argparse.Namespace, *, off: bool
) -> list[str]:
    words = ["-o", str(path)]
    if arguments.overwrite:
        words.append("--overwrite")
    for option in OPTIONS[control]:
        words += [option, arguments.a] if option.endswith("-from") else [option]
    if off:
        words += ["--random-layers", "off"]
    if arguments.map is not None and control != "none":
        words += ["--map", arguments.map]
    return words


def _tell(message: str) -> None:
    print(f"ladder: {message}", file=sys.stderr)
