"""The command `tracediff-record`: runs a script unchanged and records every `Model.fit` in it."""

import argparse
import sys
from typing import Any, Callable, Dict, List, Optional, Union

from tracediff_hooks._version import __version__
from tracediff_hooks.budget import parse_size
from tracediff_hooks.levels import Levels, schedule

EPILOG = """\
examples:
  tracediff-record -o a.zarr train.py --epochs 2
  tracediff-record -o a.zarr -m my_package.train --epochs 2
  python -m tracediff_hooks record -o a.zarr train.py     (the same, where no command was installed)
  tracediff-record --selftest train.py                    (does recording change the training?)

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
        "       tracediff-record -o TRACE [options] -m MODULE [ARGS ...]\n"
        "       tracediff-record --selftest [-o TRACE] [options] SCRIPT [ARGS ...]",
    )
    parser.add_argument("-o", "--output", metavar="TRACE", help="where to write the trace")
    parser.add_argument(
        "--selftest",
        action="store_true",
        help="run the script without and with the recorder, and say whether both train the same; "
        "with -o, the trace is kept and says so too",
    )
    # What the self-test runs: notes the weights of every step into a file.
    parser.add_argument("--witness", metavar="FILE", help=argparse.SUPPRESS)
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
    parser.add_argument(
        "--random-layers",
        choices=("own", "off"),
        help="off: train with the rates of dropout and noise at 0, another training than the "
        "script's own, so that a replay can do the same (default: own; of a replay, as the run "
        "that it replays)",
    )
    replay = parser.add_argument_group("train on what another run recorded")
    replay.add_argument(
        "--initial-weights-from",
        metavar="TRACE",
        help="begin with the weights, moving statistics and optimizer slots that it began with",
    )
    replay.add_argument(
        "--own-slots",
        action="store_true",
        help="of the state it began with take the weights and moving statistics only",
    )
    replay.add_argument("--batches-from", metavar="TRACE", help="feed its batches, in its order")
    replay.add_argument(
        "--lockstep",
        action="store_true",
        help="set the whole state to its state before every step: each difference is that step's",
    )
    replay.add_argument(
        "--own-batches",
        metavar="TRACE",
        help="record there what the script's own pipeline gives while other batches are fed",
    )
    replay.add_argument(
        "--map",
        metavar="FILE",
        help="which tensor is which, from `tracediff map A B -o FILE`; else by name and shape",
    )
    parser.add_argument(
        "--activations",
        nargs="?",
        const=True,
        default=False,
        metavar="PATTERN",
        help="record what layers put out, too: --activations for all of them, "
        "--activations=PATTERN for those in whose name the regular expression is found",
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
    return _checked(level, Levels)  # type: ignore[no-any-return]


def _steps(text: str) -> str:
    return _checked(text, schedule)  # type: ignore[no-any-return]


def _budget(text: str) -> str:
    return _checked(text, parse_size)  # type: ignore[no-any-return]


def _checked(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        check(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command.

    Returns:
        The script's own exit status; 2 where recording could not begin or nothing was trained. Of a
        self-test 0 where both trainings are equal, 1 where they are not, 2 where a run failed.
    """
    given = sys.argv[1:] if argv is None else argv
    parser = _parser()
    options = parser.parse_args(given)
    if not (options.output or options.selftest or options.witness):
        parser.error("the following arguments are required: -o/--output")
    if options.selftest and (
        options.initial_weights_from or options.batches_from or options.random_layers
    ):
        parser.error("--selftest trains as the script does, and in no other way")
    if options.selftest and "://" in (options.output or ""):
        parser.error("--selftest keeps its trace in a folder, so -o must name one and no URL")
    # What follows imports zarr and numpy, which `--help` need not wait for.
    from tracediff_hooks import script

    gone = script.missing(options.script, module=options.module)
    if gone is not None:
        hint = (
            "a script is named without -m" if options.module else "name a file, or a module with -m"
        )
        return _trouble(gone, hint)
    return _self_test(options) if options.selftest else _record(options)


