"""The command `tracediff-record`: runs a script unchanged and records every `Model.fit` in it."""

import argparse
import builtins
import importlib.util
import os
import runpy
import sys
import types
from typing import Any, Callable, Dict, List, Optional, Union

from tracediff_hooks._version import __version__
from tracediff_hooks.budget import parse_size
from tracediff_hooks.levels import Levels, schedule

EPILOG = """\
examples:
  tracediff-record -o a.zarr train.py --epochs 2
  tracediff-record -o a.zarr -m my_package.train --epochs 2
  python -m tracediff_hooks record -o a.zarr train.py     (the same, where no command was installed)

Every Model.fit of the script is recorded. Fits of one model continue one run; another model, or
the same one compiled with another optimizer, begins the next run in the same trace: a.zarr/run-0,
a.zarr/run-1, ...
With --initial-weights-from, --batches-from and --lockstep the script trains on what another run
recorded, so that what still differs has another cause (docs/replay.md):
  tracediff-record -o b.zarr --initial-weights-from a.zarr --batches-from a.zarr train.py
  tracediff-record -o b.zarr --batches-from a.zarr --lockstep train.py

Else the script's output, its exit status and its weights stay what they are without recording.

then, where the package tracediff is installed:
  tracediff info a.zarr
  tracediff compare a.zarr b.zarr
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tracediff-record",
        description="Run a training script and record every training step in it into a trace.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="tracediff-record -o TRACE [options] SCRIPT [ARGS ...]\n"
        "       tracediff-record -o TRACE [options] -m MODULE [ARGS ...]",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="TRACE", help="where to write the trace"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a trace that is there")
    parser.add_argument(
        "--level",
        type=_level,
        default="auto",
        help="keep every element (full), projections that tell how far apart two runs are "
        "(sketch), only whether they are (digest), or full unless a step is larger than 64 MiB, "
        "then sketch (auto, the default); or a level for each role: weight=full,gradient=sketch",
    )
    parser.add_argument(
        "--steps",
        type=_steps,
        metavar="STEPS",
        help="keep elements and sketches at these steps only, digests and statistics at all: "
        ":20,100:120,::1000 is the first twenty, 100 to 119, and every thousandth",
    )
    parser.add_argument(
        "--tensors",
        action="append",
        metavar="PATTERN",
        help="keep elements of these tensors only, such as 'hidden/*', of others sketches; may be "
        "given several times",
    )
    parser.add_argument(
        "--budget",
        type=_budget,
        metavar="SIZE",
        help="what the trace may take on disk, such as 2GB (default: 10 GiB, or nine tenths of "
        "what is free); where it is used up less is kept, and training goes on",
    )
    parser.add_argument(
        "--compression",
        choices=("lz4", "zstd"),
        default=None,
        help="compress values: training state shrinks by about a tenth and takes longer to write",
    )
    replay = parser.add_argument_group("train on what another run recorded")
    replay.add_argument(
        "--initial-weights-from",
        metavar="TRACE",
        help="begin with the weights, moving statistics and optimizer slots that it began with",
    )
    replay.add_argument("--batches-from", metavar="TRACE", help="feed its batches, in its order")
    replay.add_argument(
        "--lockstep",
        action="store_true",
        help="set the whole state to its state before every step: each difference is that step's",
    )
    replay.add_argument(
        "--map",
        metavar="FILE",
        help="which tensor is which, from `tracediff map A B -o FILE`; else by name and shape",
    )
    parser.add_argument("--version", action="version", version="tracediff-record " + __version__)
    parser.add_argument(
        "-m", dest="module", action="store_true", help="SCRIPT is the name of a module"
    )
    parser.add_argument("script", metavar="SCRIPT", help="the training script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")
    return parser


def _level(text: str) -> Union[str, Dict[str, str]]:
    level: Union[str, Dict[str, str]] = text
    if "=" in text:
        level = dict(part.strip().partition("=")[::2] for part in text.split(","))
    return _checked(level, Levels)


def _steps(text: str) -> str:
    return _checked(text, schedule)


def _budget(text: str) -> str:
    return _checked(text, parse_size)


def _checked(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        check(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command.

    Returns:
        The script's own exit status; 2 where recording could not begin or nothing was trained.
    """
    options = _parser().parse_args(argv)
    # What follows imports zarr and numpy, which `--help` need not wait for.
    from tracediff_hooks.attach import record_every_fit
    from tracediff_hooks.callback import TraceCallback
    from tracediff_hooks.replay import ReplayRefused

    if not options.module and not os.path.isfile(options.script):
        return _trouble(f"there is no script {options.script}", "name a file, or a module with -m")
    try:
        replay = _replay(options)
        callback = TraceCallback(
            options.output,
            level=options.level,
            steps=options.steps,
            tensors=options.tensors,
            budget=options.budget,
            overwrite=options.overwrite,
            compression=options.compression,
            replay=replay,
        )
    except FileExistsError as error:
        return _trouble(str(error), None)
    except ReplayRefused as error:
        return _trouble(error.message, error.hint)
    record_every_fit(callback)
    sys.argv = [options.script, *options.arguments]
    try:
        if options.module:
            sys.path[0] = os.getcwd()
            if not _is_module(options.script):
                return _trouble(
                    f"there is no module {options.script}", "a script is named without -m"
                )
            runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(options.script))
            _run_script(options.script)
    except ReplayRefused as error:
        return _trouble(error.message, error.hint)
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise
    finally:
        recorded = callback.used
        callback.close()
    if not recorded:
        return _trouble(
            f"{options.script} called no Model.fit, so nothing was recorded",
            "hand-written training loops are not recorded by this command",
        )
    return 0


def _replay(options: argparse.Namespace) -> Any:
    """What of another run the script is to train on; None for nothing.

    Raises:
        ReplayRefused: the options name two runs, or none, or there is no such trace.
    """
    from tracediff_hooks.replay import Replay, ReplayRefused

    weights, batches = options.initial_weights_from, options.batches_from
    if weights is None and batches is None:
        if options.lockstep or options.map:
            raise ReplayRefused(
                "{} needs a run to follow".format("--lockstep" if options.lockstep else "--map"),
                hint="name it with --batches-from TRACE or --initial-weights-from TRACE",
            )
        return None
    if weights is not None and batches is not None and weights != batches:
        raise ReplayRefused(
            f"--initial-weights-from {weights} and --batches-from {batches} name two runs",
            hint="a run is controlled by one other run",
        )
    return Replay(
        weights or batches,
        initial_weights=weights is not None,
        batches=batches is not None,
        state="every-step" if options.lockstep else "start",
        mapping=options.map,
    )


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            return False
        raise  # a package above it misses something else


def _run_script(path: str) -> None:
    """Does what `python PATH` does.

    `runpy.run_path` makes one name of `__file__` and `sys.argv[0]`, where Python from 3.9 on has an
    absolute one and the one that the user gave, and forgets the module before what the script left
    to `atexit` runs.
    """
    script = types.ModuleType("__main__")
    script.__file__ = os.path.abspath(path) if sys.version_info >= (3, 9) else path
    script.__dict__["__builtins__"] = builtins
    with open(path, "rb") as file:
        code = compile(file.read(), script.__file__, "exec", dont_inherit=True)
    sys.modules["__main__"] = script
    exec(code, script.__dict__)  # noqa: S102 - the user's own script, as they asked


def _trouble(message: str, hint: Optional[str]) -> int:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return 2
