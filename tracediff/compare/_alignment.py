"""How a caller has runs aligned, beyond what a comparison finds by itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracediff.align import (
    STEP_CHOICES,
    By,
    Overrides,
    Pairing,
    as_mapping,
    pair_tensors,
    read_mapping,
)
from tracediff.errors import UsageError, did_you_mean
from tracediff.trace import Run


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """What a caller says about which belongs to which.

    Attributes:
        steps: How to tell steps: ``auto``, ``number``, ``iteration``, ``state`` or ``batches``.
        mapping: The path of a mapping file, as docs/mapping.md describes it, or None.
    """

    steps: By = "auto"
    mapping: str | os.PathLike[str] | None = None

    def identity(self) -> tuple[object, ...]:
        """Return what tells these options from others: the mapping by what it says."""
        try:
            content = None if self.mapping is None else Path(self.mapping).read_bytes()
        except OSError:
            content = b""  # Reading it in earnest says what is wrong with it.
        return self.steps, content

    def overrides(self, a: Run, b: Run) -> Overrides | None:
        """Read the mapping and check it against two runs.

        Raises:
            UsageError: It is no mapping, or does not fit the runs.
            UnknownName: It names what a run does not have.
        """
        return None if self.mapping is None else read_mapping(self.mapping, a, b)


def align_options(words: list[str] | None, mapping: str | None) -> AlignOptions:
    """Return the options that the words after ``--align`` and the path after ``--map`` mean.

    Raises:
        UsageError: A word is none of those that are known.

    Example:
        >>> align_options(["steps=batches"], None).steps
        'batches'
    """
    steps: By = "auto"
    for word in words or []:
        what, _, value = word.partition("=")
        if what != "steps":
            raise UsageError(
                f"--align {word}: there is nothing to align called {what}",
                hint="--align steps=number",
            )
        known = [one for one in STEP_CHOICES if one == value]
        if not known:
            raise UsageError(
                f"--align {word}: steps are told by {', '.join(STEP_CHOICES)}",
                hint=did_you_mean(value, STEP_CHOICES) or "--align steps=number",
            )
        steps = known[0]
    return AlignOptions(steps, mapping)


def mapping_of(a: Run, b: Run, align: AlignOptions | None = None) -> tuple[dict[str, Any], Pairing]:
    """Return what belongs together in two runs, as a mapping file holds it and as a pairing.

    Args:
        a: The first run.
        b: The second run.
        align: Pairs that are given.

    Raises:
        TracediffError: A run cannot be read, or ``align`` does not fit the runs.
    """
    pairing = pair_tensors(a, b, None if align is None else align.overrides(a, b))
    return as_mapping(pairing, a, b), pairing
