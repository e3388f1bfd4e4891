"""Builds the training environments that the tests record in: one per requirements file beside it.

Run as a script it builds what is missing; imported, it only looks. It uses the standard library
alone and runs on Python 3.7, so that any interpreter at hand can prepare the others.

Each file `NAME.txt` starts with a line `# python: X.Y`. A line `# exhaustive` after it marks a
stack that is too heavy for every run: it is built when it is named, and with `--all`.

Each environment lives in a cache shared by
all checkouts, in a folder named for the stack and a hash of the file and the interpreter: a changed
pin is another environment, and an old checkout finds its own again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

REQUIREMENTS = Path(__file__).resolve().parent
PYTHON_LINE = re.compile(r"#\s*python:\s*(\d+\.\d+)\s*$")
EXHAUSTIVE = "# exhaustive"
# Written last: an environment without it was interrupted, and is built anew.
COMPLETE = ".complete"
NETWORK_TROUBLE = re.compile(
    r"timed? ?out|connection (broken|reset|aborted|refused)|temporary failure|incompleteread",
    re.IGNORECASE,
)


class Stack(NamedTuple):
    """One training environment: its interpreter, or the reason why there is none."""

    name: str
    python: Path | None
    reason: str


class Interpreter(NamedTuple):
    """A Python found on this machine, and its full version."""

    path: Path
    version: str


class StackError(Exception):
    """A stack that cannot be built; its text says what to do."""


def names() -> list[str]:
    """The stacks there are, in alphabetical order."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def is_exhaustive(name: str) -> bool:
    """Whether a stack is built and tested only where that was asked for."""
    lines = requirements_of(name).read_text(encoding="utf-8").splitlines()
    return EXHAUSTIVE in (line.strip() for line in lines)


def requirements_of(name: str) -> Path:
    """The requirements file of a stack."""
    path = REQUIREMENTS / (name + ".txt")
    if not path.is_file():
        raise StackError("no stack is called {}; there are: {}".format(name, ", ".join(names())))
    return path


def python_of(requirements: Path) -> str:
    """The Python version, as `3.7`, that the first line of a requirements file asks for."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    match = PYTHON_LINE.match(lines[0]) if lines else None
    if match is None:
        raise StackError(f"{requirements} must start with a line like `# python: 3.7`")
    return match.group(1)


def pyenv_versions() -> Path:
    """The folder in which pyenv keeps interpreters, whether or not it exists."""
    root = os.environ.get("PYENV_ROOT")
    return (Path(root) if root else Path.home() / ".pyenv") / "versions"


@functools.lru_cache(maxsize=None)
def interpreter(version: str) -> Interpreter | None:
    """Finds Python `version` (as `3.7`) on PATH, or else in pyenv's folder, newest patch first."""
    candidates = []
    on_path = shutil.which("python" + version)
    if on_path:
        candidates.append(Path(on_path))
    kept = pyenv_versions().glob(version + ".*/bin/python" + version)
    candidates += sorted(kept, key=_patch_number, reverse=True)
    for path in candidates:
        # Asking is the only proof: pyenv puts a name on PATH for versions that are not active.
        full = _version_reported_by(path)
        if full is not None and full.startswith(version + "."):
            return Interpreter(path, full)
    return None


def find(name: str) -> Stack:
    """Looks for a stack that is ready to use; builds nothing."""
    requirements = requirements_of(name)
    found = interpreter(python_of(requirements))
    if found is None:
        return _without_interpreter(name, requirements)
    environment = _environment(name, requirements, found)
    python = environment / "bin" / "python"
    if (environment / COMPLETE).is_file() and python.exists():
        return Stack(name, python, "")
    return Stack(
        name, None, f"stack {name} is not built: run `python3 tests/stacks/build.py {name}`"
    )


