"""Follow all pairs of tensors over the steps, a few at a time in threads."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tracediff.align import Pairing
from tracediff.drift import Follower, Source, Track, follower, least_distance, nbytes
from tracediff.model import Pair
from tracediff.names import class_name, model_layers, split_slot, update_rule
from tracediff.onset import Kernel, Roundings, Sensitivity
from tracediff.tolerance import EPS32
from tracediff.trace import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, str]
Progress: TypeAlias = Callable[[int, int], None]
_THREADS = 16
_RAW = ("gradient", "applied_gradient")
_LOSSES = 5
"""So many losses are looked at for the precision they were computed in."""
_AHEAD = 64
"""Blocks handed out before the oldest has to be done."""
_COARSE = {"mixed_float16": 2.0**-10, "float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}


def follow(
    a: Run, b: Run, pairing: Pairing, *, steps: int, progress: Progress | None = None
) -> dict[Key, Track]:
    """Return the track of every pair, in the order of the pairing.

    Args:
        a: The first run.
        b: The second run.
        pairing: What to follow.
        steps: Over how many steps.
        progress: Called with the bytes done and their total, equal ones included.
    """
    gradients: dict[str, Pair] = {}
    slots: dict[str, list[Pair]] = {}
    for pair in pairing.pairs:
        if pair.role == "gradient":
            gradients.setdefault(pair.name, pair)
        elif pair.role == "applied_gradient":
            gradients[pair.name] = pair
        elif pair.role == "slot":
            slots.setdefault(split_slot(pair.name)[0], []).append(pair)

    numbers = np.arange(steps)
    linear = all(update_rule(run.about.get("optimizer")) == "sgd" for run in (a, b))

    def start(pair: Pair) -> Follower:
        if pair.role != "weight":
            return follower(a, b, pair, steps=(numbers, numbers))
        return follower(
            a,
            b,
            pair,
            steps=(numbers, numbers),
            gradient=gradients.get(pair.name),
            slots=slots.get(pair.name, []),
            linear=linear,
        )

    meter = _Meter(pairing.pairs, a, b, steps, progress)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        try:
            return _work(threads, map(start, pairing.pairs), meter)
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise


def _work(
    threads: ThreadPoolExecutor, followers: Iterable[Follower], meter: _Meter
) -> dict[Key, Track]:
    """Work on the blocks of a few pairs at a time, so that little but results is in memory."""
    result: dict[Key, Track] = {}
    waiting: deque[tuple[Follower, list[Future[None]]]] = deque()
    ahead = 0

    def finish() -> None:
        nonlocal ahead
        one, futures = waiting.popleft()
        for future in futures:
            future.result()
            meter.add(one.nbytes // len(futures))
        ahead -= len(futures)
        result[one.pair.key] = one.track()

    for one in followers:
        blocks = one.blocks()
        if not blocks:
            meter.add(one.nbytes)
        waiting.append((one, [threads.submit(one.work, *block) for block in blocks]))
        ahead += len(blocks)
        while ahead > _AHEAD or (waiting and all(future.done() for future in waiting[0][1])):
            finish()
    while waiting:
        finish()
    return result


class _Meter:
    """Adds up the bytes that are done, and reports them."""

    def __init__(
        self, pairs: Sequence[Pair], a: Run, b: Run, steps: int, report: Progress | None
    ) -> None:
        self._done, self._total, self._report = 0, 0, report
        for pair in pairs if report is not None else ():
            sides = ((a, pair.a), (b, pair.b))
            found = [None if name is None else run.find(pair.role, name) for run, name in sides]
            count = steps + (pair.role in ("weight", "slot"))
            self._total += count * sum(nbytes(one) for one in found)

    def add(self, count: int) -> None:
        if self._report is not None:
            self._done += count
            self._report(min(self._done, self._total), self._total)


def external_steps(a: Run, b: Run, pairing: Pairing, steps: int) -> dict[Key, NDArray[np.bool_]]:
    """Return, for state tensors, before which steps something else changed them in either run."""
    one, other = external_of(a, b, pairing, steps)
    none = np.zeros(steps, bool)
    return {key: one.get(key, none) | other.get(key, none) for key in {**one, **other}}


def external_of(
    a: Run, b: Run, pairing: Pairing, steps: int
) -> tuple[dict[Key, NDArray[np.bool_]], dict[Key, NDArray[np.bool_]]]:
    """Return the same of A and of B, by A's names."""
    names_b = {(pair.role, pair.b): pair.key for pair in pairing.pairs}
    result: tuple[dict[Key, NDArray[np.bool_]], dict[Key, NDArray[np.bool_]]] = ({}, {})
    for run, found in zip((a, b), result, strict=True):
        for change in run.external_changes():
            key = change.tensor.key
            if run is b:
                key = names_b.get(key, key)
            if change.step < steps:
                found.setdefault(key, np.zeros(steps, bool))[change.step] = True
    return result


