"""The family of errors that tracediff raises; every one says what happened and what to do.

Nothing else leaves the public functions for a mistake of the user's or a fault of a trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TracediffError(Exception):
    """The base of all errors of tracediff.

    Attributes:
        message: One line: what happened (path, step, tensor) and what was expected.
        hint: What to do about it, or None.

    Example:
        >>> error = TracediffError("a.zarr holds no steps", hint="record again")
        >>> str(error), error.hint
        ('a.zarr holds no steps', 'record again')
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # KeyError would show the repr of its argument; every subclass shows the message.
        return self.message


class UsageError(TracediffError, ValueError):
    """What the caller asked for makes no sense, whatever the traces hold."""


class UnknownName(TracediffError, LookupError):
    """A run, tensor, step or layer that the trace does not have."""


class TraceNotFound(TracediffError, FileNotFoundError):
    """Nothing is at the path."""


class NotATrace(TracediffError, ValueError):
    """Something is at the path, but no trace."""


class UnsupportedFormat(TracediffError, ValueError):
    """A trace in a format that this version does not read."""


class DamagedTrace(TracediffError, ValueError):
    """A trace whose content contradicts itself: truncated, missing, or altered."""


class NotKept(TracediffError, LookupError):
    """A value that the recorder did not keep, though it may have kept its digest."""


class NothingComparable(TracediffError, ValueError):
    """Two traces that share nothing to compare."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return a hint that suggests the known names nearest to ``name``, or None where none is near.

    Example:
        >>> did_you_mean("hiden/kernel", ["hidden/kernel", "hidden/bias", "output/kernel"])
        'did you mean hidden/kernel?'
        >>> did_you_mean("loss", ["hidden/kernel"]) is None
        True
    """
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.7)
    return f"did you mean {' or '.join(near)}?" if near else None
