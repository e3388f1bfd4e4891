"""Repeats of a run: which of both they repeat, whether they can, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from tracediff.align import Pairing, StepMap, alongside
from tracediff.compare._follow import Key, Progress, follow
from tracediff.drift import Track
from tracediff.errors import NothingComparable, UsageError
from tracediff.model import Repeat, Side
from tracediff.names import class_name, model_layers, optimizer_settings, same_setting
from tracediff.onset import Spread, safety_factor, spread_of, widest
from tracediff.trace import Run

_HINT = (
    "a repeat is the same script run again: same configuration, initial weights and batches; "
    "--repeat-a and --repeat-b say of which run"
)
_SIDES: tuple[Side, Side] = ("a", "b")


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """The repeats of both runs.

    Attributes:
        a: Those of A.
        b: Those of B.
    """

    a: tuple[Run, ...] = ()
    b: tuple[Run, ...] = ()

    def of(self, side: Side) -> tuple[Run, ...]:
        """Return the repeats of one run."""
        return self.a if side == "a" else self.b

    def __bool__(self) -> bool:
        return bool(self.a or self.b)


def sorted_out(
    a: Run, b: Run, *, either: Sequence[Run], of_a: Sequence[Run] = (), of_b: Sequence[Run] = ()
) -> Repeated:
    """Return which run each repeat repeats.

    Args:
        a: The first run.
        b: The second run.
        either: Repeats of one of both: of that whose configuration, initial weights and batches
            they have; where both have, of that with which more weights agree to the bit.
        of_a: Repeats that are said to be A's.
        of_b: Those that are said to be B's.

    Raises:
        UsageError: A repeat cannot be one.
        NothingComparable: A repeat holds no complete step.
    """
    found: dict[Side, list[Run]] = {"a": [], "b": []}
    runs: dict[Side, Run] = {"a": a, "b": b}
    given: tuple[tuple[Side, Sequence[Run]], ...] = (("a", of_a), ("b", of_b))
    for side, repeats in given:
        for one in repeats:
            reason = _objection(one, runs[side])
            if reason is not None:
                raise UsageError(f"{one.path} is no repeat of {side.upper()}: {reason}", hint=_HINT)
            found[side].append(one)
    for one in either:
        reasons = {side: _objection(one, runs[side]) for side in _SIDES}
        fitting = [side for side in _SIDES if reasons[side] is None]
        if not fitting:
            raise UsageError(
                f"{one.path} is no repeat of A: {reasons['a']}; nor of B: {reasons['b']}",
                hint=_HINT,
            )
        found[max(fitting, key=lambda side: _agreement(one, runs[side]))].append(one)
    return Repeated(tuple(found["a"]), tuple(found["b"]))


def measured(
    runs: Mapping[Side, Run],
    repeated: Repeated,
    pairing: Pairing,
    steps: StepMap,
    progress: Progress | None,
) -> dict[Key, Spread]:
    """Return the noise floor that the repeats measure, by A's names and at A's steps.

    Args:
        runs: Both runs, aligned.
        repeated: Their repeats.
        pairing: Which tensors of both belong together.
        steps: Which steps do.
        progress: Called with the bytes done and their total.
    """
    count = len(steps.b)
    result: dict[Key, Spread] = {}
    for side in _SIDES:
        repeats = repeated.of(side)
        if repeats:
            views = [alongside(one, pairing, steps, side) for one in repeats]
            among = _tracks([runs[side], *views], pairing, side, count, progress)
            factor = safety_factor(len(repeats))
            result = widest(result, spread_of(among, factor=factor, steps=count))
    return result


def described(repeated: Repeated) -> tuple[Repeat, ...]:
    """Return what a report says about the repeats."""
    return tuple(
        Repeat(
            path=one.path,
            side=side,
            steps=one.steps,
            factor=safety_factor(len(repeated.of(side))),
        )
        for side in _SIDES
        for one in repeated.of(side)
    )


def shorter(repeated: Repeated, steps: int) -> tuple[str, ...]:
    """Return what a reader should know of repeats that end before what is compared."""
    return tuple(
        f"repeat {one.path} has {one.steps} of {steps} steps: later ones are held against what it "
        "had shown by then"
        for side in _SIDES
        for one in repeated.of(side)
        if one.steps < steps
    )


def _tracks(
    members: Sequence[Run], pairing: Pairing, side: Side, count: int, progress: Progress | None
) -> Iterator[dict[Key, Track]]:
    """Yield the tracks of every two of a run and its repeats."""
    couples = list(combinations(members, 2))
    for number, (one, other) in enumerate(couples):
        pairs = []
        for pair in pairing.pairs:
            name = pair.a if side == "a" else pair.b
            known = name is not None and all(run.find(pair.role, name) for run in (one, other))
            if known:
                pairs.append(replace(pair, a=name, b=name, layout=(), layout_a=()))
        alike = replace(pairing, pairs=tuple(pairs))
        yield follow(one, other, alike, steps=count, progress=_part(progress, number, len(couples)))


def _part(progress: Progress | None, number: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, count * total)


def _objection(one: Run, run: Run) -> str | None:
    """Return why a run cannot be a repeat of another, or None where it can."""
    if not one.steps:
        raise NothingComparable(
            f"{one.path} holds no complete step, so it shows no noise", hint=_HINT
        )
    if one is run or (one.identity() is not None and one.identity() == run.identity()):
        return "it is that run itself"
    checks: tuple[Callable[[Run, Run], str | None], ...] = (
        _other_stack,
        _other_optimizer,
        _other_model,
        _other_loss,
        _other_weights,
        _other_data,
    )
    return next((reason for check in checks if (reason := check(one, run)) is not None), None)


def _other_stack(one: Run, run: Run) -> str | None:
    labels = [(each.about.get("stack") or {}) for each in (one, run)]
    for key in ("generation", "keras", "backend"):
        if labels[0].get(key) != labels[1].get(key):
            return f"recorded on {labels[0].get('label')}, not on {labels[1].get('label')}"
    return None


def _other_optimizer(one: Run, run: Run) -> str | None:
    about = [(each.about.get("optimizer") or {}) for each in (one, run)]
    classes = [class_name(each.get("class")) for each in about]
    if classes[0] != classes[1]:
        return f"its optimizer is {classes[0]}, not {classes[1]}"
    return _other_setting(*(optimizer_settings(each.get("config")) for each in about))


def _other_setting(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    for key in sorted({*one, *other} - _NAMES):
        if one.get(key) != other.get(key) and not same_setting(one.get(key), other.get(key)):
            return f"its {key} is {one.get(key)}, not {other.get(key)}"
    return None


_NAMES = {"name", "seed", "batch_shape", "batch_input_shape", "seed_generator"}


def _other_model(one: Run, run: Run) -> str | None:
    layers, others = model_layers(one.about), model_layers(run.about)
    if len(layers) != len(others):
        return f"its model has {len(layers)} layers, not {len(others)}"
    for layer, other in zip(layers, others, strict=True):
        classes = class_name(layer.get("class")), class_name(other.get("class"))
        name = other.get("name")
        if classes[0] != classes[1]:
            return f"its layer {name} is of class {classes[0]}, not {classes[1]}"
        configs = (layer.get("config") or {}, other.get("config") or {})
        # A model within the model is described by its layers, which are in the list themselves.
        plain = [
            {key: value for key, value in config.items() if key != "layers"} for config in configs
        ]
        reason = _other_setting(*plain)
        if reason is not None:
            return f"in layer {name}, {reason}"
    return None


def _other_loss(one: Run, run: Run) -> str | None:
    losses = [(each.about.get("compile") or {}).get("loss") for each in (one, run)]
    if same_setting(*losses):
        return None
    return f"its loss is {losses[0]}, not {losses[1]}"


def _other_weights(one: Run, run: Run) -> str | None:
    for tensor in run.tensors:
        if tensor.role != "weight":
            continue
        other = one.find("weight", tensor.name)
        if other is None or other.shape != tensor.shape:
            return f"it has no weight {tensor.name} of shape {tensor.shape}"
        first, own = run.digests(tensor)[0], one.digests(other)[0]
        if first.any() and own.any() and (first != own).any():
            return f"it began with another {tensor.name}"
    return None


def _other_data(one: Run, run: Run) -> str | None:
    steps = min(one.steps, run.steps)
    for tensor in run.tensors:
        if tensor.role not in ("input", "label", "sample_weight"):
            continue
        other = one.find(tensor.role, tensor.name)
        if other is None:
            return f"it has no {tensor.role} {tensor.name}"
        first, own = run.digests(tensor)[:steps], one.digests(other)[:steps]
        apart = (first != own).any(axis=1) & first.any(axis=1) & own.any(axis=1)
        if apart.any():
            return f"its {tensor.name} is another at step {int(np.argmax(apart))}"
    return None


def _agreement(one: Run, run: Run) -> int:
    """Return how often weights of two runs agree to the bit."""
    steps, count = min(one.steps, run.steps), 0
    for tensor in run.tensors:
        other = one.find("weight", tensor.name) if tensor.role == "weight" else None
        if other is not None:
            pair = (
                each.digests(which, "after")[:steps]
                for each, which in ((run, tensor), (one, other))
            )
            count += int((next(pair) == next(pair)).all(axis=1).sum())
    return count
