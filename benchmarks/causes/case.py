"""What a case of the bench is: two runs, and what ought to be said about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

Place = tuple[int | None, str | None, str | None, str | None]
"""Step, stage, role, tensor of a first divergence; None where several are right."""


@dataclass(frozen=True)
class Recorded:
    """One run: a stack and what `programs/train.py` is to train there.

    Attributes:
        stack: A name of tests/stacks.
        run: Keys of `RUN` in that program that are not its defaults.
    """

    stack: str
    run: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Two runs and what ought to be said about them.

    Attributes:
        name: Unique; its hash decides the half.
        a: The first run.
        b: The second run.
        first: Where they part, or None where they agree, or only tensors without partner differ.
        code: What must be the first cause; "" where there must be none but `rounding`.
        subject: What the first cause must be about, or None where that is not checked.
        also: Further causes that must be named, each `code` or `code:subject`.
        repeat: Whether B is another recording of what A is.
    """

    name: str
    a: Recorded
    b: Recorded
    first: Place | None
    code: str
    subject: str | None = None
    also: tuple[str, ...] = ()
    repeat: bool = False

    @property
    def tuning(self) -> bool:
        """Whether rules may be tuned on this case; the other half is held out."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 2 == 0

    @property
    def clean(self) -> bool:
        """Whether there is nothing to find."""
        return not self.code
