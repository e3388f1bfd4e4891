"""What was done to gradients between the backward pass and the update: how they were clipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tracediff.forensics.rule import Array
from tracediff.names import optimizer_settings
from tracediff.trace import Run, SparseRows, Tensor

Kind = Literal["none", "value", "norm", "global norm"]

_KINDS: tuple[Kind, ...] = ("norm", "global norm", "value")
_MAX_STEPS = 8
_MAX_ELEMENTS = 20_000_000
"""Of all gradients of a step together; the norm of all needs them all."""
_REPRODUCED = 1e-5
_UNTOUCHED = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """The raw and the applied gradient of one weight, flat, and the rows of a sparse raw one."""

    raw: Array
    applied: Array
    rows: SparseRows | None

    def norm(self, *, apart: bool) -> float:
        rows = self.rows.values if apart and self.rows is not None else self.raw
        return float(np.linalg.norm(rows))

    def bounded(self, bound: float, *, apart: bool) -> Array:
        if not apart or self.rows is None:
            return np.clip(self.raw, -bound, bound)
        values = np.clip(self.rows.values, -bound, bound)
        return SparseRows(values, self.rows.rows, self.rows.shape).dense().reshape(-1)


Gradients: TypeAlias = Mapping[str, _Pair]

WORDS: Mapping[Kind, str] = {
    "none": "gradients are applied as they are",
    "value": "each element is bounded (clip(g, -c, c))",
    "norm": "each gradient is bounded by its own norm (g * c / max(norm(g), c))",
    "global norm": "all gradients are bounded by their common norm (g * c / max(norm(all), c))",
}


@dataclass(frozen=True, slots=True)
class Clipping:
    """How the gradients of a run were clipped.

    Attributes:
        kinds: What reproduces the applied gradients from the raw ones, with its bound; several
            where the run does not tell them apart, none where nothing known does.
        active: How many of the steps looked at had any gradient changed.
        steps: How many steps were looked at.
        residual: The largest relative residual of the first kind.
        configured: Whether the bound is the configured one, not a fitted one.
        largest: By kind, the largest that it would bound at any step: element, norm, common norm.
        step: The first step that was clipped; the first looked at where none was.
    """

    kinds: Mapping[Kind, float]
    active: int
    steps: int
    residual: float
    configured: bool
    largest: Mapping[Kind, float]
    step: int


def clipping(run: Run, *, steps: int) -> Clipping | None:
    """Find how raw gradients became the applied ones.

    Args:
        run: The run.
        steps: How many of its steps to choose a sample from.

    Returns:
        None where not both were recorded for all trained weights.
    """
    pairs = _pairs(run)
    if not pairs:
        return None
    at = [step for step in _spread(steps) if _all_kept(run, pairs, step)]
    if not at:
        return None
    # What is not finite is bounded by nothing, and says nothing about the bound.
    finite = [(step, one) for step in at if _finite(one := _read(run, pairs, step))]
    if not finite:
        return None
    at, observed = [step for step, _ in finite], [one for _, one in finite]
    changed = [
        (step, one)
        for step, one in zip(at, observed, strict=True)
        if _left(one, "none", 0.0) > _UNTOUCHED
    ]
    largest = _largest(observed)
    if not changed:
        return Clipping(
            {"none": 0.0}, 0, len(at), 0.0, configured=True, largest=largest, step=at[0]
        )
    config = optimizer_settings((run.about.get("optimizer") or {}).get("config"))
    given = [config.get(name) for name in ("clipnorm", "global_clipnorm", "clipvalue")]
    bounds = [float(one) for one in given if isinstance(one, int | float) and one > 0]
    kinds: dict[Kind, float] = {}
    worst, configured = float("nan"), True
    for configured in (True, False):
        for kind in _KINDS:
            fitted = _fitted([one for _, one in changed], kind)
            for bound in bounds if configured else [fitted]:
                left = max(_left(one, kind, bound) for one in observed)
                if left <= _REPRODUCED and kind not in kinds:
                    worst = worst if kinds else left
                    kinds[kind] = bound
        if kinds:
            break
    return Clipping(
        kinds,
        len(changed),
        len(at),
        worst,
        configured=configured,
        largest=largest,
        step=changed[0][0],
    )


def _largest(observed: list[Gradients]) -> dict[Kind, float]:
    elements = [float(np.max(np.abs(g.raw), initial=0.0)) for one in observed for g in one.values()]
    norms = [[g.norm(apart=False) for g in one.values()] for one in observed]
    return {
        "none": 0.0,
        "value": max(elements),
        "norm": max(map(max, norms)),
        "global norm": max(float(np.linalg.norm(one)) for one in norms),
    }


def _pairs(run: Run) -> list[tuple[Tensor, Tensor]]:
    found = []
    for weight in run.tensors:
        if weight.role == "weight" and weight.trainable is not False:
            raw = run.find("gradient", weight.name)
            applied = run.find("applied_gradient", weight.name)
            if raw is None or applied is None:
                return []
            found.append((raw, applied))
    size = sum(int(np.prod(raw.shape or ())) for raw, _ in found)
    return found if size <= _MAX_ELEMENTS else []


def _spread(steps: int) -> list[int]:
    if steps <= _MAX_STEPS:
        return list(range(steps))
    return [0, 1, *(int(one) for one in np.linspace(2, steps - 1, _MAX_STEPS - 2))]


def _all_kept(run: Run, pairs: list[tuple[Tensor, Tensor]], step: int) -> bool:
    return all(run.kept(one)[step] for pair in pairs for one in pair)


def _read(run: Run, pairs: list[tuple[Tensor, Tensor]], step: int) -> Gradients:
    """Return both gradients of every weight at a step."""
    found = {}
    for raw, applied in pairs:
        before = run.read(raw, step).astype(np.float64).reshape(-1)
        after = run.read(applied, step).astype(np.float64).reshape(-1)
        rows = None
        if raw.layout == "sparse":
            sparse = run.read_sparse(raw, step)
            rows = SparseRows(sparse.values.astype(np.float64), sparse.rows, sparse.shape)
        found[raw.name] = _Pair(before, after, rows)
    return found


def _left(gradients: Gradients, kind: Kind, bound: float) -> float:
    """Return the relative residual that is left of a step's applied gradients.

    Repeated rows of a sparse gradient may be added up before they are clipped, or clipped apart.
    """
    total = float(np.sqrt(sum(float(one.applied @ one.applied) for one in gradients.values())))
    if not total or not np.isfinite(total):
        return 0.0 if not total else float("inf")
    best = float("inf")
    for apart in (False, True):
        made = _clipped(gradients, kind, bound, apart=apart)
        power = sum(float(np.sum((new - gradients[name].applied) ** 2)) for name, new in made)
        best = min(best, float(np.sqrt(power)) / total)
    return best


def _clipped(
    gradients: Gradients, kind: Kind, bound: float, *, apart: bool
) -> Iterator[tuple[str, Array]]:
    """Clip as the stacks do.

    Source: keras/optimizers.py 2.3.1, Optimizer.get_gradients (norm of all); tensorflow/python/
    keras/optimizer_v2/optimizer_v2.py 2.3, _clip_gradients (norm of each); keras/src/optimizers/
    base_optimizer.py 3.15, _clip_gradients.
    """
    norms = {name: one.norm(apart=apart) for name, one in gradients.items()}
    together = float(np.linalg.norm(list(norms.values())))
    for name, one in gradients.items():
        if kind == "none":
            yield name, one.raw
        elif kind == "value":
            yield name, one.bounded(bound, apart=apart)
        else:
            norm = together if kind == "global norm" else norms[name]
            yield name, one.raw * (bound / norm) if norm > bound else one.raw


def _finite(gradients: Gradients) -> bool:
    return all(np.isfinite(g.raw).all() for g in gradients.values())


def _fitted(changed: list[Gradients], kind: Kind) -> float:
    """Return the bound that the changed gradients were cut to, if this is how."""
    if kind == "value":
        return max(float(np.max(np.abs(g.applied))) for one in changed for g in one.values())
    if kind == "global norm":
        norms = [[float(np.linalg.norm(g.applied)) for g in one.values()] for one in changed]
        return float(np.median([np.linalg.norm(one) for one in norms]))
    cut = [
        float(np.linalg.norm(g.applied))
        for one in changed
        for g in one.values()
        if np.linalg.norm(g.applied - g.raw) > _UNTOUCHED * np.linalg.norm(g.raw)
    ]
    return float(np.median(cut))
