"""What a trace holds, as plain values: the numbers behind `tracediff info`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.trace._run import Run

if TYPE_CHECKING:
    from tracediff.trace._tensor import Tensor
    from tracediff.trace._trace import Trace


@dataclass(frozen=True, slots=True)
class WeightSummary:
    """A weight of a layer; ``framework_name`` is None where it says nothing new."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    trainable: bool | None
    framework_name: str | None


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """A layer; ``framework_name`` is None where it is the canonical name."""

    name: str
    class_name: str
    framework_name: str | None
    trainable: bool | None
    weights: tuple[WeightSummary, ...]


@dataclass(frozen=True, slots=True)
class RoleSummary:
    """The tensors of one role: how many, and the bytes that their values take on disk."""

    role: str
    tensors: int
    bytes_on_disk: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something out of the ordinary that the recorder wrote down."""

    step: int | None
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class ChangedStep:
    """State that something other than the optimizer changed before a step."""

    step: int
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run holds.

    Attributes:
        path: The run as a user would type it.
        status: As recorded; see `Run`.
        complete: Whether the run ended as the script meant it to.
        steps: Complete steps.
        epochs: Epochs begun in these steps, over all fits.
        fits: Calls of ``fit`` that these steps belong to.
        seconds: From the beginning of the run to the end of the last step; None without steps.
        level: How much was kept: ``full`` or ``digest``.
        stack: What it ran on, in words.
        versions: Versions of what took part, by name.
        model_name: The model's own name.
        model_class: Its class.
        layers: Its layers, in execution order.
        optimizer: The optimizer's class.
        hyperparameters: Those in effect.
        first_loss: The loss of the first step; None where it was not recorded.
        last_loss: The loss of the last complete step.
        roles: The tensors, by role.
        events: What the recorder found out of the ordinary.
        external_changes: What changed between steps by something other than the optimizer.
        tensors: All tensors.
    """

    path: str
    status: str
    complete: bool
    steps: int
    epochs: int
    fits: int
    seconds: float | None
    level: str
    stack: str
    versions: Mapping[str, str]
    model_name: str
    model_class: str
    layers: tuple[LayerSummary, ...]
    optimizer: str
    hyperparameters: Mapping[str, Any]
    first_loss: float | None
    last_loss: float | None
    roles: tuple[RoleSummary, ...]
    events: tuple[Event, ...]
    external_changes: tuple[ChangedStep, ...]
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a trace holds."""

    path: str
    format: int
    writer: str
    runs: tuple[RunSummary, ...]


def summarize(trace: Trace) -> TraceSummary:
    """Return what a trace holds; reads no values but the first and the last loss.

    Raises:
        DamagedTrace: What has to be read cannot be.
    """
    return TraceSummary(
        path=trace.path,
        format=trace.format,
        writer=trace.writer,
        runs=tuple(map(_summarize_run, trace.runs)),
    )


def _summarize_run(run: Run) -> RunSummary:
    stack, model, optimizer = (
        _object(run.about.get(key)) for key in ("stack", "model", "optimizer")
    )
    return RunSummary(
        path=run.path,
        status=run.status,
        complete=run.status == "complete",
        steps=run.steps,
        epochs=len(np.unique(np.stack([run.fit, run.epoch]), axis=1).T) if run.steps else 0,
        fits=len(np.unique(run.fit)) if run.steps else 0,
        seconds=float(run.seconds[-1]) if run.steps else None,
        level=str(run.about.get("level", "unknown")),
        stack=str(stack.get("label", "unknown stack")),
        versions=_sorted_texts(stack.get("versions")),
        model_name=str(model.get("name", "")),
        model_class=str(model.get("class", "unknown model")),
        layers=_layers(model.get("layers"), run.tensors),
        optimizer=str(optimizer.get("class", "unknown optimizer")),
        hyperparameters=_object(optimizer.get("config")),
        first_loss=_loss(run, 0),
        last_loss=_loss(run, run.steps - 1),
        roles=tuple(
            RoleSummary(role, len(tensors), sum(map(run.bytes_on_disk, tensors)))
            for role, tensors in _by_role(run.tensors).items()
        ),
        events=_events(run.about.get("events")),
        external_changes=_changes(run),
        tensors=run.tensors,
    )


def _object(found: object) -> Mapping[str, Any]:
    # Attributes say what was run, for people; one that is odd must not hide the others.
    return MappingProxyType(found) if isinstance(found, dict) else MappingProxyType({})


def _objects(found: object) -> list[Mapping[str, Any]]:
    return [_object(item) for item in found] if isinstance(found, list) else []


def _sorted_texts(found: object) -> Mapping[str, str]:
    return {key: str(value) for key, value in sorted(_object(found).items())}


def _layers(found: object, tensors: Iterable[Tensor]) -> tuple[LayerSummary, ...]:
    weights = sorted((t for t in tensors if t.role == "weight"), key=lambda tensor: tensor.order)
    layers = []
    for layer in _objects(found):
        name = str(layer.get("name", ""))
        called = layer.get("framework_name")
        trainable = layer.get("trainable")
        layers.append(
            LayerSummary(
                name=name,
                class_name=str(layer.get("class", "")),
                framework_name=str(called) if called not in {None, name} else None,
                trainable=trainable if isinstance(trainable, bool) else None,
                weights=tuple(_weight(tensor) for tensor in weights if tensor.layer == name),
            )
        )
    return tuple(layers)


def _weight(tensor: Tensor) -> WeightSummary:
    called = tensor.framework_name
    return WeightSummary(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        trainable=tensor.trainable,
        framework_name=None if called == tensor.name else called,
    )


def _loss(run: Run, step: int) -> float | None:
    losses = [tensor for tensor in run.tensors if tensor.role == "loss"]
    if not losses or not 0 <= step < run.steps or not run.kept(losses[0])[step]:
        return None
    value = run.read(losses[0], step)
    return float(value) if value.size == 1 else None


def _by_role(tensors: Iterable[Tensor]) -> Mapping[str, list[Tensor]]:
    roles: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        roles.setdefault(tensor.role, []).append(tensor)
    return roles


def _events(found: object) -> tuple[Event, ...]:
    return tuple(
        Event(
            step=event["step"] if isinstance(event.get("step"), int) else None,
            kind=str(event.get("kind", "")),
            message=str(event.get("message", "")),
        )
        for event in _objects(found)
    )


def _changes(run: Run) -> tuple[ChangedStep, ...]:
    steps: dict[int, list[str]] = {}
    for change in run.external_changes():
        steps.setdefault(change.step, []).append(change.tensor.name)
    return tuple(ChangedStep(step, tuple(names)) for step, names in steps.items())
