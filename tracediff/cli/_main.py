"""``tracediff``: finds the verb, runs it, and answers for how it ends."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from tracediff import __version__
from tracediff.errors import TracediffError, UsageError, did_you_mean
from tracediff.report.terminal import Style

TROUBLE = 2
"""Exit status where the question could not be answered; 1 would say that two runs differ."""
_INTERRUPTED = 128 + 2
_PIPE_CLOSED = 128 + 13

VERBS = {
    "compare": "name the first tensor in which two runs part, and why",
    "explain": "say what a cause or a known change between versions is",
    "info": "show what a trace holds",
    "ladder": "train B with ever more taken from A: where is the cause?",
    "luck": "is the gap more than the spread between seeds?",
    "map": "write down which tensor of A is which of B",
    "tui": "look for yourself, step by step, in the terminal",
    "cache": "show or clear what is kept of earlier comparisons",
}
"""Every verb with its one line of help; each is a module of this package."""

_EXAMPLES = """\
examples:
  tracediff compare a.zarr b.zarr           where do the two runs part, and why?
  tracediff compare a.zarr/run-0 a.zarr/run-1
                                            the same for two runs of one script
  tracediff tui a.zarr b.zarr               look for yourself
  tracediff explain optimizer.rule          what does a cause mean?
  tracediff info a.zarr                     what was recorded?
  tracediff info a.zarr --format json | jq .runs[0].steps

exit status: 0 the runs agree, 1 they differ, 2 trouble

Record a trace with tracediff-hooks, in the environment that trains:
  model.fit(x, y, callbacks=[TraceCallback("a.zarr")])
"""


class Verb(Protocol):
    """What a module of a verb offers."""

    def add_parser(self, subparsers: argparse._SubParsersAction[Parser]) -> None:
        """Add the verb's parser."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit status."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises its complaints like every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with the parser's complaint."""
        raise UsageError(message, hint=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        argv: The arguments, without the name of the program; those of the process if not given.

    Returns:
        0, 1 (`compare`: the runs differ), 2 for trouble, told in one line on stderr; 130 where the
        user interrupted it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without the characters of a report shows them escaped.
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except TracediffError as error:
        return _complain(error.message, error.hint)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the report has seen enough. Python would complain when it flushes at exit.
        if isinstance(sys.stdout, io.TextIOWrapper):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except MemoryError:
        return _complain("not enough memory", "close other programs, or use a larger machine")
    except OSError as error:
        return _complain(str(error), None)
    except Exception:  # noqa: BLE001 # The status of an uncaught error is 1, which means "differ"
        traceback.print_exc()
        return _complain("this is a fault of tracediff", "report it with the lines above")


def _run(argv: list[str]) -> int:
    words = [word for word in argv if not word.startswith("-")]
    verb = words[0] if words else None
    parser = _parser(verb)
    if not argv:
        parser.print_help(sys.stderr)
        return TROUBLE
    if verb is not None and verb not in VERBS:
        raise UsageError(f"{verb} is no command of tracediff", hint=_meant(verb, words))
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as ending:  # --help and --version
        return int(ending.code or 0)
    if verb is None:
        raise UsageError(f"no command given; there are {', '.join(VERBS)}", hint="tracediff --help")
    return _module(verb).run(arguments)


def _parser(verb: str | None) -> Parser:
    parser = Parser(
        prog="tracediff",
        description="Name the first tensor in which two recorded training runs part, and why.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tracediff {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in VERBS.items():
        if name == verb:
            _module(name).add_parser(subparsers)
        else:
            # Only the verb that is called is imported: a comparison takes a second to load.
            subparsers.add_parser(name, help=summary)
    return parser


def _module(verb: str) -> Verb:
    return cast("Verb", import_module(f"tracediff.cli.{verb}"))


def _meant(verb: str, words: Sequence[str]) -> str:
    if os.path.exists(verb):  # noqa: PTH110 # What was typed may be no path at all
        command = "info" if len(words) == 1 else "compare"
        return f"did you mean tracediff {command} {shlex.join(words)}?"
    return did_you_mean(verb, VERBS) or f"there are {', '.join(VERBS)}; see tracediff --help"


def _complain(message: str, hint: str | None) -> int:
    style = Style.for_stream(sys.stderr)
    print(f"{style.red('error:')} {message}", file=sys.stderr)
    if hint:
        print(f"{style.cyan('hint:')} {hint}", file=sys.stderr)
    return TROUBLE
