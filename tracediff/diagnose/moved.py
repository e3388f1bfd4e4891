"""Which samples moved where: sentences for findings, and batches that were paired by content."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracediff.align import AlignedRun, RowIndex, recorded
from tracediff.diagnose.case import Case, Key
from tracediff.diagnose.numbers import short
from tracediff.model import Finding

_AROUND = 256
"""Batches of A before and after a step in which its samples are looked for."""


def which_rows(case: Case, key: Key, step: int) -> list[str]:
    """Say which rows of A the rows of a batch of B are; nothing where they were not kept.

    Args:
        case: Both runs.
        key: The input that tells samples apart.
        step: The step.
    """
    pair = case.onset.judged[key].track.pair
    if pair.a is None or pair.b is None:
        return []
    names = [(pair.role, pair.b)]
    found = _index(case, pair.role, pair.a, step).locate(case.b, names, step)
    if found is None:
        found = _index(case, pair.role, pair.a, step, exact=True).locate(case.b, names, step)
    return [] if found is None or not found.segments else list(found.words(step_b=case.own(step)))


def moved_and_transformed(case: Case) -> Iterable[Finding]:
    """Find batches whose rows A has elsewhere, all scaled and moved by the same two numbers."""
    for place in case.firsts("input")[:1]:
        pair = place.track.pair
        if pair.a is None or pair.b is None:
            continue
        index = _index(case, pair.role, pair.a, place.step)
        found = index.locate_transformed(case.b, [(pair.role, pair.b)], place.step)
        if found is None or not found.moved or not found.transformed:
            continue
        how = f"b = {short(found.scale)} * a + {short(found.offset)}"
        yield Finding(
            code="data.transform",
            summary=f"{pair.name} holds A's samples in another order, transformed: {how}.",
            confidence=0.9,
            stage="data",
            step=place.step,
            subject=pair.name,
            a={"scale": 1.0, "offset": 0.0},
            b={"scale": found.scale, "offset": found.offset},
            evidence=found.words(step_b=case.own(place.step)),
        )
        yield Finding(
            code="data.order",
            summary=f"The samples of {case.where(place.step)} stand in other rows of A, besides "
            "being transformed.",
            confidence=0.9,
            stage="data",
            step=place.step,
            subject=pair.name,
            evidence=found.words(step_b=case.own(place.step)),
        )


def other_batches(case: Case) -> Iterable[Finding]:
    """Of runs whose steps were paired by their batches, say where the order of these departs."""
    step = case.departs
    if step is None:
        return
    at = case.b.at if isinstance(case.b, AlignedRun) else np.arange(case.steps)
    partner = int(at[step]) if step < len(at) else -1
    lost = [one for one in range(recorded(case.a).steps) if one >= len(at) or at[one] < 0]
    partners = at[at >= 0]
    ordered = bool((np.diff(partners) > 0).all())
    where = case.where(step)
    if partner < 0:
        summary = f"The batch of {where} of A is nowhere in B."
    else:
        summary = f"B takes the batch of {where} of A at its step {partner}."
    lines = [f"{len(partners)} of A's batches are in B, {'in' if ordered else 'not in'} A's order"]
    if lost:
        shown = ", ".join(map(str, lost[:6]))
        lines.append(f"steps of A whose batch B lacks: {shown}{' ...' if len(lost) > 6 else ''}")
    yield Finding(
        code="data.order",
        summary=summary,
        confidence=0.97,
        stage="data",
        step=step,
        subject="batches",
        a=step,
        b=partner if partner >= 0 else None,
        evidence=tuple(lines),
    )


def _index(case: Case, role: str, name: str, step: int, *, exact: bool = False) -> RowIndex:
    """Return the rows of the epoch of a step, with some batches beside it where that is short."""
    run = case.a
    same = np.flatnonzero((run.epoch == run.epoch[step]) & (run.fit == run.fit[step]))
    near = same[np.abs(same - step) <= _AROUND].tolist()
    around = range(max(0, step - _AROUND), min(run.steps, step + _AROUND))
    # What an epoch repeats is meant to be found in the epoch itself.
    steps = [*near, *(one for one in around if one not in near)]
    return RowIndex(run, [(role, name)], steps, exact=exact)
