"""What cannot be read as it was recorded, as errors that say where and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tracediff.errors import DamagedTrace, TracediffError

DAMAGE_HINT = "restore the trace from a copy, or record it again"


class ChunkError(Exception):
    """A chunk is not what it has to be."""


def described(error: Exception) -> str:
    """Return the class of an error and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def unreadable(where: str, error: OSError) -> TracediffError:
    """Return the error for what the system does not let be read."""
    return TracediffError(
        f"{where} cannot be read: {error.strerror or error}",
        hint="check its permissions and the disk it is on",
    )


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn what zarr, its codecs, JSON and the file system raise into an error that says where."""
    try:
        yield
    except (TracediffError, MemoryError):
        raise
    except ChunkError as error:
        raise DamagedTrace(f"{where}: {error}", hint=DAMAGE_HINT) from error
    except (PermissionError, BlockingIOError, TimeoutError, ConnectionError) as error:
        raise unreadable(where, error) from error
    except Exception as error:
        raise DamagedTrace(
            f"{where} cannot be read: {described(error)}", hint=DAMAGE_HINT
        ) from error


def as_object(found: object, where: str) -> Mapping[str, Any]:
    """Return ``found`` if it is a JSON object.

    Raises:
        DamagedTrace: It is something else.
    """
    if not isinstance(found, dict):
        raise DamagedTrace(f"{where}: a JSON object expected", hint=DAMAGE_HINT)
    return found


def damaged(message: str) -> DamagedTrace:
    """Return the error for content that contradicts itself."""
    return DamagedTrace(message, hint=DAMAGE_HINT)