def build(name: str) -> Stack:
    """Builds a stack, or finds it built already.

    Raises:
        StackError: pip could not install the requirements.
    """
    requirements = requirements_of(name)
    found = interpreter(python_of(requirements))
    if found is None:
        return _without_interpreter(name, requirements)
    environment = _environment(name, requirements, found)
    environment.parent.mkdir(parents=True, exist_ok=True)
    with _only_builder(environment):
        stack = find(name)
        if stack.python is not None:
            _say(f"{name}: ready in {environment}")
            return stack
        _say(f"{name}: building with Python {found.version} in {environment}")
        started = time.monotonic()
        _fill(name, environment, requirements, found)
        (environment / COMPLETE).write_text(found.version + "\n", encoding="utf-8")
        _say(f"{name}: built in {time.monotonic() - started:.0f} s")
    return find(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the stacks named, or those of every test run.

    Prints `NAME<TAB>PYTHON` or `NAME<TAB>-<TAB>REASON`.
    """
    parser = argparse.ArgumentParser(description="Build the environments that the tests record in.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="stacks; those of `make test` when none is named"
    )
    parser.add_argument(
        "--all", action="store_true", help="all stacks, those of `make test-all` too"
    )
    parser.add_argument(
        "--require", action="store_true", help="fail when an interpreter is missing"
    )
    options = parser.parse_args(arguments)
    status = 0
    wanted = [name for name in names() if options.all or not is_exhaustive(name)]
    for name in options.names or wanted:
        try:
            stack = build(name)
        except StackError as error:
            _say(f"error: {error}")
            status = 2
            continue
        if stack.python is None:
            _say(f"{name}: {stack.reason}")
            print(f"{name}\t-\t{stack.reason}", flush=True)
            status = max(status, 2 if options.require else 0)
        else:
            print(f"{name}\t{stack.python}", flush=True)
    return status


def _without_interpreter(name: str, requirements: Path) -> Stack:
    version = python_of(requirements)
    reason = (
        f"stack {name} needs Python {version} with its venv module, "
        f"which is neither on PATH nor in {pyenv_versions()}"
    )
    return Stack(name, None, reason)


def _patch_number(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.parents[1].name))


def _version_reported_by(python: Path) -> str | None:
    # Some systems ship a Python that cannot make environments: it is as good as absent.
    program = "import ensurepip, sys, venv; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cache() -> Path:
    named = os.environ.get("TRACEDIFF_STACKS")
    if named:
        return Path(named).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "tracediff" / "stacks"


def _environment(name: str, requirements: Path, found: Interpreter) -> Path:
    content = requirements.read_bytes() + found.version.encode("ascii")
    return _cache() / (f"{name}-{hashlib.sha256(content).hexdigest()[:12]}")


@contextlib.contextmanager
def _only_builder(environment: Path) -> Iterator[None]:
    """Holds the right to build one environment; the system takes it back from a killed process."""
    with environment.with_name(environment.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(name: str, environment: Path, requirements: Path, found: Interpreter) -> None:
    _checked(name, [str(found.path), "-m", "venv", "--clear", str(environment)])
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install"]
    pip += ["--disable-pip-version-check", "-q"]
    if found.version.startswith("3.7."):
        # The pip that Python 3.7 carries knows no wheels for newer Linux; 24.1 dropped 3.7.
        _checked(name, [*pip, "--upgrade", "pip<24.1"])
    elif found.version.startswith("3.8."):
        # The same; 25.0 is the last pip for Python 3.8.
        _checked(name, [*pip, "--upgrade", "pip<25.1"])
    _checked(name, [*pip, "-r", str(requirements)])


def _checked(name: str, command: Sequence[str]) -> None:
    """Runs a command; once more where the network failed; raises with its last lines."""
    for attempt in (1, 2):
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_clean_environment(),
            check=False,
        )
        if done.returncode == 0:
            return
        if attempt == 1 and NETWORK_TROUBLE.search(done.stdout):
            _say(f"{name}: the network failed, trying once more")
            continue
        last = "\n".join("  " + line for line in done.stdout.strip().splitlines()[-15:])
        raise StackError(
            f"stack {name}: `{' '.join(command)}` ended with status {done.returncode}:\n{last}"
        )


def _clean_environment() -> dict:
    """The caller's environment without what would lead another Python to the caller's modules."""
    unwanted = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {key: value for key, value in os.environ.items() if key not in unwanted}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
