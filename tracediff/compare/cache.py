"""Keep examinations in a folder of ours, so that a pair that was compared once opens at once.

A kept examination answers for the very same two runs, the same options and the same tracediff. What
cannot be written, read or trusted is simply not there: nothing here raises for the cache's sake.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import xxhash

import tracediff
from tracediff.align import StepMap, aligned
from tracediff.compare._codec import NotCacheable, decode, encode
from tracediff.compare._examination import Examination
from tracediff.trace import Run

CACHE_LIMIT = 2 << 30
"""Bytes that kept examinations may take together; those that nobody asked for longest go first."""
_SUFFIX = ".comparison"


def cache_folder() -> Path:
    """Return where examinations are kept: ``$TRACEDIFF_CACHE``, or the platform's place."""
    chosen = os.environ.get("TRACEDIFF_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tracediff" / "comparisons"


def cache_key(runs: list[Run], options: object) -> str | None:
    """Return under what name an examination is kept; None where it cannot be known to be the same.

    Args:
        runs: All runs that go in.
        options: Whatever else does, with a ``repr`` that tells it from others.
    """
    marks = [run.identity() for run in runs]
    if None in marks:
        return None
    parts = [tracediff.__version__, _sources(), repr(options), *map(str, marks)]
    return xxhash.xxh3_128_hexdigest("\n".join(parts).encode())


def _sources() -> str:
    """Return what tells this tracediff from another of the same version: a checkout changes."""
    folder = Path(tracediff.__file__).parent
    state = xxhash.xxh3_64()
    for path in sorted(folder.rglob("*.py")):
        status = path.stat()
        state.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
    return state.hexdigest()


def load(key: str | None, a: Run, b: Run) -> Examination | None:
    """Return the examination kept under ``key``, or None.

    Args:
        key: What `cache_key` returned.
        a: The first run, as it was recorded.
        b: The second run, likewise.
    """
    if key is None:
        return None
    path = cache_folder() / f"{key}{_SUFFIX}"

    def runs(preface: Any) -> dict[str, Run]:
        pairing, steps = preface
        return dict(zip("ab", aligned(a, b, pairing, steps), strict=True))

    try:
        found = decode(path, known=runs)
        os.utime(path)
    except FileNotFoundError:
        return None
    except Exception:  # noqa: BLE001 # Whatever is wrong with it, it is made again.
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return found if isinstance(found, Examination) else None


def keep(key: str | None, examination: Examination, steps: StepMap) -> None:
    """Keep an examination, and let the oldest go where all together are too large.

    Args:
        key: What `cache_key` returned before the runs were compared.
        examination: What was found.
        steps: How the runs' steps were aligned.
    """
    if key is None:
        return
    case = examination.case
    with contextlib.suppress(OSError, NotCacheable, MemoryError):
        known = {"a": case.a, "b": case.b}
        content = encode(examination, preface=(case.pairing, steps), known=known)
        if len(content) > CACHE_LIMIT // 2:
            return
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        # A reader sees the whole of it or nothing.
        Path(file.name).replace(folder / f"{key}{_SUFFIX}")
        _evict(folder)


def _evict(folder: Path) -> None:
    kept = sorted(_kept(folder), key=lambda one: one[0], reverse=True)
    total = 0
    for _, size, path in kept:
        total += size
        if total > CACHE_LIMIT:
            path.unlink(missing_ok=True)


def _kept(folder: Path) -> list[tuple[float, int, Path]]:
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return found


def clear() -> tuple[int, int]:
    """Remove all kept examinations; return how many there were and their bytes.

    Raises:
        OSError: One cannot be removed.
    """
    kept = _kept(cache_folder())
    for _, _, path in kept:
        path.unlink(missing_ok=True)
    return len(kept), sum(size for _, size, _ in kept)


def contents() -> tuple[Path, int, int]:
    """Return where examinations are kept, how many there are, and their bytes."""
    kept: list[Any] = _kept(cache_folder())
    return cache_folder(), len(kept), sum(size for _, size, _ in kept)
