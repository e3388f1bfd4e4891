"""Runs a training script or module as `python` does."""

import builtins
import importlib.util
import os
import runpy
import sys
import types
from typing import Optional, Sequence


def missing(script: str, *, module: bool) -> Optional[str]:
    """Says that a script or module is not there, or None where it is.

    A module is looked for where the script's own imports are: in the current folder first.
    """
    if not module:
        return None if os.path.isfile(script) else f"there is no script {script}"
    sys.path[0] = os.getcwd()
    return None if _is_module(script) else f"there is no module {script}"


def run(script: str, arguments: Sequence[str], *, module: bool) -> None:
    """Does what `python SCRIPT ARGUMENTS` does, or `python -m SCRIPT ARGUMENTS`.

    Raises:
        SystemExit: the script ends with a status other than 0.
    """
    sys.argv = [script, *arguments]
    try:
        if module:
            sys.path[0] = os.getcwd()
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(script))
            _run_file(script)
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            return False
        raise  # a package above it misses something else


def _run_file(path: str) -> None:
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
