"""Where in a comparison a reader is: a tensor at one end of a step; and how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tracediff.compare import Examination
from tracediff.compare.parts import Place, Series, Track
from tracediff.errors import UnknownName, did_you_mean
from tracediff.model import Finding, Moment
from tracediff.trace import Run

Key = tuple[str, str]
Shown = Literal["after", "before", "update"]
"""Which value of a state tensor is looked at; what a step observes has only ``after``."""

_ROLE_FIRST = ("weight", "gradient", "activation", "input", "slot")


@dataclass(frozen=True, slots=True)
class Spot:
    """One tensor at one step."""

    key: Key
    step: int
    shown: Shown = "after"

    @property
    def moment(self) -> Moment:
        """The end of the step at which the value stands."""
        return "before" if self.shown == "before" else "after"


def label(key: Key) -> str:
    """Return how a tensor is written: its name, and its role where that is not plain.

    Example:
        >>> label(("gradient", "hidden/kernel")), label(("loss", "loss"))
        ('gradient hidden/kernel', 'loss')
    """
    role, name = key
    return (
        name if role in ("loss", "metric", "learning_rate", "input", "label") else f"{role} {name}"
    )


def spot_of(place: Place) -> Spot:
    """Return the spot of a place that the comparison found."""
    shown: Shown = "before" if place.moment == "before" and place.track.state else "after"
    return Spot(place.track.pair.key, place.step, shown)


def names_of(found: Examination, key: Key) -> tuple[str | None, str | None]:
    """Return what a tensor is called in either run; None where a run has none."""
    pair = found.case.onset.judged[key].track.pair
    return pair.a, pair.b


def cells_of(track: Track, shown: Shown) -> Series:
    """Return the cells of a track at one end of the steps."""
    return track.before if shown == "before" and track.before is not None else track.after


def onsets(found: Examination) -> tuple[Spot, ...]:
    """Return where each tensor first parts, in the order of the run.

    Those beyond rounding; where there is none, the first differences of any size.
    """
    onset = found.case.onset
    if onset.firsts:
        places = sorted(onset.firsts.values(), key=lambda place: place.key)
        return tuple(map(spot_of, places))
    rows = [row for row in found.comparison.drift if row.first_step is not None]
    rows.sort(key=lambda row: row.first_step or 0)
    return tuple(
        Spot(
            (row.role, row.tensor),
            row.first_step or 0,
            "before" if row.first_stage == "state" else "after",
        )
        for row in rows
    )


def first_spot(found: Examination) -> Spot | None:
    """Return the first divergence; without one the first difference of any size, or None."""
    comparison = found.comparison
    first = comparison.first_divergence or comparison.first_bit_difference
    if first is None:
        return None
    shown: Shown = "before" if first.moment == "before" else "after"
    return Spot((first.role, first.tensor), first.step, shown)


def finding_spot(found: Examination, finding: Finding) -> Spot | None:
    """Return the place that a finding is about: its subject's tensor at its step."""
    judged = found.case.onset.judged
    step = finding.step or 0
    about = [key for key in judged if key[1] == finding.subject]
    for key in sorted(about, key=lambda key: found.case.onset.firsts.get(key) is None):
        place = found.case.onset.firsts.get(key)
        if place is not None and (finding.step is None or place.step == step):
            return spot_of(place)
    if about and step < found.case.steps:
        return Spot(about[0], step)
    if finding.step is not None:
        at = [p for p in found.case.onset.firsts.values() if p.step == finding.step]
        if at:
            return spot_of(min(at, key=lambda place: place.key))
    return first_spot(found)


def mentioned(sentence: str, keys: Iterable[Key]) -> Key | None:
    """Return the tensor that a sentence of evidence names, the longest name first."""
    for key in sorted(keys, key=lambda key: -len(key[1])):
        if re.search(rf"(?<![\w/]){re.escape(key[1])}(?![\w/])", sentence):
            return key
    return None


def step_mentioned(sentence: str) -> int | None:
    """Return the step that a sentence of evidence names, or None.

    Example:
        >>> step_mentioned("hidden/kernel differs at step 12 (epoch 1, batch 2)")
        12
    """
    found = re.search(r"\bsteps? (\d+)", sentence)
    return int(found[1]) if found else None


def parse_spot(text: str, *, keys: Sequence[Key], run: Run, steps: int, at: Spot | None) -> Spot:
    """Return the place that a user typed.

    Args:
        text: ``37``, ``37:hidden/kernel``, ``37:gradient hidden/kernel``, ``hidden/kernel``,
            ``epoch 2``.
        keys: The tensors there are.
        run: The run whose epochs count.
        steps: How many steps there are.
        at: Where the user is: what is not said stays.

    Raises:
        UnknownName: There is no such step, epoch or tensor.
    """
    typed = text.strip()
    epoch = re.fullmatch(r"epoch\s+(\d+)", typed)
    if epoch:
        found = [i for i, one in enumerate(run.epoch[:steps].tolist()) if one == int(epoch[1])]
        if not found:
            raise UnknownName(f"there is no epoch {epoch[1]}")
        return Spot(at.key if at else keys[0], found[0], at.shown if at else "after")
    match = re.fullmatch(r"(?:(\d+))?\s*:?\s*(.*)", typed)
    number, name = (match[1], match[2]) if match else (None, typed)
    step = int(number) if number is not None else (at.step if at else 0)
    if not 0 <= step < steps:
        raise UnknownName(f"there is no step {step}", hint=f"steps 0 to {steps - 1} were compared")
    if not name:
        return Spot(at.key if at else keys[0], step, at.shown if at else "after")
    return Spot(_named(name, keys, at), step)


def _named(name: str, keys: Sequence[Key], at: Spot | None) -> Key:
    exact = [key for key in keys if name in (label(key), key[1], f"{key[0]} {key[1]}")]
    if not exact:
        exact = [key for key in keys if name.lower() in label(key).lower()]
    if not exact:
        hint = did_you_mean(name, [key[1] for key in keys])
        raise UnknownName(f"there is no tensor {name}", hint=hint)

    def rank(key: Key) -> tuple[bool, int]:
        roles = _ROLE_FIRST
        return (
            not (at is not None and key[0] == at.key[0]),
            roles.index(key[0]) if key[0] in roles else len(roles),
        )

    return min(exact, key=rank)
