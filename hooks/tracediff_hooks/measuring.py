"""Hashes the values of a step and sums them up, many in one call, each read once.

The calls let go of the interpreter lock once for all of them: to get it back while the training
thread holds it takes longer than most values do.
"""

from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from tracediff_hooks import native
from tracediff_hooks.digest import Digest
from tracediff_hooks.moments import Sums
from tracediff_hooks.tensors import digest_value

TOGETHER_BYTES = 4 << 20
"""Values are let go of after so many bytes: the framework is about to write where they lie."""


class Measured(NamedTuple):
    """What was read of a value: its digest, and sums where they were asked for and it has them."""

    digest: Digest
    sums: Optional[Sums]


class Measurand(NamedTuple):
    """A value to be read.

    Attributes:
        value: its numbers, in C order.
        rows: the numbers of the rows that it has, where it is sparse.
        summed: whether its sums will be asked for.
    """

    value: np.ndarray
    rows: Optional[np.ndarray]
    summed: bool


def measured(values: Sequence[Measurand]) -> List[Measured]:
    """Reads values, those that the compiled passes take in one call."""
    taken = [number for number, value in enumerate(values) if _fits(value)]
    found = dict(zip(taken, _together([values[number] for number in taken])))
    return [
        found.get(number) or Measured(digest_value(value.value, value.rows), None)
        for number, value in enumerate(values)
    ]


def _fits(value: Measurand) -> bool:
    array = value.value
    if native.PASSES is None or value.rows is not None:
        return False
    return array.nbytes > native.SHORT and array.flags.c_contiguous


def _together(values: Sequence[Measurand]) -> List[Measured]:
    if not values:
        return []
    summed = [value.summed and native.takes(value.value) for value in values]
    digests, sums = native.PASSES.describe([value.value for value in values], summed)
    return [
        Measured((low, high), tuple(own) if asked else None)
        for (low, high), own, asked in zip(digests, sums, summed)
    ]
