"""Tell steps by what their batches hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from tracediff.align.pairing import Pairing
from tracediff.align.step_map import StepMap
from tracediff.errors import UsageError
from tracediff.trace import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray


def by_batches(a: Run, b: Run, pairing: Pairing) -> StepMap:
    """Find for each step of A the step of B that takes the same batch, told by its digests.

    Of several the first of the same epoch is meant, or else the first, that no step before has.

    Raises:
        UsageError: The runs hold no batches, or none in common.
    """
    keys_a, keys_b = (_batch_keys(run, names) for run, names in _data_names(a, b, pairing))
    if keys_a is None or keys_b is None:
        raise UsageError(
            f"{a.path} and {b.path} hold no batches by which to tell steps",
            hint="--align steps=number or steps=iteration",
        )
    epochs_a, epochs_b = a.epoch.tolist(), b.epoch.tolist()
    # In falling order: the first of them is taken off the end.
    places: dict[bytes, list[int]] = defaultdict(list)
    in_epoch: dict[tuple[bytes, int], list[int]] = defaultdict(list)
    for step in range(b.steps - 1, -1, -1):
        places[keys_b[step]].append(step)
        in_epoch[keys_b[step], epochs_b[step]].append(step)
    found, taken = np.full(a.steps, -1, np.int64), np.zeros(b.steps, bool)
    for step, (key, epoch) in enumerate(zip(keys_a, epochs_a, strict=True)):
        # The same batch comes once an epoch: the one of the same epoch is meant.
        for left in (in_epoch.get((key, epoch), []), places.get(key, [])):
            while left and taken[left[-1]]:
                left.pop()
            if left:
                found[step] = left.pop()
                taken[found[step]] = True
                break
    paired = np.flatnonzero(found >= 0)
    if not len(paired):
        raise UsageError(
            f"no batch of {a.path} is one of {b.path}",
            hint="--align steps=number; tracediff compare says how the batches differ",
        )
    departs = _departs(found, b.steps)
    found = found[: paired[-1] + 1]
    moved = int(np.count_nonzero(found[paired] != paired))
    reason = f"{len(paired)} of A's {a.steps} batches are in B, {moved} of them at another step"
    return StepMap(found, "batches", reason, departs)


def _departs(found: NDArray[np.int64], steps: int) -> int | None:
    """Return the first step of A after which B does not take the next batch that A takes."""
    first = int(np.argmax(found >= 0))
    # Where B begins later in A's order, or A in B's, the order is the same.
    shift = int(found[first]) - first if first == 0 or found[first] == 0 else 0
    expected = np.arange(len(found)) + shift
    common = (expected >= 0) & (expected < steps)
    wrong = np.flatnonzero(common & (found != expected))
    return int(wrong[0]) if len(wrong) else None


def _data_names(a: Run, b: Run, pairing: Pairing) -> Iterable[tuple[Run, list[tuple[str, str]]]]:
    data = [p for p in pairing.pairs if p.role in ("input", "label") and p.a and p.b]
    yield a, [(pair.role, pair.a or "") for pair in data]
    yield b, [(pair.role, pair.b or "") for pair in data]


def _batch_keys(run: Run, names: list[tuple[str, str]]) -> list[bytes] | None:
    """Return for each step what tells its batch from others."""
    tensors = [run.tensor(role, name) for role, name in names]
    if not tensors:
        return None
    digests = np.concatenate([run.digests(tensor) for tensor in tensors], axis=1)
    return [row.tobytes() for row in digests] if digests.any() else None
