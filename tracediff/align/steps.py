"""Which step of A answers to which of B.

Steps are told by their number, by the optimizer's counter, by the state that a run starts from, or,
where a user asks for it, by what the batches hold. Only digests are needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from tracediff.align.batches import by_batches
from tracediff.align.layouts import Add
from tracediff.align.notation import describe
from tracediff.align.pairing import Pairing
from tracediff.align.starts import offset_of_start
from tracediff.align.step_map import StepMap
from tracediff.errors import UsageError
from tracediff.names import counts_steps
from tracediff.trace import Run

By = Literal["auto", "number", "iteration", "state", "batches"]
"""How steps can be told; ``auto`` chooses among number, iteration and state."""

STEP_CHOICES: tuple[By, ...] = get_args(By)
_LOOK = 64
"""Steps that are looked at to see whether the batches of two runs agree under an offset."""
_COUNTER = ("slot", "optimizer/iteration")


def with_counter(a: Run, b: Run, pairing: Pairing, steps: StepMap) -> Pairing:
    """Return the pairing with B's step counter brought to A's, where no update depends on it.

    A model that is compiled anew counts from 0 again; plain SGD never asks.
    """
    pair = pairing.find(*_COUNTER)
    counts = _count(a, steps.start), _count(b, int(steps.b[steps.start]))
    counting = any(counts_steps(run.about.get("optimizer")) for run in (a, b))
    if pair is None or counts[0] is None or counts[1] is None or counting or pair.layout:
        return pairing
    ahead = counts[0] - counts[1]
    if not ahead:
        return pairing
    shifted = replace(
        pair,
        layout=describe((Add(ahead),)),
        note=f"the counters begin {abs(ahead)} apart, which enters no update",
    )
    pairs = tuple(shifted if one is pair else one for one in pairing.pairs)
    return replace(pairing, pairs=pairs)


def align_steps(a: Run, b: Run, pairing: Pairing, by: By = "auto") -> StepMap:
    """Find which steps belong together.

    ``auto`` pairs by number, unless one run plainly begins where the other has got to: its counter
    stands at another iteration, or its first weights are those of the other run some steps in; and
    the batches, as far as they are known, do not agree better by number. Reordered batches are
    never paired with their likes by ``auto``: the step at which the order departs is where the runs
    part.

    Args:
        a: The first run.
        b: The second run.
        pairing: Which tensors belong together.
        by: How to tell steps.

    Raises:
        UsageError: The runs do not hold what steps are to be told by.
    """
    if by == "number":
        return _shifted(a, b, 0, "number")
    if by == "iteration":
        return _by_iteration(a, b)
    if by == "state":
        return _by_state(a, b, pairing)
    if by == "batches":
        return by_batches(a, b, pairing)
    return _automatic(a, b, pairing)


def _automatic(a: Run, b: Run, pairing: Pairing) -> StepMap:
    plain = _shifted(a, b, 0, "number")
    counted = _counted(a, b)
    begun = offset_of_start(a, b, pairing)
    shift = begun if begun is not None else counted
    if not shift or not _overlap(a, b, shift):
        return plain
    here, there = _agreement(a, b, pairing, 0), _agreement(a, b, pairing, shift)
    if begun is None and (here or 0.0) > (there or 0.0):
        # Only the counter is another: the batches say that these are the same steps.
        return plain
    by = "iteration" if counted == shift else "state"
    return _shifted(a, b, shift, by, reason=_reason(shift, by, there))


def _reason(shift: int, by: str, agreement: float | None) -> str:
    late, early = ("B", "A") if shift < 0 else ("A", "B")
    count = abs(shift)
    begins = f"{late} begins where {early} is at step {count}"
    why = {
        "iteration": f"{late}'s optimizer has counted {count} iterations more",
        "state": f"{late}'s first weights are those of {early} before step {count}",
    }[by]
    text = f"{begins}: {why}"
    if agreement is not None:
        text += f"; {agreement:.0%} of the batches agree so"
    return text


def _shifted(a: Run, b: Run, shift: int, by: str, *, reason: str | None = None) -> StepMap:
    """Pair step k of A with step k + shift of B."""
    count = max(0, min(a.steps, b.steps - shift))
    steps = np.arange(count, dtype=np.int64) + shift
    steps[steps < 0] = -1
    return StepMap(steps, by, reason)


def _overlap(a: Run, b: Run, shift: int) -> bool:
    return 0 <= max(0, -shift) < min(a.steps, b.steps - shift)


def _by_iteration(a: Run, b: Run) -> StepMap:
    shift = _counted(a, b)
    if shift is None:
        raise UsageError(
            f"{a.path} and {b.path} do not both hold the optimizer's counter",
            hint="--align steps=number or steps=batches",
        )
    if not _overlap(a, b, shift):
        raise UsageError(
            f"{a.path} and {b.path} have no iteration in common", hint="--align steps=number"
        )
    reason = _reason(shift, "iteration", None) if shift else None
    return _shifted(a, b, shift, "iteration", reason=reason)


def _counted(a: Run, b: Run) -> int | None:
    """Return by how much more A's optimizer has counted before its first step than B's."""
    one, other = _count(a, 0), _count(b, 0)
    if one is not None and other is not None:
        return one - other
    return _counted_by_digest(a, b)


def _counted_by_digest(a: Run, b: Run) -> int | None:
    """As `_counted`, where only digests were kept: one run counts past where the other begins."""
    one, other = a.find(*_COUNTER), b.find(*_COUNTER)
    if one is None or other is None or not a.steps or not b.steps or one.dtype != other.dtype:
        return None
    for run, tensor, first, sign in (
        (a, one, b.digests(other)[0], -1),
        (b, other, a.digests(one)[0], 1),
    ):
        steps = np.flatnonzero((run.digests(tensor) == first).all(axis=1) & first.any())
        if len(steps):
            return sign * int(steps[0])
    return None


def _count(run: Run, step: int) -> int | None:
    """Return what the optimizer of a run had counted before a step."""
    tensor = run.find(*_COUNTER)
    if tensor is None or not 0 <= step < run.steps or not run.kept(tensor)[step]:
        return None
    return int(run.read(tensor, step).reshape(-1)[0])


def _by_state(a: Run, b: Run, pairing: Pairing) -> StepMap:
    shift = offset_of_start(a, b, pairing)
    if shift is None:
        raise UsageError(
            f"neither {a.path} nor {b.path} starts from weights that the other had",
            hint="--align steps=number, steps=iteration or steps=batches",
        )
    reason = _reason(shift, "state", _agreement(a, b, pairing, shift)) if shift else None
    return _shifted(a, b, shift, "state", reason=reason)


def _agreement(a: Run, b: Run, pairing: Pairing, shift: int) -> float | None:
    """Return the share of steps whose inputs agree under an offset; None where none is known."""
    inputs = [pair for pair in pairing.pairs if pair.role == "input" and pair.a and pair.b]
    steps = range(max(0, -shift), min(a.steps, b.steps - shift))
    if not inputs or not steps:
        return None
    first, last = steps[0], min(steps[-1] + 1, steps[0] + _LOOK)
    equal = np.ones(last - first, bool)
    for pair in inputs:
        one = a.digests(a.tensor("input", pair.a or ""))[first:last]
        other = b.digests(b.tensor("input", pair.b or ""))[first + shift : last + shift]
        equal &= (one == other).all(axis=1) & one.any(axis=1)
    return float(equal.mean())
