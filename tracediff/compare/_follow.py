"""Follow all pairs of tensors over the steps, a few at a time in threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tracediff.align import Pairing
from tracediff.drift import Track, track_pair
from tracediff.model import Pair
from tracediff.names import split_slot
from tracediff.tolerance import EPS32
from tracediff.trace import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, str]
Progress: TypeAlias = Callable[[int, int], None]
_THREADS = 8
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
        progress: Called with the number of pairs done and their total.
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

    def one(pair: Pair) -> Track:
        if pair.role != "weight":
            return track_pair(a, b, pair, steps=steps)
        inputs = gradients.get(pair.name), slots.get(pair.name, [])
        return track_pair(a, b, pair, steps=steps, gradient=inputs[0], slots=inputs[1])

    total, result = len(pairing.pairs), {}
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        try:
            for done, track in enumerate(threads.map(one, pairing.pairs), start=1):
                result[track.pair.key] = track
                if progress is not None:
                    progress(done, total)
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise
    return result


def external_steps(a: Run, b: Run, pairing: Pairing, steps: int) -> dict[Key, NDArray[np.bool_]]:
    """Return, for state tensors, before which steps something else changed them in either run."""
    names_b = {(pair.role, pair.b): pair.key for pair in pairing.pairs}
    result: dict[Key, NDArray[np.bool_]] = {}
    for run in (a, b):
        for change in run.external_changes():
            key = change.tensor.key
            if run is b:
                key = names_b.get(key, key)
            if change.step < steps:
                result.setdefault(key, np.zeros(steps, bool))[change.step] = True
    return result


class Values:
    """The few values that judging asks for beyond the tracks."""

    def __init__(self, a: Run, b: Run) -> None:
        self._a, self._b = a, b
        self._rows: dict[int, int] = {}

    def norm(self, track: Track, step: int) -> float:
        """Return the L2 norm of a tensor that both runs agree in; NaN where it was not kept."""
        for run, name in ((self._a, track.pair.a), (self._b, track.pair.b)):
            tensor = None if name is None else run.find(track.pair.role, name)
            if tensor is not None and run.kept(tensor)[step]:
                values = run.read(tensor, step).astype(np.float64).reshape(-1)
                return float(np.sqrt(np.dot(values, values)))
        return float("nan")

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

    def eps(self, run: Run) -> float:
        """Return the machine epsilon of the precision in which a run computes."""
        environment = run.about.get("environment") or {}
        flags = environment.get("flags") or {}
        policy = flags.get("precision_policy", flags.get("policy"))
        if isinstance(policy, dict):
            policy = policy.get("name")
        return _COARSE.get(str(policy), EPS32)
