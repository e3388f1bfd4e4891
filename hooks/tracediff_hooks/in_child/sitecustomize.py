"""Python imports this as it starts, where a script run by `tracediff-record` has started it."""  # noqa: INP001 - found by its folder

import importlib
import os
import sys


class _Waiting:
    """Begins to record when a framework is imported, and costs a process without one nothing."""

    FRAMEWORKS = ("tensorflow", "keras", "tf_keras")

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG003 - as Python calls it
        if name in cls.FRAMEWORKS and cls in sys.meta_path:
            sys.meta_path.remove(cls)
            try:
                from tracediff_hooks.attach import record_this_process

                record_this_process()
            except ImportError as error:
                sys.stderr.write(
                    f"tracediff: what process {os.getpid()} trains is not recorded: {error}\n"
                )


def _hand_over() -> None:
    """Runs the sitecustomize that this one stands before, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place or ".") != here]
    this = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError:
        if this is not None:
            sys.modules["sitecustomize"] = this


_hand_over()
sys.meta_path.insert(0, _Waiting)
