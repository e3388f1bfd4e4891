"""Recorded updates of a run, ready to be recomputed: a bounded sample of steps and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.forensics.rule import SPARSE_FORMS, Array, SparseForm, Update
from tracediff.names import model_layers, optimizer_settings, split_slot, within_layer
from tracediff.trace import Run, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STEPS = 24
FIRST_STEPS = 3
"""The first steps tell most: bias corrections and empty slots differ most there."""
MAX_WEIGHTS = 12
MAX_ELEMENTS = 8192
"""Of a larger tensor, elements at equal distances: all rules but clipping are elementwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One recorded update of one weight, elements flattened.

    Attributes:
        weight: The weight's name.
        step: The step.
        update: What went in, a sparse gradient summed up.
        after: The weight after.
        slots_after: The slots after.
        iteration: The optimizer's counter before the step.
        touched: For a sparse gradient, which elements belong to rows that it has; else None.
        squares: For a sparse gradient, the sum of the squares of repeated rows.
        magnitudes: Likewise, of absolute values.
    """

    weight: str
    step: int
    update: Update
    after: Array
    slots_after: Mapping[str, Array]
    iteration: float
    touched: NDArray[np.bool_] | None = None
    squares: Array | None = None
    magnitudes: Array | None = None

    @property
    def forms(self) -> tuple[SparseForm, ...]:
        """The ways in which a rule may treat this gradient."""
        return ("summed",) if self.touched is None else SPARSE_FORMS


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some updates of a run.

    Attributes:
        updates: By step, then in order of execution.
        steps: The steps that were looked at.
        weights: The weights that were looked at.
        trained: How many weights the optimizer trains.
        of_steps: How many steps there are.
        slots: What slots each of the weights has.
    """

    updates: tuple[Recorded, ...]
    steps: tuple[int, ...]
    weights: tuple[str, ...]
    trained: int
    of_steps: int
    slots: frozenset[str]

    @property
    def words(self) -> str:
        """What was sampled, in words."""
        return (
            f"{len(self.updates)} updates: {len(self.weights)} of {self.trained} trained weights "
            f"at {len(self.steps)} of {self.of_steps} steps"
        )


def sample(run: Run, *, steps: int) -> Sample | None:
    """Read a bounded sample of the updates of a run.

    Weights under a constraint are left out, and steps at which an average replaced the weights:
    something other than the rule moved them. So are steps that the recorder says updated nothing.

    Args:
        run: The run.
        steps: How many of its steps to look at.

    Returns:
        None where no update was recorded in full, and where several optimizers share the weights.
    """
    settings = optimizer_settings((run.about.get("optimizer") or {}).get("config"))
    if settings.get("gradient_accumulation_steps") or settings.get("loss_scale_factor"):
        return None
    if run.about.get("optimizers"):
        return None
    slots = _slots(run)
    constrained = _constrained(run)
    trained = [
        tensor
        for tensor in run.tensors
        if tensor.role == "weight"
        and tensor.trainable is not False
        and run.find("applied_gradient", tensor.name) is not None
    ]
    free = [one for one in trained if one.name not in constrained and one.dtype in _PRECISIONS]
    names = frozenset.intersection(*(frozenset(slots.get(one.name, {})) for one in free), _ANY)
    chosen = sorted(_spread(free, MAX_WEIGHTS), key=lambda one: (one.order, one.name))
    every = _overwrites(settings)
    idle = _idle(run)
    at = [step for step in _steps(steps) if step not in idle]
    at = [step for step in at if not every or (step + 1) % every]
    updates: list[Recorded] = []
    for step in at:
        for weight in chosen:
            found = _read(run, weight, slots.get(weight.name, {}), step, settings)
            if found is not None:
                updates.append(found)
    if not updates:
        return None
    weights = dict.fromkeys(one.weight for one in updates)
    return Sample(
        tuple(updates),
        tuple(sorted({one.step for one in updates})),
        tuple(weights),
        len(trained),
        steps,
        names if free else frozenset(),
    )


_PRECISIONS = frozenset({"float32", "float64"})
_ANY = frozenset(
    {"momentum", "rms", "mg", "accumulator", "accum_grad", "accum_var", "linear"}
    | {"m", "v", "vhat", "u"}
)


def _slots(run: Run) -> dict[str, dict[str, Tensor]]:
    """Return the slots by weight and name; such as have another shape hold nothing of it."""
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in run.tensors:
        if tensor.role == "slot":
            weight, slot = split_slot(tensor.name)
            owner = run.find("weight", weight)
            if owner is not None and owner.shape == tensor.shape:
                found.setdefault(weight, {})[slot] = tensor
    return found


def _constrained(run: Run) -> set[str]:
    by_layer: dict[str, list[str]] = {}
    for tensor in run.tensors:
        if tensor.role == "weight" and tensor.layer:
            by_layer.setdefault(tensor.layer, []).append(tensor.name)
    found = set()
    for layer in model_layers(run.about):
        name = str(layer.get("name"))
        for key, value in (layer.get("config") or {}).items():
            which, _, what = key.rpartition("_")
            if what == "constraint" and value is not None:
                weights = by_layer.get(name, [])
                own = [one for one in weights if within_layer(one, name) == which]
                found.update(own or weights)
    return found


