"""Says from the rungs of a ladder in which parts of the training causes lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from tracediff.ladder._model import Part, Place, Rung
from tracediff.model import Difference, DriftRow, Finding, LocalError, Stage

NO_GAP = 1e-6
"""A gap of the final loss below this share of the loss is rounding, and nothing to have a share of.
"""

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
_CODES: Mapping[Part, tuple[str, ...]] = MappingProxyType(
    {
        "data": ("data.",),
        "initialisation": ("init.", "state."),
        "layers and loss": (
            *("layer.forward", "layer.random", "loss.", "gradient.raw", "precision"),
            "model.structure",
        ),
        "optimizer": ("optimizer.", "gradient.processing", "state.trainable"),
        "non-trained state": ("layer.state", "state.trainable"),
    }
)
_UNREAD = ("moving_mean", "moving_variance")
"""Statistics of batch normalisation: training writes them and does not read them."""


def places(rungs: Sequence[Rung]) -> tuple[Place, ...]:
    """Return the parts of the training in which causes lie, in the order of the rungs.

    Args:
        rungs: All four, lowest first.
    """
    none, start, batches, lockstep = rungs
    if none.comparison.agree:
        return ()
    if any(rung.uncontrolled for rung in rungs):
        # Random layers make each final loss another draw, of which a control has no share.
        none = replace(none, gap=math.nan)
    found = [
        *_initialisation(none, start),
        *_data(none, start, batches),
        *(() if batches.comparison.agree else _training(none, batches, lockstep)),
    ]
    return tuple(map(_told, found))


def _told(found: Place) -> Place:
    """Return the place with what the rungs show as evidence of each cause."""
    words = f"ladder of controls: {found.shown}"
    causes = (replace(one, evidence=(*one.evidence, words)) for one in found.causes)
    return replace(found, causes=tuple(causes))


def _initialisation(none: Rung, start: Rung) -> Iterator[Place]:
    drawn = _beginning_otherwise(none, "weight")
    if not drawn:
        return
    still = _beginning_otherwise(start, "weight")
    left = f" ({len(still)} could not be carried over)" if still else ""
    yield Place(
        "initialisation",
        f"{_move(none, start, 'initial weights')}; without control "
        f"{_count(drawn, 'weight begins', 'weights begin')} otherwise, such as {drawn[0]}{left}: "
        "therefore a cause lies in the initialisation",
        _share(none, none.gap - start.gap),
        causes=_of(none, ("init.",)),
    )


def _data(none: Rung, start: Rung, batches: Rung) -> Iterator[Place]:
    fed = [row.tensor for row in _significant(start) if row.first_stage == "data"]
    if not fed:
        return
    verb = "differs" if len(fed) == 1 else "differ"
    yield Place(
        "data",
        f"{_move(start, batches, 'batches as well')}; with A's weights alone "
        f"{', '.join(fed[:3])} {verb}: therefore a cause lies in the data",
        _share(none, start.gap - batches.gap),
        causes=_of(start, _CODES["data"]),
    )


def _training(none: Rung, batches: Rung, lockstep: Rung) -> Iterator[Place]:
    """Say which part of a step is left, with weights and batches controlled."""
    left = _share(none, batches.gap)
    slots = _beginning_otherwise(batches, "slot")
    found = lockstep.comparison.lockstep
    errors = _by_part(lockstep)
    if slots:
        errors.setdefault("optimizer", [])
    if not errors:
        yield _without_error(batches, lockstep, left)
        return
    steps = 0 if found is None else found.steps
    unread = _unread(errors.get("non-trained state", []))
    shared = [part for part in errors if not (part == "non-trained state" and unread)]
    for part in sorted(errors, key=lambda one: one == "non-trained state"):
        alone = part == "non-trained state" and unread
        share = (None if left is None else 0.0) if alone else left
        others = () if alone else tuple(one for one in shared if one != part)
        clauses = [f"with A's initial weights and batches {_parting(batches)}"]
        if part == "optimizer" and slots:
            clauses.append(
                f"{_count(slots, 'slot begins', 'slots begin')} otherwise, such as {slots[0]}"
            )
        clauses.append(_steps_differ(errors[part], steps))
        if part == "layers and loss" and lockstep.uncontrolled:
            names = ", ".join(lockstep.uncontrolled)
            clauses.append(
                f"not controlled are the random numbers of {names}, which may be all of it"
            )
        if alone:
            clauses.append("training does not read these")
        causes = _of(lockstep, _CODES[part])
        if part == "optimizer" and slots:
            causes = (*_of(batches, ("optimizer.slots",)), *causes)
        yield Place(
            part,
            f"{'; '.join(clauses)}: therefore a cause lies in the {part}",
            share,
            others,
            causes,
        )


def _without_error(batches: Rung, lockstep: Rung, share: float | None) -> Place:
    lonely = [one.tensor for one in lockstep.comparison.unpaired if one.matters]
    if lonely:
        return Place(
            "layers and loss",
            f"with A's initial weights and batches {_parting(batches)}, and "
            f"{', '.join(lonely[:3])} without a partner cannot be controlled: therefore a cause "
            "lies in the layers",
            share,
            causes=_of(lockstep, _CODES["layers and loss"]),
        )
    return Place(
        "sums",
        f"with A's initial weights and batches {_parting(batches)}, and no single step differs "
        "beyond its rounding: many small differences add up, or rounding grows",
        share,
    )


def _by_part(lockstep: Rung) -> dict[Part, list[LocalError]]:
    """Return the tensors in which differences of single steps begin, by part."""
    found = lockstep.comparison.lockstep
    trained = {row.tensor for row in lockstep.comparison.drift if row.role == "gradient"}
    parts: dict[Part, list[LocalError]] = {}
    for one in () if found is None else found.errors:
        if not one.origin_steps:
            continue
        part = _PARTS.get(one.stage, "layers and loss")
        if one.role == "weight" and trained and one.tensor not in trained:
            part = "non-trained state"
        parts.setdefault(part, []).append(one)
    return parts


def _unread(errors: Sequence[LocalError]) -> bool:
    return bool(errors) and all(one.tensor.rpartition("/")[2] in _UNREAD for one in errors)


def _steps_differ(errors: Sequence[LocalError], steps: int) -> str:
    if not errors:
        return "with A's state before every step, slots included, no single step differs in it"
    shown = ", ".join(f"{one.tensor} at {one.origin_steps}" for one in errors[:2])
    more = f" and {len(errors) - 2} more" if len(errors) > 2 else ""
    return (
        f"with A's state before every step, steps still differ in {shown}{more} of {steps} steps, "
        "where all that went in is A's"
    )


def _significant(rung: Rung) -> list[DriftRow]:
    return [row for row in rung.comparison.drift if row.first_significant_step is not None]


def _beginning_otherwise(rung: Rung, role: str) -> list[str]:
    return [
        row.tensor
        for row in _significant(rung)
        if (row.first_step, row.first_stage, row.first_significant_step) == (0, "state", 0)
        and row.role == role
    ]


def _of(rung: Rung, codes: tuple[str, ...]) -> tuple[Finding, ...]:
    return tuple(cause for cause in rung.comparison.causes if cause.code.startswith(codes))


def _share(none: Rung, part: float) -> float | None:
    loss = abs(none.final_loss - none.gap)
    if not (math.isfinite(none.gap) and math.isfinite(part)) or abs(none.gap) <= NO_GAP * loss:
        return None
    return part / none.gap


def _move(before: Rung, after: Rung, taken: str) -> str:
    """Say where the first divergence goes with one more control."""
    here, there, taken = _where(before), _where(after), f"A's {taken}"
    if after.comparison.agree:
        return f"with {taken} the runs agree within rounding, where they parted at {here}"
    if here == there:
        return f"with {taken} the first divergence stays at {here}"
    return f"with {taken} the first divergence moves from {here} to {there}"


def _parting(rung: Rung) -> str:
    return f"the runs part at {_where(rung)}"


def _where(rung: Rung) -> str:
    first = rung.comparison.first_divergence
    return "tensors without a partner" if first is None else place(first)


def place(first: Difference) -> str:
    """Say where a difference is, in a few words."""
    return f"step {first.step}, {first.stage}: {first.tensor}"


def _count(names: Sequence[str], one: str, several: str) -> str:
    return f"1 {one}" if len(names) == 1 else f"{len(names)} {several}"
