"""Records the processes that a recorded script starts, each into a trace of its own.

A Python that the script starts inherits the environment, whose `PYTHONPATH` leads it to
`in_child/sitecustomize.py`; a forked child inherits the wrapped classes. Both record what they
train to `a.child-PID.zarr` beside the `a.zarr` of the script.
"""

import glob
import json
import os
from typing import Any, Dict, List, Optional

from tracediff_hooks._tell import tell

VARIABLE = "TRACEDIFF_RECORD_CHILDREN"
_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "in_child")
_forked: Dict[int, Any] = {}


def watch_children(store: str, options: Dict[str, Any]) -> None:
    """From now on processes that this one starts record what they train.

    Args:
        store: where this process writes its own trace.
        options: those of `TraceCallback` that JSON can hold.
    """
    if "://" not in store:
        os.environ[VARIABLE] = json.dumps({**options, "store": os.path.abspath(store)})
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = _FOLDER + (os.pathsep + path if path else "")


def traces_of_children(store: str) -> List[str]:
    """The traces of processes that a recorded script has started."""
    stem, ending = os.path.splitext(store)
    return sorted(glob.glob(f"{glob.escape(stem)}.child-*{ending}"))


def callback_of_this_process() -> Optional[Any]:
    """The callback of a child; None, said once, where it cannot record."""
    process = os.getpid()
    if process not in _forked:
        _forked[process] = _make_callback()
    return _forked[process]


def _make_callback() -> Optional[Any]:
    from tracediff_hooks.callback import TraceCallback

    if VARIABLE not in os.environ:
        tell("what a process that the script has started trains is not recorded")
        return None
    options = json.loads(os.environ[VARIABLE])
    stem, ending = os.path.splitext(options.pop("store"))
    try:
        return TraceCallback(f"{stem}.child-{os.getpid()}{ending}", **options)
    except Exception as error:
        tell(f"what process {os.getpid()} trains is not recorded: {error}")
        return None