class Values:
    """The few values that judging asks for beyond the tracks."""

    def __init__(self, a: Run, b: Run) -> None:
        self._a, self._b = a, b
        self._rows: dict[int, int] = {}

    def norm(self, track: Track, step: int) -> float:
        """Return the L2 norm of a tensor that both runs agree in; NaN where it is not known."""
        for run, name in ((self._a, track.pair.a), (self._b, track.pair.b)):
            tensor = None if name is None else run.find(track.pair.role, name)
            if tensor is not None and run.kept(tensor)[step]:
                values = run.read(tensor, step).astype(np.float64).reshape(-1)
                return float(np.sqrt(np.dot(values, values)))
        for run, name in ((self._a, track.pair.a), (self._b, track.pair.b)):
            tensor = None if name is None else run.find(track.pair.role, name)
            if tensor is not None and run.observed(tensor)[step]:
                known = run.statistics(tensor, step)
                if known is not None:
                    return known.norm
        return float("nan")

    def moved(self, track: Track) -> NDArray[np.float64]:
        """Return the L2 norm of each update of A's weight whose elements were not kept, else 0.

        It is what sketches estimate or, without them, what statistics tell that it is at least:
        where only lower bounds of differences are known, they see as much of an update as of what
        rounding makes of it.
        """
        result = np.zeros(len(track.after))
        tensor = None if track.pair.a is None else self._a.find(track.pair.role, track.pair.a)
        if tensor is None:
            return result
        # A may be longer than what is compared.
        count = len(result)
        known = [self._a.sketched(tensor, moment)[:count] for moment in ("before", "after")]
        for step in map(int, np.flatnonzero(known[0] & known[1] & track.after["estimated"])):
            one, other = (self._a.sketch(tensor, step, moment) for moment in ("before", "after"))
            result[step] = one.distance(other)
        stated = np.flatnonzero(track.after["at_least"])
        if len(stated):
            source = Source(self._a, tensor, np.arange(count))
            ends = [source.moments(2 * stated + end) for end in (0, 1)]
            result[stated] = least_distance(*ends)[0]
        return result

    def rows(self, step: int) -> int:
        """Return the number of samples in the batch of a step; 0 where it is not known."""
        if step not in self._rows:
            self._rows[step] = self._count(step)
        return self._rows[step]

    def _count(self, step: int) -> int:
        for tensor in self._a.tensors:
            if tensor.role in ("input", "label") and self._a.kept(tensor)[step]:
                shape = self._a.read(tensor, step).shape
                return shape[0] if shape else 1
        return 0

    def roundings(self) -> Roundings:
        """Return how many roundings lie on the way to each tensor of the first run."""
        looked_up = {
            str(layer.get("name"))
            for layer in model_layers(self._a.about)
            if "Embedding" in class_name(layer.get("class"))
        }
        kernels = [
            Kernel(one.order, one.layer, one.shape)
            for one in self._a.tensors
            if one.role == "weight"
            and one.shape is not None
            and len(one.shape) > 1
            and one.layer not in looked_up
        ]
        return Roundings(kernels, self._batch(), self._a.about)

    def _batch(self) -> tuple[int, ...]:
        """Return the shape of the first batch's largest input; empty where it was not kept."""
        shapes: list[tuple[int, ...]] = []
        for tensor in self._a.tensors:
            if tensor.role != "input":
                continue
            steps = np.flatnonzero(self._a.kept(tensor))
            if len(steps):
                shapes.append(self._a.read(tensor, int(steps[0])).shape)
        return max(shapes, key=math.prod, default=())

    def sensitivity(self, tracks: Mapping[Key, Track], step: int) -> Sensitivity | None:
        """Return how sensitive A's loss is to the weights before a step; None where not known."""
        loss = self._norm_of(("loss", "loss"), step)
        if not loss > 0.0:
            return None
        terms, carried = 0.0, 0.0
        for (role, name), track in tracks.items():
            if role != "weight" or track.before is None:
                continue
            cell = track.before[step]
            if cell["differs"] and not cell["known"]:
                return None
            gradient = 0.0
            for one in _RAW:
                other = tracks.get((one, name))
                measured = None if other is None else other.after[step]
                gradient = max(gradient, self._norm_at(measured, (one, track.pair.a), step))
            if gradient > 0.0:
                terms += (gradient * self._norm_at(cell, (role, track.pair.a), step)) ** 2
            carried += gradient * float(cell["norm_difference"]) if cell["differs"] else 0.0
        found = (math.sqrt(terms), carried)
        if not math.isfinite(sum(found)):
            return None
        return Sensitivity(found[0] / loss, found[1] / loss)

    def _norm_at(self, cell: np.void | None, key: tuple[str, str | None], step: int) -> float:
        """Return a norm that was measured already, or else of what is read for it."""
        if cell is not None and cell["differs"] and cell["known"] and cell["norm_a"] > 0.0:
            return float(cell["norm_a"])
        return self._norm_of(key, step)

    def _norm_of(self, key: tuple[str, str | None], step: int) -> float:
        tensor = None if key[1] is None else self._a.find(key[0], key[1])
        found = None if tensor is None else self._a.statistics(tensor, step)
        return 0.0 if found is None else found.norm

    def eps(self) -> float:
        """Return the machine epsilon in which the runs compute, where they store more; else 0.

        Where only one run has a coarse precision policy, that is a difference, and no rounding.
        Where a stack takes the loss through float32 whatever its dtype, no setting avoids it.
        """
        both = self._a, self._b
        return max(min(map(_policy, both)), *map(_of_loss, both))


def _policy(run: Run) -> float:
    environment = run.about.get("environment") or {}
    flags = environment.get("flags") or {}
    policy = flags.get("precision_policy", flags.get("policy"))
    if isinstance(policy, dict):
        policy = policy.get("name")
    return _COARSE.get(str(policy), 0.0)


def _of_loss(run: Run) -> float:
    """Return the epsilon of float32 where the losses in float64 are numbers of float32, else 0.

    TensorFlow 2's tf.keras weights losses in float32 (losses_utils.compute_weighted_loss).
    """
    loss = run.find("loss", "loss")
    if loss is None or loss.dtype != "float64":
        return 0.0
    steps = np.flatnonzero(run.kept(loss))[:_LOSSES]
    values = np.array([float(run.read(loss, int(step))) for step in steps])
    with np.errstate(over="ignore"):
        coarse = values.astype(np.float32) == values
    # One that is a simple fraction may be such a number by chance.
    return EPS32 if coarse.size >= _LOSSES and coarse.all() else 0.0
