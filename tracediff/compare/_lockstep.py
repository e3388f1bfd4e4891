"""What one step of B makes other than one step of A, where B began every step with A's state.

A replay in lockstep (docs/replay.md) leaves nothing to inherit from earlier steps: rounding does
not add up, and every difference belongs to the step, and to the stage, in which it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.drift import Track
from tracediff.forensics import reproduce
from tracediff.model import STAGES, LocalError, Lockstep, Stage, StageErrors
from tracediff.names import same_setting
from tracediff.onset import Judged, stage_of
from tracediff.tolerance import (
    EPS32,
    GRADIENT_FLOOR,
    NOISE_GRADIENT,
    STATISTIC_UPDATE,
    UPDATE_ROUNDING,
    UPDATE_TOLERANCE,
    kind_of,
    tolerance,
)
from tracediff.trace import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Numbers = NDArray[np.float64]

_GRADIENTS = ("gradient", "applied_gradient")
_RUNNING = ("metric",)
"""What frameworks report as means over the epoch so far is no matter of one step."""


def replay_of(run: Run) -> Mapping[str, Any] | None:
    """Return what a run says about the run that it replays, or None."""
    capture = run.about.get("capture")
    found = capture.get("replay") if isinstance(capture, Mapping) else None
    return found if isinstance(found, Mapping) else None


def local_errors(a: Run, b: Run, judged: Mapping[tuple[str, str], Judged]) -> Lockstep | None:
    """Return B's local errors by stage and by tensor; None unless B was kept in lockstep with A.

    Args:
        a: The run that may have been replayed.
        b: The run that may have been kept in lockstep with it.
        judged: Every pair's track, judged.
    """
    about = replay_of(b)
    if about is None or about.get("state") != "every-step":
        return None
    if about.get("fingerprint") != a.fingerprint:
        return None
    trainable = {tensor.name: tensor.trainable for tensor in b.tensors if tensor.role == "weight"}
    count = len(next(iter(judged.values())).after) if judged else 0
    totals = _gradient_norms(judged, count)
    local = [
        _local(one, trainable.get(one.track.pair.name), totals)
        for one in judged.values()
        if one.track.pair.role not in _RUNNING
    ]
    origins = _origins(local, count)
    if any((origin & one.unexplained).any() for one, origin in zip(local, origins, strict=True)):
        first = [replace(one, unexplained=np.zeros(count, bool)) for one in local]
        inherited = _origins(first, count)
        # Where gradients differ, an update is held to follow from them by the size of its elements,
        # which terms that cancel (momentum) deceive. That both runs use one rule settles it.
        if any((one ^ other).any() for one, other in zip(origins, inherited, strict=True)) and (
            _one_rule(a, b)
        ):
            origins = inherited
    errors = tuple(
        _error(one, origin) for one, origin in zip(local, origins, strict=True) if one.beyond.any()
    )
    return Lockstep(
        source=str(about.get("run")),
        steps=count,
        batches=bool(about.get("batches")),
        stages=tuple(_stage(stage, local, origins, count) for stage in STAGES[:-1]),
        errors=tuple(sorted(errors, key=_rank)),
        uncontrolled=tuple(str(name) for name in about.get("uncontrolled") or ()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Local:
    """One tensor's local error: where it is beyond rounding, and where inputs do not explain it."""

    track: Track
    stage: Stage
    beyond: Flags
    unexplained: Flags
    size: Numbers
    allowed: Numbers


def _one_rule(a: Run, b: Run) -> bool:
    """Say whether one rule, with one value of each setting, reproduces the updates of both runs."""
    steps = min(a.steps, b.steps)
    one, other = reproduce(a, steps=steps), reproduce(b, steps=steps)
    if one is None or other is None:
        return False
    for fit in one.fits:
        found = other.fit_of(fit.rule.key)
        if found is not None and _same_settings(fit.settings, found.settings):
            return True
    return False


