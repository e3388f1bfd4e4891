"""Match the rows of batches by their bytes: the same samples, in which order, in which batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tracediff.align import exact_rows, hash_rows
from tracediff.diagnose.case import Case, Key

READ_STEPS = 512
"""Batches that are read to look for a sample elsewhere; hashes only are kept of them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What identifies the samples of one batch in each run."""

    step: int
    a: tuple[int, ...]
    b: tuple[int, ...]


def batches(case: Case, keys: list[Key], *, first: int, limit: int = READ_STEPS) -> Iterator[Batch]:
    """Yield the samples of the epochs around ``first``, as far as they were kept.

    Args:
        case: Both runs.
        keys: The tensors that make up a sample.
        first: The step to begin with; the epoch it belongs to is read from its start.
        limit: How many steps at most.
    """
    start = first - int(min(case.a.batch[first], first))
    for step in range(start, min(case.steps, start + limit)):
        pairs = [case.read(key, step) for key in keys]
        if all(pair is not None for pair in pairs):
            known = [pair for pair in pairs if pair is not None]
            yield Batch(
                step,
                hash_rows(*(pair[0] for pair in known)),
                hash_rows(*(pair[1] for pair in known)),
            )
            continue
        names = [case.onset.judged[key].track.pair for key in keys]
        exact = (
            exact_rows(case.a, [(one.role, one.a or "") for one in names], step),
            exact_rows(case.b, [(one.role, one.b or "") for one in names], step),
        )
        if exact[0] is not None and exact[1] is not None:
            yield Batch(step, exact[0], exact[1])


def permutation(a: tuple[int, ...], b: tuple[int, ...]) -> list[int] | None:
    """Return for each row of B where A has it, or None where the rows are not the same.

    Equal rows are taken in order.

    Example:
        >>> permutation((7, 8, 9), (9, 7, 8)), permutation((7, 8), (7, 9))
        ([2, 0, 1], None)
    """
    if Counter(a) != Counter(b):
        return None
    places: dict[int, list[int]] = {}
    for place, row in reversed(list(enumerate(a))):
        places.setdefault(row, []).append(place)
    return [places[row].pop() for row in b]


@dataclass(frozen=True, slots=True)
class Left:
    """Rows that one stream of samples has and the other goes on without.

    Attributes:
        place: Position in the streams at which they part.
        only_a: How many rows only A has there.
        only_b: How many rows only B has there.
    """

    place: int
    only_a: int
    only_b: int


def left_out(a: list[int], b: list[int], *, most: int) -> Left | None:
    """Return which rows one stream lacks at the first place at which they part, if it goes on then.

    Args:
        a: Hashes of A's rows, in the order in which it takes them.
        b: Those of B.
        most: How many rows may be missing.

    Example:
        >>> left_out([1, 2, 3, 4, 5, 6], [1, 2, 4, 5, 6, 7], most=2)
        Left(place=2, only_a=1, only_b=0)
        >>> left_out([1, 2, 3], [3, 2, 1], most=2) is None
        True
    """
    length = min(len(a), len(b))
    place = next((i for i in range(length) if a[i] != b[i]), None)
    if place is None:
        return None
    for count in range(1, most + 1):
        for only_a, only_b in ((count, 0), (0, count)):
            here = a[place + only_a : place + only_a + _GOES_ON]
            there = b[place + only_b : place + only_b + _GOES_ON]
            compared = min(len(here), len(there))
            # Both must go on alike for longer than what is missing.
            if compared > min(count, 2) and here[:compared] == there[:compared]:
                return Left(place, only_a, only_b)
    return None


_GOES_ON = 16
"""Rows that must agree after those that are missing, where there are as many."""
