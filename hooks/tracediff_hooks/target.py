"""Where a trace is to be written, and what must not stand there."""

import json
import os
from typing import Any, Optional


class TraceExistsError(FileExistsError):
    """The store to be written is there already."""


def where(path: str) -> str:
    """Where a path leads, symbolic links followed; a URL leads to itself."""
    return path if "://" in path else os.path.realpath(path)


def check_target(path: str, *, overwrite: bool) -> None:
    """Refuses a path that holds something a new trace would destroy.

    Raises:
        TraceExistsError: something is there; with ``overwrite`` only if it is not a trace.
        ValueError: a URL that nothing installed here can write to.
    """
    if "://" in path:
        there, is_trace = _found_at_url(path)
    else:
        there, is_trace = _found_at(where(path))
    if not there:
        return
    if not overwrite:
        raise TraceExistsError(
            f"{path} exists already; pass overwrite=True (tracediff-record: --overwrite) "
            "to replace it, or record to another path"
        )
    if not is_trace:
        raise TraceExistsError(
            f"{path} exists and is not a trace, so overwrite=True does not delete it; "
            "record to another path"
        )


def _found_at(target: str) -> "tuple[bool, bool]":
    """Whether anything stands there, and whether it is a trace."""
    if not os.path.lexists(target) or (os.path.isdir(target) and not os.listdir(target)):
        return False, False
    try:
        with open(os.path.join(target, ".zattrs"), "rb") as file:
            return True, _describes_a_trace(file.read())
    except OSError:
        return True, False


def _found_at_url(url: str) -> "tuple[bool, bool]":
    try:
        objects = objects_at(url)
    except ValueError:
        raise
    except Exception:  # the writer meets it too, and says so while training goes on
        return False, False
    try:
        there = ".zgroup" in objects or bool(objects.fs.ls(objects.root, detail=False))
    except Exception:  # no such place, which is as it should be; or no way to it, as above
        return False, False
    return there, there and _describes_a_trace(objects.get(".zattrs"))


def _describes_a_trace(attributes: Optional[bytes]) -> bool:
    try:
        return "tracediff" in json.loads(attributes or b"{}")
    except (ValueError, TypeError):
        return False


def objects_at(url: str) -> Any:
    """What is below a URL, as a mapping from names to bytes.

    Raises:
        ValueError: nothing installed here knows this kind of URL.
    """
    try:
        import fsspec  # only who records to a URL needs it
    except ImportError as error:
        raise ValueError(
            f"{url} cannot be written to, for fsspec is not installed here: pip install fsspec and "
            "its package for this kind of URL (s3fs, gcsfs, adlfs), or record to a folder"
        ) from error
    try:
        return fsspec.get_mapper(url)
    except ImportError as error:
        raise ValueError(
            f"{url} cannot be written to, for a package is not installed here "
            f"({error}): pip install it, or record to a folder"
        ) from error
    except ValueError as error:
        raise ValueError(f"{url} cannot be written to: {error}; or record to a folder") from error
