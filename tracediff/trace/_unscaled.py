"""A run as it is without the scale of its loss, which recorded raw gradients may carry.

Half precision loses small gradients, so the loss is multiplied before they are taken, and what they
come to is divided again before weights are updated. Some stacks are seen before that, some after.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from tracediff.errors import NotKept
from tracediff.model import Moment
from tracediff.trace._digests import digest_of
from tracediff.trace._run import Run
from tracediff.trace._sketch import Sketch
from tracediff.trace._statistics import Statistics
from tracediff.trace._tensor import Tensor
from tracediff.trace._values import SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OLDER = "optimizer/dynamic_scale"
"""What gradients carry in traces that do not say it, and of which an event says that they do."""
_SCALED = slice(1, 6)
"""The numbers of a row of statistics that are in units of the values: all but the counts."""


def scaled_by(run: Run, tensor: Tensor) -> str | float | None:
    """Return what a recorded gradient is multiplied by: a slot, or a number; None for nothing."""
    mine = run.find(tensor.role, tensor.name)
    if mine is not None and mine.same_as is not None:
        mine = run.find(mine.same_as, mine.name)
    if mine is None or mine.role != "gradient" or mine.scaled_by is not None:
        return None if mine is None else mine.scaled_by
    events = run.about.get("events") or ()
    told = any(isinstance(e, dict) and e.get("kind") == "scaled-gradients" for e in events)
    return _OLDER if told and all(one.scaled_by is None for one in run.tensors) else None


def scales(run: Run, tensor: Tensor) -> NDArray[np.float64]:
    """Return what a recorded gradient is multiplied by at every step; float64 (steps,).

    1 where nothing scales it, NaN where that is not known.
    """
    by = scaled_by(run, tensor)
    if not isinstance(by, str):
        return np.full(run.steps, 1.0 if by is None else by)
    slot = run.find("slot", by)
    return np.full(run.steps, np.nan) if slot is None else scalars(run, slot)


def scalars(run: Run, tensor: Tensor) -> NDArray[np.float64]:
    """Return a tensor of one number at every step, before it; NaN where it was not kept.

    Returns:
        float64 (steps,).
    """
    versions = run.versions(tensor)
    _, first, which = np.unique(versions, return_index=True, return_inverse=True)
    values = [
        float(run.read(tensor, int(step)).reshape(-1)[0]) if versions[step] >= 0 else np.nan
        for step in first
    ]
    return np.array(values, np.float64)[which.reshape(-1)]


class UnscaledRun(Run):
    """A run some of whose gradients are divided by what they were multiplied by.

    The division is exact where the scale is a power of two, but for what is too small for the
    dtype then. What is not finite stays so. Where values were not kept, the digest of one of a
    scale other than 1 is one that no recorded value has. At steps of which the scale is not known,
    nothing was observed.

    Args:
        source: The run as it was recorded.
        keys: Role and name of the tensors.

    Attributes:
        source: The run as it was recorded.
    """

    def __init__(self, source: Run, keys: Iterable[tuple[str, str]]) -> None:
        # What is not changed below is that of the source: its files, its caches.
        self.__dict__.update(vars(source))
        self.source = source
        self._scales = {key: scales(source, source.tensor(*key)) for key in keys}
        self._hashed: dict[tuple[str, str], dict[tuple[bytes, float], tuple[int, int]]] = {}

    def identity(self) -> str | None:
        """None: what is kept of a run is kept of what was recorded."""
        return None

    def digests(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.uint64]:
        """As `Run.digests`; of the divided values."""
        digests = self.source.digests(tensor, moment)
        found = self._scales.get(tensor.key)
        if found is None:
            return digests
        kept, result = self.source.kept(tensor, moment), digests.copy()
        known = self._hashed.setdefault(tensor.key, {})
        for step in map(int, np.flatnonzero(digests.any(axis=1) & (found != 1.0))):
            scale = float(found[step])
            key = digests[step].tobytes(), scale
            if np.isnan(scale):
                known[key] = 0, 0
            elif key not in known:
                known[key] = self._digest(tensor, step, moment) if kept[step] else _other(*key)
            result[step] = known[key]
        return result

    def kept(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """As `Run.kept`."""
        kept, found = self.source.kept(tensor, moment), self._scales.get(tensor.key)
        return kept if found is None else kept & ~np.isnan(found)

    def read(self, tensor: Tensor, step: int, moment: Moment = "before") -> NDArray[Any]:
        """As `Run.read`; divided."""
        return self._divided(self.source.read(tensor, step, moment), tensor, step)

    def read_sparse(self, tensor: Tensor, step: int) -> SparseRows:
        """As `Run.read_sparse`; divided."""
        found = self.source.read_sparse(tensor, step)
        return replace(found, values=self._divided(found.values, tensor, step))

    def many(self, tensor: Tensor) -> bool:
        """As `Run.many`; what is divided is read step by step, each of which has its scale."""
        return tensor.key not in self._scales and self.source.many(tensor)

    def sketched(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """As `Run.sketched`."""
        there, found = self.source.sketched(tensor, moment), self._scales.get(tensor.key)
        return there if found is None else there & ~np.isnan(found)

    def sketch(self, tensor: Tensor, step: int, moment: Moment = "before") -> Sketch:
        """As `Run.sketch`; a sketch is linear, so it is divided as the values are."""
        found = self.source.sketch(tensor, step, moment)
        if tensor.key not in self._scales:
            return found
        with np.errstate(invalid="ignore"):
            return replace(found, numbers=found.numbers / self._scale(tensor, step))

    def statistics(self, tensor: Tensor, step: int, moment: Moment = "before") -> Statistics | None:
        """As `Run.statistics`; of the divided values."""
        found = self.source.statistics(tensor, step, moment)
        if found is None or tensor.key not in self._scales:
            return found
        scale = self._scale(tensor, step)
        return replace(
            found,
            mean=found.mean / scale,
            std=found.std / scale,
            norm=found.norm / scale,
            min=found.min / scale,
            max=found.max / scale,
        )

    def recorded_statistics(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.float64]:
        """As `Run.recorded_statistics`; of the divided values."""
        table = self.source.recorded_statistics(tensor, moment)
        found = self._scales.get(tensor.key)
        if found is None:
            return table
        table = table.copy()
        with np.errstate(invalid="ignore"):
            table[:, _SCALED] /= found[:, None]
        return table

    def _scale(self, tensor: Tensor, step: int) -> float:
        scale = float(self._scales[tensor.key][step])
        if np.isnan(scale):
            what = f"{self.path}: {tensor.role} {tensor.name} at step {step}"
            raise NotKept(f"{what} is multiplied by a scale of the loss that was not kept")
        return scale

    def _divided(self, values: NDArray[Any], tensor: Tensor, step: int) -> NDArray[Any]:
        if tensor.key not in self._scales:
            return values
        # Half precision has no number as large as the usual scales.
        wide = np.promote_types(values.dtype, np.float32)
        with np.errstate(invalid="ignore", under="ignore", over="ignore"):
            divided = values.astype(wide) / wide.type(self._scale(tensor, step))
            return np.asarray(divided, dtype=values.dtype)

    def _digest(self, tensor: Tensor, step: int, moment: Moment) -> tuple[int, int]:
        recorded = self._resolve(tensor)
        if recorded.layout == "sparse":
            found = self.read_sparse(tensor, step)
            return digest_of(found.values, found.rows)
        return digest_of(self.read(tensor, step, moment))


def _other(digest: bytes, scale: float) -> tuple[int, int]:
    """Return what stands for the digest of a value that was not kept, divided by a scale."""
    whole = xxhash.xxh3_128_intdigest(digest + np.float64(scale).tobytes())
    return whole & (2**64 - 1), whole >> 64