def _overwrites(settings: Mapping[str, Any]) -> int:
    """Return after how many steps an average replaces the weights, or 0."""
    every = settings.get("ema_overwrite_frequency")
    return int(every) if settings.get("use_ema") and isinstance(every, int) else 0


def _idle(run: Run) -> set[int]:
    """Return the steps that updated no weight, such as those that loss scaling skips."""
    events = run.about.get("events") or ()
    return {
        int(event["step"])
        for event in events
        if isinstance(event, dict) and event.get("kind") == "no-update" and "step" in event
    }


def _steps(count: int) -> list[int]:
    if count <= MAX_STEPS:
        return list(range(count))
    rest = np.linspace(FIRST_STEPS, count - 1, MAX_STEPS - FIRST_STEPS)
    return [*range(FIRST_STEPS), *(int(step) for step in rest)]


def _spread(weights: list[Tensor], limit: int) -> list[Tensor]:
    """Return at most ``limit`` weights, spread over sizes; sparse ones are not left out."""
    ordered = sorted(weights, key=lambda one: (int(np.prod(one.shape or ())), one.order))
    if len(ordered) <= limit:
        return ordered
    places = np.unique(np.linspace(0, len(ordered) - 1, limit).astype(int))
    return [ordered[place] for place in places]


def _read(
    run: Run, weight: Tensor, slots: Mapping[str, Tensor], step: int, settings: Mapping[str, Any]
) -> Recorded | None:
    gradient = run.find("applied_gradient", weight.name)
    moving = [weight, *slots.values()]
    if gradient is None or not run.kept(gradient)[step]:
        return None
    if not all(run.kept(one)[step] and run.kept(one, "after")[step] for one in moving):
        return None
    rate = _scalar(run, "learning_rate", "optimizer/learning_rate", step)
    if rate is None:
        given = settings.get("learning_rate")
        if not isinstance(given, int | float):
            return None
        rate = float(given)
    counted = _scalar(run, "slot", "optimizer/iteration", step)
    schedule = _scalar(run, "slot", "optimizer/m_schedule", step)
    dense, rows = run.read(gradient, step), None
    if run.tensor("applied_gradient", weight.name).layout == "sparse":
        rows = run.read_sparse(gradient, step)
    touched = squares = magnitudes = None
    places = _places(dense.size)
    if rows is not None:
        mask = np.zeros(dense.shape, np.bool_)
        mask[rows.rows] = True
        total, size = np.zeros_like(dense), np.zeros_like(dense)
        np.add.at(total, rows.rows, rows.values * rows.values)
        np.add.at(size, rows.rows, np.abs(rows.values))
        places = _places_of_rows(mask)
        touched = mask.reshape(-1)[places]
        squares, magnitudes = total.reshape(-1)[places], size.reshape(-1)[places]

    def cut(values: NDArray[Any]) -> Array:
        return values.reshape(-1)[places].astype(weight.dtype, copy=False)

    g = cut(dense)
    with np.errstate(over="ignore"):  # What overflows fits nothing
        square = g * g
    update = Update(
        weight=cut(run.read(weight, step, "before")),
        gradient=g,
        square=square,
        magnitude=np.abs(g),
        slots={name: cut(run.read(one, step, "before")) for name, one in slots.items()},
        shared={} if schedule is None else {"m_schedule": schedule},
        rate=rate,
        count=step + 1.0,
        dtype=weight.dtype,
        sparse=rows is not None,
    )
    after = cut(run.read(weight, step, "after"))
    slots_after = {name: cut(run.read(one, step, "after")) for name, one in slots.items()}
    if not all(np.isfinite(one).all() for one in (g, after, *slots_after.values())):
        return None
    return Recorded(
        weight=weight.name,
        step=step,
        update=update,
        after=after,
        slots_after=slots_after,
        iteration=float(step) if counted is None else counted,
        touched=touched,
        squares=squares,
        magnitudes=magnitudes,
    )


def _places(size: int) -> NDArray[np.intp]:
    if size <= MAX_ELEMENTS:
        return np.arange(size)
    return np.linspace(0, size - 1, MAX_ELEMENTS).astype(np.intp)


def _places_of_rows(touched: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return places of which, in a large table, half belong to rows that the gradient has."""
    flat = touched.reshape(-1)
    if len(flat) <= MAX_ELEMENTS:
        return np.arange(len(flat))
    halves = (np.flatnonzero(flat), np.flatnonzero(~flat))
    return np.sort(np.concatenate([half[: MAX_ELEMENTS // 2] for half in halves]))


def _scalar(run: Run, role: str, name: str, step: int) -> float | None:
    tensor = run.find(role, name)
    if tensor is None or not run.kept(tensor)[step]:
        return None
    return float(run.read(tensor, step).reshape(-1)[0])
