"""What each run holds of a tensor at a step, elements, a sketch or a digest; what that tells."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from tracediff.compare import Examination
from tracediff.errors import TracediffError
from tracediff.model import Moment
from tracediff.report.comparison import numbers
from tracediff.report.terminal import printable
from tracediff.trace import SKETCH_ERROR, Run, Sketch, Statistics, Tensor
from tracediff_tui.views.places import Spot, names_of

_MOST_BYTES = 64 << 20
"""Of values that were kept no more is read than this to compute what a row says of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """What one run holds of a tensor at one step.

    Attributes:
        kept: ``elements``, ``sketch``, ``digest``, or ``-`` where nothing was observed.
        statistics: Those of the value; None where there are none.
    """

    kept: str
    statistics: Statistics | None


HOLDS = {
    "elements": "all elements",
    "sketch": "only a sketch and statistics",
    "digest": "only a digest and statistics",
    "-": "nothing",
}


def is_estimate(cell: np.void) -> bool:
    """Say whether a cell's distance has the error of a sketch; of few elements it is exact."""
    return bool(
        cell["known"]
        and cell["estimated"]
        and not Sketch(np.zeros(0), size=int(cell["size"])).exact
    )


def estimate_words(cell: np.void) -> str:
    """Return what a distance that comes from sketches is good to; empty where it is no such."""
    if not (cell["known"] and cell["estimated"]):
        return ""
    if not is_estimate(cell):
        return f"exact, from sketches of {int(cell['size'])} elements"
    return (
        f"estimated from sketches of {int(cell['size'])} elements, "
        f"off by {100 * SKETCH_ERROR:.1f} % (rms)"
    )


def how_to_record(runs: tuple[Run, ...], names: Collection[str], spot: Spot) -> str:
    """Return what keeps the elements of a tensor."""
    listed = ", ".join(f'"{printable(name)}"' for name in sorted(names))
    steps = ""
    if any((run.about.get("schedule") or {}).get("steps") for run in runs):
        steps = f', steps="{spot.step}:{spot.step + 1}"'
    return f'to see elements: TraceCallback(..., level="full", tensors=[{listed}]{steps})'


def why_not_kept(found: Examination, spot: Spot) -> str:
    """Return what each run holds of a place whose elements are not there in both."""
    judged = found.case.onset.judged[spot.key]
    moment = spot.moment if judged.track.state else "after"
    sides = []
    for side, run, name in zip(
        "AB", (found.case.a, found.case.b), names_of(found, spot.key), strict=True
    ):
        tensor = None if name is None else run.find(spot.key[0], name)
        sides.append((side, HOLDS[Reader(run, tensor, moment).kept(spot.step)]))
    if sides[0][1] == sides[1][1]:
        return f"here the runs hold {sides[0][1]}"
    return "here " + ", ".join(f"{side} holds {words}" for side, words in sides)


class Reader:
    """Reads what one run holds of a tensor, equal values once."""

    def __init__(self, run: Run, tensor: Tensor | None, moment: Moment) -> None:
        self.run, self.tensor, self.moment = run, tensor, moment
        self._known: dict[bytes, Statistics | None] = {}
        self._left = _MOST_BYTES
        if tensor is not None:
            self._digests = run.digests(tensor, moment)
            self._kept = run.kept(tensor, moment)
            self._sketched = run.sketched(tensor, moment)

    def kept(self, step: int) -> str:
        """Say what is kept at a step."""
        if self.tensor is None or step >= len(self._digests) or not self._digests[step].any():
            return "-"
        if self._kept[step]:
            return "elements"
        return "sketch" if self._sketched[step] else "digest"

    def at(self, step: int) -> Side:
        """Return what there is at a step."""
        kept = self.kept(step)
        if kept == "-" or self.tensor is None:
            return Side(kept, None)
        key = self._digests[step].tobytes()
        if key not in self._known:
            self._known[key] = self._statistics(step, kept)
        return Side(kept, self._known[key])

    def _statistics(self, step: int, kept: str) -> Statistics | None:
        assert self.tensor is not None  # there is nothing to read otherwise
        if kept == "elements":
            if self._left <= 0:
                return None
            self._left -= 8 * math.prod(self.tensor.shape or (1,))
        try:
            return self.run.statistics(self.tensor, step, self.moment)
        except TracediffError:
            return None


def side_words(found: Statistics | None) -> str:
    """Return what one run's value is like, as far as that was recorded."""
    if found is None:
        return "no statistics were recorded"
    number = numbers.number
    return (
        f"min {number(found.min)} max {number(found.max)} mean {number(found.mean)} "
        f"std {number(found.std)} norm {number(found.norm, digits=6)} "
        f"nan {found.nan} inf {found.inf}"
    )
