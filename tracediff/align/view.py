"""A run as seen from another: its steps in the other's numbers, its values in the other's layout.

What compares two runs reads both through `Run`, and need not know how they were aligned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from tracediff.align.layouts import Layout, adapt, adapted_shape
from tracediff.align.notation import parse
from tracediff.align.pairing import Pairing
from tracediff.align.step_map import StepMap
from tracediff.errors import NotKept, UnknownName
from tracediff.model import Moment, Side
from tracediff.names import model_layers, renamed
from tracediff.trace import (
    Allocate,
    ExternalChange,
    Run,
    Sketch,
    SparseRows,
    Statistics,
    Tensor,
    UnscaledRun,
    sketch_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def aligned(a: Run, b: Run, pairing: Pairing, steps: StepMap) -> tuple[Run, Run]:
    """Return both runs as a comparison reads them: steps in A's numbers, pairs in one layout.

    A run that needs no change is returned as it is.
    """
    layouts_a, layouts_b = _layouts(pairing, "a"), _layouts(pairing, "b")
    layers = {one.b: one.a for one in pairing.layers if one.a != one.b}
    count = len(steps.b)
    a, b = _unscaled(a, pairing, "a"), _unscaled(b, pairing, "b")
    view_a, view_b = a, b
    if layouts_a:
        view_a = AlignedRun(a, np.arange(count, dtype=np.int64), layouts_a, {})
    if layouts_b or layers or not steps.plain:
        view_b = AlignedRun(b, steps.b, layouts_b, layers)
    return view_a, view_b


def alongside(run: Run, pairing: Pairing, steps: StepMap, side: Side) -> Run:
    """Return a run as a comparison reads the run of ``side``, of which it is a repeat.

    Steps that it does not have were not observed.
    """
    at = np.arange(len(steps.b), dtype=np.int64) if side == "a" else steps.b
    at = np.where(at < run.steps, at, -1)
    layers = {} if side == "a" else {one.b: one.a for one in pairing.layers if one.a != one.b}
    return AlignedRun(_unscaled(run, pairing, side), at, _layouts(pairing, side), layers)


def _unscaled(run: Run, pairing: Pairing, side: Side) -> Run:
    """Return a run without the scale of the loss, if the pairing takes it off."""
    keys = set()
    for pair in pairing.pairs:
        name = pair.a if side == "a" else pair.b
        if name is not None and pair.divided:
            keys.add((pair.role, name.partition("[")[0]))
    keys = {key for key in keys if run.find(*key) is not None}
    return UnscaledRun(run, keys) if keys else run


def _layouts(pairing: Pairing, side: Side) -> dict[tuple[str, str], Layout]:
    result: dict[tuple[str, str], Layout] = {}
    for pair in pairing.pairs:
        name, described = (pair.a, pair.layout_a) if side == "a" else (pair.b, pair.layout)
        if described and name is not None:
            result[pair.role, name] = parse(described)
    return result


@dataclass(frozen=True, slots=True)
class _Adapted:
    source: Tensor
    tensor: Tensor
    layout: Layout


class AlignedRun(Run):
    """A run seen through an alignment. Made by `aligned`.

    At a step without a partner nothing was observed. Tensors in another layout have the digests of
    their adapted values, which are read for that; where only digests were kept, they count as not
    observed.

    Attributes:
        source: The run as it was recorded.
        at: For each step here, the step of ``source``; -1 for none.
    """

    def __init__(
        self,
        source: Run,
        at: NDArray[np.int64],
        layouts: Mapping[tuple[str, str], Layout],
        layers: Mapping[str, str],
    ) -> None:
        # What is not changed below is that of the source: its files, its caches.
        self.__dict__.update(vars(source))
        for name in ("fit", "epoch", "batch", "seconds"):
            self.__dict__.pop(name, None)
        self.source = source
        self.at = at
        self.steps = len(at)
        self._adapted = {key: _adapted(source, *key, layout) for key, layout in layouts.items()}
        self._hashed: dict[tuple[str, str], dict[bytes, tuple[int, int]]] = {}
        self.about = _renamed(source.about, layers)
        own = {one.tensor.key: one.tensor for one in self._adapted.values()}
        known = {tensor.key: tensor for tensor in source.tensors}
        self._by_key = {**known, **own}
        self.tensors = tuple(self._by_key.values())

    @cached_property
    def fit(self) -> NDArray[np.int32]:
        """As `Run.fit`; -1 at a step without a partner."""
        return self._picked(self.source.fit, -1)

    @cached_property
    def epoch(self) -> NDArray[np.int32]:
        """As `Run.epoch`; -1 at a step without a partner."""
        return self._picked(self.source.epoch, -1)

    @cached_property
    def batch(self) -> NDArray[np.int32]:
        """As `Run.batch`; -1 at a step without a partner."""
        return self._picked(self.source.batch, -1)

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """As `Run.seconds`; NaN at a step without a partner."""
        return self._picked(self.source.seconds, np.nan)

    def digests(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.uint64]:
        """As `Run.digests`; of adapted values where the layout is another."""
        found = self._adapted.get(tensor.key)
        if found is None:
            return self._picked(self.source.digests(tensor, moment), 0)
        digests = self._picked(self.source.digests(found.source, moment), 0)
        kept = self._picked(self.source.kept(found.source, moment), 0)
        result = np.zeros_like(digests)
        known = self._hashed.setdefault(tensor.key, {})
        for step in map(int, np.flatnonzero(kept)):
            key = digests[step].tobytes()
            if key not in known:
                known[key] = _digest(self.read(tensor, step, moment))
            result[step] = known[key]
        return result

    def observed(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """As `Run.observed`."""
        return np.asarray(self.digests(tensor, moment).any(axis=1))

    def kept(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """As `Run.kept`."""
        return self._picked(self.source.kept(self._recorded(tensor), moment), 0)

    def read(self, tensor: Tensor, step: int, moment: Moment = "before") -> NDArray[Any]:
        """As `Run.read`, in the other run's layout."""
        found = self._adapted.get(tensor.key)
        values = self.source.read(self._recorded(tensor), self._step(tensor, step), moment)
        return values if found is None else adapt(found.layout, values)

    def versions(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.int32]:
        """As `Run.versions`."""
        return self._picked(self.source.versions(self._recorded(tensor), moment), -1)

    def many(self, tensor: Tensor) -> bool:
        """As `Run.many`; values in another layout are read one by one."""
        return tensor.key not in self._adapted and self.source.many(tensor)

    def read_many(
        self,
        tensor: Tensor,
        versions: NDArray[np.int32],
        digests: NDArray[np.uint64],
        *,
        allocate: Allocate | None = None,
    ) -> list[NDArray[Any]]:
        """As `Run.read_many`."""
        return self.source.read_many(tensor, versions, digests, allocate=allocate)

    def identity(self) -> str | None:
        """None: what is kept of a run is kept of what was recorded."""
        return None

    def read_sparse(self, tensor: Tensor, step: int) -> SparseRows:
        """As `Run.read_sparse`; an adapted tensor is dense."""
        if tensor.key in self._adapted:
            raise NotKept(f"{self.path}: {tensor.role} {tensor.name} is read dense, in A's layout")
        return self.source.read_sparse(tensor, self._step(tensor, step))

    def sketched(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.bool_]:
        """As `Run.sketched`; an adapted tensor has a sketch where its elements were kept."""
        if tensor.key in self._adapted:
            return self.kept(tensor, moment)
        return self._picked(self.source.sketched(tensor, moment), 0)

    def sketch(self, tensor: Tensor, step: int, moment: Moment = "before") -> Sketch:
        """As `Run.sketch`."""
        if tensor.key in self._adapted:
            return sketch_of(self.read(tensor, step, moment))
        return self.source.sketch(tensor, self._step(tensor, step), moment)

    def statistics(self, tensor: Tensor, step: int, moment: Moment = "before") -> Statistics | None:
        """As `Run.statistics`; an adapted tensor has those of all that was recorded."""
        return self.source.statistics(self._recorded(tensor), self._step(tensor, step), moment)

    def recorded_statistics(self, tensor: Tensor, moment: Moment = "before") -> NDArray[np.float64]:
        """As `Run.recorded_statistics`; of an adapted tensor there are none."""
        found = self.source.recorded_statistics(self._recorded(tensor), moment)
        if tensor.key in self._adapted:
            return np.full((self.steps, found.shape[1]), np.nan)
        return self._picked(found, np.nan)

    def row_digests(self, tensor: Tensor, step: int) -> NDArray[np.uint64]:
        """As `Run.row_digests`; of the rows as they were recorded."""
        return self.source.row_digests(self._recorded(tensor), self._step(tensor, step))

    def external_changes(self) -> tuple[ExternalChange, ...]:
        """As `Run.external_changes`, before steps that have a partner."""
        here = {int(step): place for place, step in enumerate(self.at) if step >= 0}
        return tuple(
            replace(one, step=here[one.step])
            for one in self.source.external_changes()
            if one.step in here
        )

    def bytes_on_disk(self, tensor: Tensor) -> int:
        """As `Run.bytes_on_disk`."""
        return self.source.bytes_on_disk(self._recorded(tensor))

    def _recorded(self, tensor: Tensor) -> Tensor:
        found = self._adapted.get(tensor.key)
        return tensor if found is None else found.source

    def _step(self, tensor: Tensor, step: int) -> int:
        what = f"{self.path}: {tensor.role} {tensor.name} at step {step}"
        if not 0 <= step < self.steps:
            raise UnknownName(f"{what} cannot be read: steps 0 to {self.steps - 1} are aligned")
        if self.at[step] < 0:
            raise NotKept(f"{what} was not observed: the step has no partner in this run")
        return int(self.at[step])

    def _picked(self, cells: NDArray[Any], absent: float) -> NDArray[Any]:
        """Return the cells, one a step of the source, at the steps here."""
        there = self.at >= 0
        result = np.full((len(self.at), *cells.shape[1:]), absent, cells.dtype)
        result[there] = cells[self.at[there]]
        return result


