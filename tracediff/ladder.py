"""The ladder of controls: what is left of a divergence when more and more of B is taken from A.

Each rung is a recorded run of B; this module compares them with A and says in which part of the
training the cause lies. It runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from tracediff.compare import AlignOptions, compare
from tracediff.model import Comparison, Difference, DriftRow, Finding, Stage
from tracediff.outcome import final_value
from tracediff.trace import Run

Control = Literal["none", "start", "batches", "lockstep"]
Part = Literal[
    "initialisation", "data", "layers and loss", "optimizer", "non-trained state", "sums"
]

OPTIONS: Mapping[Control, tuple[str, ...]] = MappingProxyType(
    {
        "none": (),
        "start": ("--initial-weights-from",),
        "batches": ("--initial-weights-from", "--batches-from"),
        "lockstep": ("--initial-weights-from", "--batches-from", "--lockstep"),
    }
)
"""What `tracediff-record` is given for each rung, lowest first."""

_PARTS: Mapping[Stage, Part] = MappingProxyType(
    {
        "data": "data",
        "state": "initialisation",
        "forward": "layers and loss",
        "loss": "layers and loss",
        "gradient": "layers and loss",
        "update": "optimizer",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """One controlled run of B.

    Attributes:
        control: What was taken from A.
        path: Its trace.
        comparison: With A.
        final_loss: Its mean loss over the last epoch; NaN where none was recorded.
        gap: That less A's.
    """

    control: Control
    path: str
    comparison: Comparison
    final_loss: float
    gap: float


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the training in which a cause lies.

    Attributes:
        part: The part.
        shown: The sentence that the rungs support it with.
        share: The share of the uncontrolled gap of the final loss that goes away with it; None
            where there is no gap. May be negative, or above 1: gaps can cancel.
        causes: What the comparisons found there, best first.
    """

    part: Part
    shown: str
    share: float | None
    causes: tuple[Finding, ...] = ()

    def told(self) -> Place:
        """Return the place with what the rungs show as evidence of each cause."""
        words = f"ladder of controls: {self.shown}"
        causes = (replace(one, evidence=(*one.evidence, words)) for one in self.causes)
        return replace(self, causes=tuple(causes))


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """All rungs and what they say together.

    Attributes:
        a: A's path.
        final_loss: A's mean loss over its last epoch.
        rungs: Lowest first.
        places: Where causes lie; empty where the runs agree without control.
    """

    a: str
    final_loss: float
    rungs: tuple[Rung, ...]
    places: tuple[Place, ...]

    @property
    def agree(self) -> bool:
        """Whether nothing needs to be controlled for the runs to agree."""
        return self.rungs[0].comparison.agree


def ladder(
    a: Run,
    runs: Iterable[tuple[Control, Run]],
    *,
    align: AlignOptions | None = None,
    progress: Callable[[Control], None] | None = None,
) -> Ladder:
    """Compare controlled runs of B with A and say where the cause lies.

    Args:
        a: The run that was replayed.
        runs: The runs of B: with no control, with A's start, with A's batches as well, and in
            lockstep.
        align: As for `compare`.
        progress: Called with each control before its comparison.

    Raises:
        TracediffError: As for `compare`.
    """
    final = _loss(a)
    rungs = []
    for control, run in runs:
        if progress is not None:
            progress(control)
        loss = _loss(run)
        found = compare(a, run, align=align)
        rungs.append(Rung(control, run.path, found, loss, loss - final))
    return Ladder(a.path, final, tuple(rungs), tuple(_places(rungs)))


def _loss(run: Run) -> float:
    try:
        return final_value(run)
    except LookupError:
        return math.nan


def _places(rungs: Sequence[Rung]) -> Iterable[Place]:
    by_control = {rung.control: rung for rung in rungs}
    none, start = by_control["none"], by_control["start"]
    batches, lockstep = by_control["batches"], by_control["lockstep"]
    if none.comparison.agree:
        return
    drawn = _before_training(none.comparison)
    if drawn:
        yield Place(
            "initialisation",
            f"without control {len(drawn)} weights and slots begin otherwise, such as {drawn[0]}; "
            f"with A's start {_where(start)}",
            _share(none, start),
            _of(none.comparison, ("init.", "optimizer.slots")),
        ).told()
    fed = [row.tensor for row in _significant(start.comparison) if row.first_stage == "data"]
    if fed:
        yield Place(
            "data",
            f"with A's start {', '.join(fed)} still differ; with A's batches too {_where(batches)}",
            _share(start, batches, of=none),
            _of(start.comparison, ("data.",)),
        ).told()
    if not batches.comparison.agree:
        yield from _training(none, batches, lockstep)


def _training(none: Rung, batches: Rung, lockstep: Rung) -> Iterable[Place]:
    """Say which part of a step is left, with start and batches controlled."""
    share = None if _gone(none) else batches.gap / none.gap
    found = lockstep.comparison.lockstep
    errors = [] if found is None else [one for one in found.errors if one.origin_steps]
    if not errors:
        yield Place(
            "sums",
            f"with A's start and batches {_where(batches)}, and no single step differs beyond its "
            "rounding: many small differences add up, or rounding grows",
            share,
        )
        return
    assert found is not None
    trained = {row.tensor for row in lockstep.comparison.drift if row.role == "gradient"}
    parts: dict[Part, list[str]] = {}
    for one in errors:
        part = _PARTS.get(one.stage, "layers and loss")
        if one.role == "weight" and trained and one.tensor not in trained:
            part = "non-trained state"
        parts.setdefault(part, []).append(f"{one.tensor} at {one.origin_steps}")
    codes: dict[Part, tuple[str, ...]] = {
        "optimizer": ("optimizer.", "gradient.processing"),
        "non-trained state": ("layer.state",),
        "layers and loss": ("layer.forward", "layer.random", "loss.", "gradient.", "precision"),
        "data": ("data.",),
        "initialisation": ("init.", "state."),
    }
    for part, tensors in parts.items():
        more = f" and {len(tensors) - 2} more" if len(tensors) > 2 else ""
        yield Place(
            part,
            f"with A's state before every step, steps still differ in {', '.join(tensors[:2])}"
            f"{more} of {found.steps} steps, where all that went in is A's",
            # Parts of a step act together: their share of the gap cannot be told apart.
            share if len(parts) == 1 else None,
            _of(lockstep.comparison, codes[part]),
        ).told()


def _significant(comparison: Comparison) -> list[DriftRow]:
    return [row for row in comparison.drift if row.first_significant_step is not None]


def _before_training(comparison: Comparison) -> list[str]:
    return [
        row.tensor
        for row in _significant(comparison)
        if row.first_step == 0 and row.first_stage == "state" and row.first_significant_step == 0
    ]


def _of(comparison: Comparison, codes: tuple[str, ...]) -> tuple[Finding, ...]:
    return tuple(cause for cause in comparison.causes if cause.code.startswith(codes))


def _gone(rung: Rung) -> bool:
    return not math.isfinite(rung.gap) or rung.gap == 0.0


def _share(before: Rung, after: Rung, *, of: Rung | None = None) -> float | None:
    whole = of or before
    return None if _gone(whole) else (before.gap - after.gap) / whole.gap


def _where(rung: Rung) -> str:
    if rung.comparison.agree:
        return "the runs agree within rounding"
    first = rung.comparison.first_divergence
    return "the runs part" if first is None else f"the runs part at {place(first)}"


def place(first: Difference) -> str:
    """Say where a difference is, in a few words."""
    return f"step {first.step}, {first.stage}: {first.tensor}"
