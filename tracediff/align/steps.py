"""Which step of A answers to which of B.

Steps are told by their number, by the optimizer's counter, by the state that a run starts from, or,
where a user asks for it, by what the batches hold. Only digests are needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tracediff.align.layouts import Add, describe
from tracediff.align.pairing import Pairing
from tracediff.align.values import NEAR, norm
from tracediff.errors import UsageError
from tracediff.names import counts_steps
from tracediff.trace import Run, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

By = Literal["auto", "number", "iteration", "state", "batches"]
"""How steps can be told; ``auto`` chooses among number, iteration and state."""

STEP_CHOICES: tuple[By, ...] = get_args(By)
_LOOK = 64
"""Steps that are looked at to see whether the batches of two runs agree under an offset."""
_GLANCES = 9
"""Steps at which weights are looked at first to see whether a run may have passed by others."""
_NEARER = 0.5
"""To what share of its largest distance a run comes at one of these steps if it did."""
_COUNTER = ("slot", "optimizer/iteration")


@dataclass(frozen=True, slots=True, eq=False)
class StepMap:
    """Which step of B answers to each step of A.

    Attributes:
        b: For each step of A, from 0 to the last that has a partner, its step in B; -1 for none.
        by: How they were told: ``number``, ``iteration``, ``state`` or ``batches``.
        reason: Why, in a sentence; None where steps of one number belong together.
        departs: Of steps told by their batches, the first step of A whose batch B takes at another
            place in the order, or not at all; else None.
    """

    b: NDArray[np.int64]
    by: str
    reason: str | None = None
    departs: int | None = None

    @property
    def plain(self) -> bool:
        """Whether steps of one number belong together, all of them."""
        return bool((self.b == np.arange(len(self.b))).all())

    @property
    def compared(self) -> int:
        """How many steps have a partner."""
        return int(np.count_nonzero(self.b >= 0))

    @property
    def start(self) -> int:
        """The first step of A that has a partner."""
        found = np.flatnonzero(self.b >= 0)
        return int(found[0]) if len(found) else 0

    @property
    def age(self) -> int:
        """How many steps either run has behind it where the comparison begins."""
        return max(self.start, int(self.b[self.start])) if len(self.b) else 0

    @property
    def offset(self) -> int | None:
        """What to add to a step of A for its partner, where that is one number for all."""
        found = np.flatnonzero(self.b >= 0)
        shifts = self.b[found] - found
        return int(shifts[0]) if len(found) and (shifts == shifts[0]).all() else None


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
        return _by_batches(a, b, pairing)
    return _automatic(a, b, pairing)


def _automatic(a: Run, b: Run, pairing: Pairing) -> StepMap:
    plain = _shifted(a, b, 0, "number")
    counted = _counted(a, b)
    begun = _offset_of_state(a, b, pairing)
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
    shift = _offset_of_state(a, b, pairing)
    if shift is None:
        raise UsageError(
            f"neither {a.path} nor {b.path} starts from weights that the other had",
            hint="--align steps=number, steps=iteration or steps=batches",
        )
    reason = _reason(shift, "state", _agreement(a, b, pairing, shift)) if shift else None
    return _shifted(a, b, shift, "state", reason=reason)


def _offset_of_state(a: Run, b: Run, pairing: Pairing) -> int | None:
    """Return the offset under which one run starts from weights that the other had later.

    0 where both start from the same; None where neither starts from what the other had.
    """
    weights = [
        (one, other)
        for pair in pairing.pairs
        if pair.role == "weight" and not pair.layout and not pair.layout_a
        for one, other in [(a.find("weight", pair.a or ""), b.find("weight", pair.b or ""))]
        if one is not None and other is not None and one.trainable is not False
    ]
    if not weights:
        return None
    for first, run, side in ((b, a, -1), (a, b, 1)):
        ordered = weights if run is a else [(other, one) for one, other in weights]
        found = _where(run, first, ordered)
        if found is not None:
            return side * found
    return None


def _where(run: Run, other: Run, weights: list[tuple[Tensor, Tensor]]) -> int | None:
    """Return the step of ``run`` before which all weights are those that ``other`` starts with."""
    if not run.steps or not other.steps:
        return None
    alike = np.ones(run.steps, bool)
    for one, start in weights:
        first = other.digests(start)[0]
        alike &= (run.digests(one) == first).all(axis=1) & first.any()
    steps = np.flatnonzero(alike)
    if len(steps):
        # Where nothing moves at first, the earliest is as good as any.
        return int(steps[0])
    return _nearest(run, other, weights)


def _nearest(run: Run, other: Run, weights: list[tuple[Tensor, Tensor]]) -> int | None:
    """As `_where`, for weights that agree but for rounding: of another stack, or another dtype."""
    one, start = max(weights, key=lambda pair: int(np.prod(pair[0].shape or ())))
    if not other.kept(start)[0]:
        return None
    first = other.read(start, 0).astype(np.float64).reshape(-1)
    size = norm(first)
    kept = np.flatnonzero(run.kept(one))
    if not len(kept) or not size or one.shape is None or np.prod(one.shape) != len(first):
        return None

    def distance(step: int) -> float:
        value = run.read(one, step).astype(np.float64).reshape(-1)
        return norm(value - first) / size

    if distance(int(kept[0])) <= NEAR:
        return int(kept[0])
    # A run that passes by comes nearer on its way there; to weights of another draw it does not.
    coarse = kept[np.unique(np.linspace(0, len(kept) - 1, _GLANCES).astype(int))]
    glances = [distance(int(step)) for step in coarse]
    if len(kept) > _GLANCES and min(glances) > _NEARER * max(glances):
        return None
    # Few values are read: where training passes by these weights, the distance has a dip.
    look = kept[np.unique(np.linspace(0, len(kept) - 1, _LOOK).astype(int))]
    distances = [distance(int(step)) for step in look]
    least = int(np.argmin(distances))
    around = kept[(kept >= look[max(0, least - 1)]) & (kept <= look[min(len(look), least + 2) - 1])]
    best = min(map(int, around), key=distance)
    spacing = min(
        (distance(step) for step in (best - 1, best + 1) if step in set(kept.tolist())),
        default=np.inf,
    )
    # Weights of the next step must be further off than rounding is.
    return best if distance(best) <= min(NEAR, 0.1 * spacing) else None


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


def _by_batches(a: Run, b: Run, pairing: Pairing) -> StepMap:
    keys_a, keys_b = (_batch_keys(run, names) for run, names in _data_names(a, b, pairing))
    if keys_a is None or keys_b is None:
        raise UsageError(
            f"{a.path} and {b.path} hold no batches by which to tell steps",
            hint="--align steps=number or steps=iteration",
        )
    places: dict[bytes, list[int]] = defaultdict(list)
    for step in range(b.steps - 1, -1, -1):
        places[keys_b[step]].append(step)
    found = np.full(a.steps, -1, np.int64)
    epochs_a, epochs_b = a.epoch, b.epoch
    for step in range(a.steps):
        left = places.get(keys_a[step])
        if not left:
            continue
        # The same batch comes once an epoch: the one of the same epoch is meant.
        same = [one for one in left if epochs_b[one] == epochs_a[step]]
        chosen = same[-1] if same else left[-1]
        left.remove(chosen)
        found[step] = chosen
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


def batch_course(a: Run, b: Run, pairing: Pairing) -> Mapping[int, int]:
    """Return for steps of A the step of B that takes the same batch, as far as there is one."""
    try:
        found = _by_batches(a, b, pairing)
    except UsageError:
        return {}
    return {step: int(other) for step, other in enumerate(found.b) if other >= 0}
