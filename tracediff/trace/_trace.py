"""Open a trace and the runs in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracediff.errors import NotATrace, UnknownName, UnsupportedFormat
from tracediff.trace._cache import BlockCache
from tracediff.trace._damage import as_object, damaged
from tracediff.trace._run import Run
from tracediff.trace._store import TraceFiles

FORMAT = 1
"""The newest version of docs/trace-format.md that is read here."""

_RUN_NAME = re.compile(r"run-(\d+)")


@dataclass(frozen=True, slots=True, repr=False)
class Trace:
    """An opened trace.

    Attributes:
        path: Where it is.
        format: The version of the trace format.
        writer: Which recorder wrote it.
        runs: Its runs in the order in which they began; one if the path named a run.
    """

    path: str
    format: int
    writer: str
    runs: tuple[Run, ...]

    def __repr__(self) -> str:
        lines = [f"Trace({self.path!r}, written by {self.writer})"]
        return "\n  ".join([*lines, *map(repr, self.runs)])


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Open a trace, or one run of it; nothing is read yet but what the runs say of themselves.

    Args:
        path: A folder such as ``a.zarr``, a run in it such as ``a.zarr/run-1``, or a URL of either
            that fsspec understands.

    Raises:
        TraceNotFound: Nothing is at the path.
        NotATrace: Something else is there, or a trace without a run.
        UnsupportedFormat: A newer trace format, or zarr format 3.
        DamagedTrace: Parts of it are missing or cannot be parsed.

    Example:
        >>> trace = open_trace("a.zarr")  # doctest: +SKIP
        >>> trace  # doctest: +SKIP
        Trace('a.zarr', written by tracediff-hooks 0.1.0)
          Run('a.zarr': 120 steps, complete, 24 tensors)
    """
    given = os.fspath(path)
    typed = given.rstrip("/" + os.sep) or given
    chosen = None
    if _RUN_NAME.fullmatch(_split(typed)[1]):
        files, chosen = _open_run(typed)
    else:
        files = TraceFiles(typed)
    header = _header(files)
    names = [chosen] if chosen else _run_names(files)
    if not names:
        raise NotATrace(
            f"{files.path} holds no run: the script ended before a step was recorded",
            hint="record it again, and let training begin",
        )
    cache = BlockCache()
    runs = tuple(
        Run(
            files,
            name,
            path=typed if chosen or len(names) == 1 else f"{files.path}/{name}",
            cache=cache,
        )
        for name in names
    )
    return Trace(path=typed, format=header[0], writer=header[1], runs=runs)


def _open_run(path: str) -> tuple[TraceFiles, str | None]:
    """Open the trace that a run belongs to, or a trace that is itself called like a run."""
    folder, name = _split(path)
    if "://" not in path and (Path(folder) / ".zgroup").exists():
        files = TraceFiles(folder)
        names = _run_names(files)
        if name in names:
            return files, name
        raise UnknownName(
            f"{folder} has no {name}", hint=f"it has {', '.join(names) or 'no run at all'}"
        )
    files = TraceFiles(path)
    if "tracediff" in files.attributes():
        return files, None
    return TraceFiles(folder), name


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.replace(os.sep, "/").rpartition("/")
    return folder or ".", name


def _header(files: TraceFiles) -> tuple[int, str]:
    attributes = files.attributes()
    if "tracediff" not in attributes:
        raise NotATrace(
            f"{files.path} is a zarr group, but no trace: it lacks the attribute tracediff",
            hint="name the folder that the recorder wrote" + _inside(files, attributes),
        )
    header = as_object(attributes["tracediff"], f"{files.path}: attribute tracediff")
    version = header.get("format")
    if type(version) is not int or version < 1:
        raise damaged(f"{files.path} has {version!r} as its trace format")
    if version > FORMAT:
        raise UnsupportedFormat(
            f"{files.path} was written with trace format {version}; "
            f"this tracediff reads up to {FORMAT}",
            hint="pip install -U tracediff",
        )
    return version, str(header.get("writer", "an unknown recorder"))


def _inside(files: TraceFiles, attributes: Mapping[str, Any]) -> str:
    """Return the end of a hint for the path of something inside a trace."""
    if "run" in attributes:
        return ", and a run of it as run-0, run-1, ..."
    above = files.path
    while (above := _split(above)[0]) not in {"", "."}:
        if _RUN_NAME.fullmatch(_split(above)[1]):
            return f", such as {_split(above)[0]}"
    return ""


def _run_names(files: TraceFiles) -> list[str]:
    numbers = [
        int(match[1]) for match in map(_RUN_NAME.fullmatch, files.groups()) if match is not None
    ]
    return [f"run-{number}" for number in sorted(numbers)]