def _record(options: argparse.Namespace) -> int:
    from tracediff_hooks import script
    from tracediff_hooks.attach import record_every_fit
    from tracediff_hooks.callback import TraceCallback
    from tracediff_hooks.children import traces_of_children, watch_children
    from tracediff_hooks.replay import ReplayRefused
    from tracediff_hooks.witness import Witness

    callbacks: List[Any] = []
    if options.output:
        try:
            replay = _replay(options)
            callbacks.append(TraceCallback(options.output, replay=replay, **_choices(options)))
        except ReplayRefused as error:
            return _trouble(error.message, error.hint)
        except (FileExistsError, ValueError) as error:
            return _trouble(str(error), None)
    if options.witness:
        callbacks.append(Witness())
    for callback in callbacks:
        record_every_fit(callback)
    own = set(traces_of_children(options.output or ""))
    if options.output and replay is None:
        watch_children(options.output, {**_choices(options), "overwrite": False})
    try:
        script.run(options.script, options.arguments, module=options.module)
    except ReplayRefused as error:
        return _trouble(error.message, error.hint)
    finally:
        used = any(callback.used for callback in callbacks)
        for callback in callbacks:
            callback.close()
        if options.witness and used:
            callbacks[-1].save(options.witness)
    if not used and not (options.output and set(traces_of_children(options.output)) - own):
        return _trouble(
            f"{options.script} called no Model.fit, so nothing was recorded",
            "other ways of training are recorded by tracediff_hooks.record, see docs/capture.md",
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
        for option in ("lockstep", "own_slots", "own_batches", "map"):
            if getattr(options, option):
                raise ReplayRefused(
                    "--{} needs a run to follow".format(option.replace("_", "-")),
                    hint="name it with --batches-from TRACE or --initial-weights-from TRACE",
                )
        return None
    if weights is not None and batches is not None and weights != batches:
        raise ReplayRefused(
            f"--initial-weights-from {weights} and --batches-from {batches} name two runs",
            hint="a run is controlled by one other run",
        )
    if options.own_slots and (weights is None or options.lockstep):
        raise ReplayRefused(
            "--own-slots leaves slots as they are while --initial-weights-from sets weights"
            + (", and --lockstep sets both" if options.lockstep else ""),
            hint="leave it out",
        )
    if options.own_batches and batches is None:
        raise ReplayRefused(
            "--own-batches records the script's batches while those of another run are fed",
            hint="name that run with --batches-from TRACE; without it the trace itself holds them",
        )
    return Replay(
        weights or batches,
        initial_weights=weights is not None,
        batches=batches is not None,
        state="every-step" if options.lockstep else "start",
        slots=not options.own_slots,
        mapping=options.map,
        own_batches=options.own_batches,
    )


def _choices(options: argparse.Namespace) -> Dict[str, Any]:
    """The options of `TraceCallback` among those of the command."""
    names = ("level", "steps", "tensors", "budget", "overwrite", "compression", "activations")
    return {name: getattr(options, name) for name in (*names, "random_layers")}


def _self_test(options: argparse.Namespace) -> int:
    from tracediff_hooks.selftest import ScriptFailed, keep_in_trace, self_test
    from tracediff_hooks.target import check_target

    level = options.level
    if isinstance(level, dict):
        level = ",".join(f"{role}={kept}" for role, kept in level.items())
    arguments = [f"--level={level}"] + ["--overwrite"] * options.overwrite
    for name in ("steps", "budget", "compression"):
        if getattr(options, name) is not None:
            arguments.append(f"--{name}={getattr(options, name)}")
    arguments += [f"--tensors={pattern}" for pattern in options.tensors or ()]
    if options.activations is True:
        arguments.append("--activations")
    elif options.activations:
        arguments.append(f"--activations={options.activations}")
    arguments += ["-m"] * options.module + [options.script, *options.arguments]
    try:
        if options.output:
            check_target(options.output, overwrite=options.overwrite)
        result = self_test(arguments, options.output)
        if options.output:
            keep_in_trace(result, options.output)
    except (FileExistsError, ScriptFailed) as error:
        return _trouble(str(error), None)
    print(result.told(options.script))
    return 0 if result.verdict == "equal" else 1


def _trouble(message: str, hint: Optional[str]) -> int:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return 2