def recorded(run: Run) -> Run:
    """Return a run as it was recorded, whatever alignment it is seen through."""
    while isinstance(run, AlignedRun | UnscaledRun):
        run = run.source
    return run


def recorded_step(run: Run, step: int) -> int | None:
    """Return the step of the run as it was recorded that is seen at ``step``, or None."""
    if isinstance(run, AlignedRun):
        here = int(run.at[step]) if step < run.steps else -1
        return here if here >= 0 else None
    return step if step < run.steps else None


def _adapted(run: Run, role: str, name: str, layout: Layout) -> _Adapted:
    source = run.find(role, name)
    if source is None:
        source = run.tensor(role, name.partition("[")[0])
    alias = source.same_as
    # Where an alias is adapted, what it stands for is read.
    recorded_as = source if alias is None else run.tensor(alias, source.name)
    shape = None if source.shape is None else adapted_shape(layout, source.shape)
    tensor = replace(
        source,
        name=name,
        shape=shape,
        layout="fixed" if recorded_as.layout == "sparse" else recorded_as.layout,
    )
    return _Adapted(recorded_as, tensor, layout)


def _digest(values: NDArray[Any]) -> tuple[int, int]:
    """Return the digest that docs/trace-format.md defines: low and high half of 128-bit XXH3."""
    bytes_ = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    whole = xxhash.xxh3_128_intdigest(bytes_.tobytes())
    return whole & (2**64 - 1), whole >> 64


def _renamed(about: Mapping[str, Any], layers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what is known about a run with its layers called as in the other."""
    model = about.get("model")
    if not layers or not isinstance(model, Mapping):
        return about

    taken = set(layers.values())

    def name(one: object) -> str:
        given = str(one)
        if given not in layers and given in taken:
            return f"{given} of B"
        return layers.get(given, given)

    described: Sequence[Mapping[str, Any]] = [
        {
            **layer,
            "name": name(layer.get("name")),
            "inputs": [name(one) for one in layer.get("inputs") or ()],
            "weights": [
                renamed(str(one), str(layer.get("name")), name(layer.get("name")))
                for one in layer.get("weights") or ()
            ],
        }
        for layer in model_layers(about)
    ]
    return MappingProxyType({**about, "model": {**model, "layers": described}})
