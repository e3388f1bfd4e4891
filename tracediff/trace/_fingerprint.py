"""Tell whether a run on disk is still what it was, without reading its values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = (".zattrs", ".zarray", "progress/", "steps/", "state/", "observed/", "external/")
"""What is read, and not only looked at: what a run says of itself, and the tables of digests."""


def fingerprint(folder: Path) -> str | None:
    """Return a hash of a run's folder, or None where it cannot be looked at.

    The name, size and time of every file go in, and the contents of all but the values: those are
    as their digests say.
    """
    state = xxhash.xxh3_128()
    try:
        for path, status in sorted(_files(folder)):
            inside = path[len(str(folder)) + 1 :].replace(os.sep, "/")
            state.update(f"{inside} {status.st_size} {status.st_mtime_ns}\n".encode())
            if inside.startswith(_READ):
                state.update(Path(path).read_bytes())
    except OSError:
        return None
    return state.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path))
            else:
                yield entry.path, entry.stat()
