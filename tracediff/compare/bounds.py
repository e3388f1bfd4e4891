"""Tolerances that a user gives, instead of what rounding explains: for a check in CI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from tracediff.drift import Series, largest_possible
from tracediff.errors import UsageError
from tracediff.model import Unpaired
from tracediff.onset import Judged
from tracediff.tolerance import Bound

Key = tuple[str, str]
Given: TypeAlias = "float | tuple[float, float]"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may differ by how much.

    A value agrees if its largest difference is at most ``atol + rtol * m``, with m the largest
    magnitude of the tensor in either run at that step. Patterns are searched for in
    ``ROLE NAME``, such as ``slot hidden/kernel/momentum``.

    Attributes:
        rtol: For all tensors; None where neither this nor ``atol`` is given.
        atol: Likewise.
        rules: Patterns and the bound for what they are found in; the first one found counts.
        ignore: Patterns of what may differ by anything.
    """

    rtol: float | None = None
    atol: float | None = None
    rules: tuple[tuple[str, Bound], ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether there is anything but the model of rounding."""
        return self != Bounds()

    def of(self, role: str, name: str) -> Bound | None:
        """Return the bound for a tensor, or None where rounding decides."""
        text = f"{role} {name}"
        if any(re.search(pattern, text) for pattern in self.ignore):
            return Bound(np.inf, np.inf)
        for pattern, bound in self.rules:
            if re.search(pattern, text):
                return bound
        if self.rtol is None and self.atol is None:
            return None
        return Bound(self.rtol or 0.0, self.atol or 0.0)

    def ignores(self, role: str, name: str) -> bool:
        """Say whether a tensor is to be ignored."""
        bound = self.of(role, name)
        return bound is not None and np.isinf(bound.atol)


def bounds(
    *,
    rtol: float | None = None,
    atol: float | None = None,
    rules: Mapping[str, Given] | None = None,
    ignore: Sequence[str] = (),
) -> Bounds:
    """Return the bounds that a caller gives, checked.

    Args:
        rtol: For all tensors.
        atol: Likewise.
        rules: For what a pattern is found in: rtol, or rtol and atol.
        ignore: Patterns.

    Raises:
        UsageError: A pattern is no regular expression, or a bound is negative or no number.
    """
    found = []
    for pattern, given in (rules or {}).items():
        relative, absolute = given if isinstance(given, tuple) else (given, 0.0)
        found.append((pattern, Bound(_checked(relative), _checked(absolute))))
    for pattern in [*(pattern for pattern, _ in found), *ignore]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(
                f"{pattern} is no regular expression: {error}",
                hint="it is searched for in ROLE NAME, such as: slot hidden/kernel/momentum",
            ) from None
    checked = [None if one is None else _checked(one) for one in (rtol, atol)]
    return Bounds(checked[0], checked[1], tuple(found), tuple(ignore))


def parse_rules(words: Sequence[str]) -> dict[str, Given]:
    """Return the rules that words such as ``slot.*=1e-4`` or ``bias=1e-5,1e-8`` mean.

    Raises:
        UsageError: A word is none.

    Example:
        >>> parse_rules(["slot.*=1e-4", "bias=0,1e-8"])
        {'slot.*': 0.0001, 'bias': (0.0, 1e-08)}
    """
    result: dict[str, Given] = {}
    for word in words:
        pattern, _, numbers = word.rpartition("=")
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        if not pattern or not 1 <= len(values) <= 2:
            raise UsageError(
                f"--tolerance {word} is no pattern and bound",
                hint="--tolerance 'slot .*/v$=1e-4', or with an absolute one: 'bias=1e-4,1e-8'",
            )
        result[pattern] = values[0] if len(values) == 1 else (values[0], values[1])
    return result


def _checked(value: float) -> float:
    if not value >= 0.0:
        raise UsageError(f"{value} is no tolerance", hint="a tolerance is a number from 0 on")
    return float(value)


def bounded(judged: Mapping[Key, Judged], given: Bounds) -> dict[Key, Judged]:
    """Return what is judged, by the bounds where one is given for a tensor."""
    return {key: _bounded(one, given.of(*key)) for key, one in judged.items()}


def _bounded(one: Judged, bound: Bound | None) -> Judged:
    if bound is None:
        return one
    before = one.track.before
    nothing = np.zeros_like(one.update)
    return replace(
        one,
        before=nothing if before is None else _beyond(before, bound),
        after=_beyond(one.track.after, bound),
        update=nothing,
        noise=nothing,
        bound=bound,
    )


def _beyond(cells: Series, bound: Bound) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    if np.isinf(bound.atol):
        return np.zeros(len(cells), bool)
    allowed = bound.allowed(cells["peak"])
    wrong = ~cells["known"] | cells["at_least"] | cells["reshaped"] | (cells["mismatched"] > 0)
    beyond = wrong | ~(largest_possible(cells) <= allowed)
    return np.asarray(cells["present"] & cells["differs"] & beyond)


def without_ignored(unpaired: Sequence[Unpaired], given: Bounds) -> tuple[Unpaired, ...]:
    """Return what has no partner; what is to be ignored does not matter."""
    return tuple(
        replace(one, matters=False, reason=f"{one.reason}; ignored")
        if given.ignores(one.role, one.tensor)
        else one
        for one in unpaired
    )