def _same_settings(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    values = ((name, _NEUTRAL.get(name, 0.0)) for name in a.keys() | b.keys())
    return all(same_setting(a.get(name, idle), b.get(name, idle)) for name, idle in values)


_NEUTRAL = {"rate_factor": 1.0}
"""Settings that do nothing at another value than 0."""


def _local(one: Judged, trainable: bool | None, totals: Mapping[str, Numbers]) -> _Local:  # noqa: FBT001
    track, role = one.track, one.track.pair.role
    cells, count = track.after, len(one.after)
    if role == "weight" and track.update is not None:
        return _weight(one, trainable is False)
    kind = kind_of(role, trainable=trainable)
    allowed = tolerance(kind, np.zeros(count, np.int64), eps=track.eps)
    size = np.where(cells["differs"], cells["relative_l2"], 0.0)
    beyond = cells["present"] & cells["differs"] & ~(size <= allowed) & ~one.noise
    if role in _GRADIENTS:
        norms = np.maximum(cells["norm_a"], cells["norm_b"])
        room = allowed * norms + GRADIENT_FLOOR * totals[role]
        beyond &= ~(cells["norm_difference"] <= room) & ~(norms <= NOISE_GRADIENT * totals[role])
    stage = stage_of(role, "after")
    return _Local(track, stage, beyond, np.zeros(count, bool), size, allowed)


def _weight(one: Judged, statistic: bool) -> _Local:  # noqa: FBT001
    update, cells = one.track.update, one.track.after
    assert update is not None
    share = STATISTIC_UPDATE if statistic else UPDATE_TOLERANCE
    coarse = max(1.0, one.track.eps / EPS32)
    room = share * coarse * update["norm"] + UPDATE_ROUNDING * one.track.eps * update["weight_norm"]
    present = update["present"] & ~one.noise
    unknown = cells["present"] & cells["differs"] & ~cells["known"]
    # Of what is only known to be so large at least, what the step left says whether it was more.
    unknown |= cells["at_least"] & one.after
    beyond = np.asarray((present & (update["norm_difference"] > room)) | unknown)
    norm = np.where(update["norm"] > 0.0, update["norm"], 1.0)
    size = np.where(update["present"], update["norm_difference"] / norm, 0.0)
    unexplained = np.asarray(present & (update["unexplained"] > room) & (not statistic))
    return _Local(one.track, "update", beyond, unexplained, size, room / norm)


def _gradient_norms(
    judged: Mapping[tuple[str, str], Judged], count: int
) -> dict[str, NDArray[np.float64]]:
    """Return the norm of all gradients that differ together, by role and step."""
    squares = {role: np.zeros(count) for role in _GRADIENTS}
    for (role, _), one in judged.items():
        if role in squares:
            squares[role] += np.nan_to_num(one.track.after["norm_a"]) ** 2
    return {role: np.sqrt(found) for role, found in squares.items()}


def _origins(local: list[_Local], count: int) -> list[Flags]:
    """Return at which steps each tensor is where the difference of its step begins.

    That is in the step's first stage with a difference, and in any update that its gradient and
    slots do not explain.
    """
    earlier = {stage: np.zeros(count, bool) for stage in STAGES}
    for place, stage in enumerate(STAGES):
        for one in local:
            if one.stage == stage:
                for later in STAGES[place + 1 :]:
                    earlier[later] |= one.beyond
    return [np.asarray(one.beyond & (~earlier[one.stage] | one.unexplained)) for one in local]


def _error(one: _Local, origin: Flags) -> LocalError:
    pair = one.track.pair
    worst = int(np.nanargmax(np.where(one.beyond, np.nan_to_num(one.size, nan=np.inf), -1.0)))
    return LocalError(
        stage=one.stage,
        tensor=pair.name,
        role=pair.role,
        layer=pair.layer,
        steps=int(one.beyond.sum()),
        first_step=int(np.argmax(one.beyond)),
        origin_steps=int(origin.sum()),
        worst_step=worst,
        relative=float(one.size[worst]),
        tolerance=float(one.allowed[worst]),
    )


def _stage(stage: Stage, local: list[_Local], origins: list[Flags], count: int) -> StageErrors:
    beyond, begins = np.zeros(count, bool), np.zeros(count, bool)
    tensors = 0
    for one, origin in zip(local, origins, strict=True):
        if one.stage == stage:
            tensors += 1
            beyond |= one.beyond
            begins |= origin
    return StageErrors(
        stage=stage,
        tensors=tensors,
        steps=int(beyond.sum()),
        origin_steps=int(begins.sum()),
    )


def _rank(error: LocalError) -> tuple[bool, int, int, float]:
    return (
        not error.origin_steps,
        STAGES.index(error.stage),
        -error.steps,
        -error.relative / error.tolerance if error.tolerance > 0.0 else 0.0,
    )
