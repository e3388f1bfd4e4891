"""What moved the weights of two noisy runs, told from each run by itself.

Where the gradients of repeats differ by per cents, what a momentum of 0.9001 makes of a weight
drowns in what they make of it. Each run's updates still are exactly what its rule makes of what the
run recorded, so that a rule or a setting that is another one shows there, and where it first does.
So does what something else changed between two steps of one run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracediff.align import Pairing, recorded, recorded_step
from tracediff.compare._follow import external_of
from tracediff.forensics import Fit, Recorded, Reproduction, first_unlike, reproduce
from tracediff.onset import Judged

if TYPE_CHECKING:
    from tracediff.trace import Run

Key = tuple[str, str]


def _steps(judged: Mapping[Key, Judged]) -> int:
    return len(next(iter(judged.values())).after) if judged else 0


def with_own_rules(
    judged: Mapping[Key, Judged], a: Run, b: Run, pairing: Pairing
) -> dict[Key, Judged]:
    """Mark the first update of B that A's rule does not make, though one of B's own does.

    Args:
        judged: Every track, judged.
        a: The first run, aligned.
        b: The second run, aligned.
        pairing: Which tensors belong together.
    """
    result = dict(judged)
    count = _steps(judged)
    of_a, of_b = (reproduce(recorded(run), steps=min(run.steps, count)) for run in (a, b))
    fits = _fits(of_a, of_b)
    if fits is None or of_b is None:
        return result
    numbers = {recorded_step(b, step): step for step in range(count)}
    names = {(pair.role, pair.b): pair.key for pair in pairing.pairs}
    for update, key in _unlike(of_b, *fits):
        step, found = numbers.get(update.step), names.get(key)
        if step is not None and found is not None and found in judged:
            flags = judged[found].update.copy()
            flags[step] = True
            result[found] = replace(judged[found], update=flags)
            break
    return result


def with_own_changes(
    judged: Mapping[Key, Judged], a: Run, b: Run, pairing: Pairing
) -> dict[Key, Judged]:
    """Mark what something other than the optimizer changed in one run only, however little.

    Args:
        judged: Every track, judged.
        a: The first run, aligned.
        b: The second run, aligned.
        pairing: Which tensors belong together.
    """
    result = dict(judged)
    count = _steps(judged)
    one, other = external_of(a, b, pairing, count)
    for key in one.keys() | other.keys():
        found = judged.get(key)
        if found is None or found.track.before is None:
            continue
        none = np.zeros(count, bool)
        alone = (one.get(key, none) != other.get(key, none)) & found.track.before["differs"]
        result[key] = replace(found, before=found.before | alone)
    return result


def _fits(a: Reproduction | None, b: Reproduction | None) -> tuple[Fit, Fit] | None:
    """Return the rule of A and that of B, one and the same where both can be."""
    if a is None or b is None or a.best is None or b.best is None:
        return None
    both = ((one, b.fit_of(one.rule.key)) for one in a.fits)
    common = next(((one, other) for one, other in both if other is not None), None)
    if common is None and not b.sample.slots.issuperset(a.best.rule.slots):
        return None
    return common or (a.best, b.best)


def _unlike(of: Reproduction, theirs: Fit, own: Fit) -> Iterator[tuple[Recorded, Key]]:
    for update in of.sample.updates:
        part = first_unlike(update, theirs)
        if part is not None and first_unlike(update, own) is None:
            slot = "" if part == "weight" else f"/{part}"
            yield update, ("slot" if slot else "weight", update.weight + slot)
