"""Opens the store behind a path or a URL, and says of anything else what it is instead."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from tracediff.errors import (
    DamagedTrace,
    NotATrace,
    TracediffError,
    TraceNotFound,
    UnsupportedFormat,
    did_you_mean,
)
from tracediff.trace._damage import DAMAGE_HINT, described, unreadable

if TYPE_CHECKING:
    from zarr.abc.store import Store


def open_store(path: str) -> Store:
    """Return the store at a path or behind a URL.

    Raises:
        TraceNotFound: Nothing is there.
        NotATrace: Something else is there.
        UnsupportedFormat: It is a store in zarr format 3.
        DamagedTrace: It was a trace, and lacks what makes it a group.
    """
    if "://" in path:
        return _open_remote_store(path)
    folder = Path(path)
    if not os.path.lexists(folder):
        raise TraceNotFound(f"{path} does not exist", hint=_near_path(path) or _how_to_record())
    if not folder.is_dir():
        archive = path.endswith((".zip", ".tar", ".gz", ".tgz"))
        raise NotATrace(
            f"{path} is a file; a trace is a folder",
            hint="unpack the archive first" if archive else what_is_a_trace(),
        )
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise unreadable(path, error) from error
    if ".zgroup" not in names:
        raise _no_group(path, names)
    return LocalStore(path, read_only=True)


def _open_remote_store(url: str) -> Store:
    try:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(url, read_only=True)
    except ImportError as error:
        raise TracediffError(
            f"{url} cannot be opened: {error}",
            hint="pip install fsspec and its package for this kind of URL (s3fs, gcsfs, adlfs)",
        ) from error
    except Exception as error:
        raise TraceNotFound(
            f"{url} cannot be opened: {described(error)}", hint="check the URL and your credentials"
        ) from error


def _no_group(path: str, names: set[str]) -> TracediffError:
    if "zarr.json" in names:
        return UnsupportedFormat(
            f"{path} is a store in zarr format 3; a trace is in zarr format 2",
            hint="name the folder that the recorder wrote, not a converted copy",
        )
    if ".zarray" in names:
        return NotATrace(f"{path} is a single zarr array, not a trace", hint=what_is_a_trace())
    if any(re.fullmatch(r"run-\d+", name) for name in names):
        return DamagedTrace(f"{path}/.zgroup is missing", hint=DAMAGE_HINT)
    inside = sorted(name for name in names if (Path(path) / name / ".zgroup").exists())
    if inside:
        return NotATrace(
            f"{path} is a folder, not a trace",
            hint=f"did you mean {Path(path) / inside[0]}?",
        )
    return NotATrace(f"{path} is a folder, not a trace", hint=what_is_a_trace())


def _near_path(path: str) -> str | None:
    folder = Path(path).parent
    try:
        siblings = [str(entry) for entry in folder.iterdir()]
    except OSError:
        return None
    return did_you_mean(str(Path(path)), siblings)


def what_is_a_trace() -> str:
    """Return the hint for whoever has named something else."""
    return 'a trace is the folder that TraceCallback("a.zarr") or tracediff-record -o a.zarr writes'


def _how_to_record() -> str:
    return 'record one with model.fit(..., callbacks=[TraceCallback("a.zarr")])'
