"""The update: learning rate, rule, hyperparameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import plain, short, shown
from tracediff.model import Finding
from tracediff.names import same_setting
from tracediff.onset import Place

Array = NDArray[np.float64]
_HANDLED = frozenset({"learning_rate", "clipnorm", "clipvalue", "global_clipnorm"})
_PROCESSING = frozenset({"weight_decay", "loss_scale_factor", "gradient_accumulation_steps"})
"""Settings that change what the update consumes, and not its rule."""
_ONLY_IN_SOME = frozenset(
    {"schedule_decay", "weight_decay", "rho", "epsilon", "beta", "initial_accumulator_value"}
)


def learning_rate(case: Case) -> Iterable[Finding]:
    """Tell a learning rate of another value from one that takes another course."""
    for place in case.firsts("learning_rate"):
        rates = []
        for step in range(case.steps):
            pair = case.read(place.track.pair.key, step)
            if pair is not None and pair[0].size and pair[1].size:
                rates.append((step, float(pair[0].reshape(-1)[0]), float(pair[1].reshape(-1)[0])))
        if not rates:
            continue
        a, b = (np.array([rate[side] for rate in rates]) for side in (1, 2))
        if _only_recorded_to_decay(case, np.array([rate[0] for rate in rates]), a, b):
            continue
        index = next(i for i, rate in enumerate(rates) if rate[0] == place.step)
        ratios = np.divide(b, a, out=np.full_like(b, np.nan), where=a != 0.0)
        constant = bool(np.all(np.abs(ratios / ratios[index] - 1.0) < 1e-5))
        where = case.where(place.step)
        evidence = [
            f"{where}: {short(a[index])} in A, {short(b[index])} in B",
            f"last step: {short(a[-1])} in A, {short(b[-1])} in B",
        ]
        if constant:
            evidence.append(f"B's rate is {short(ratios[index])} times A's at every step")
        else:
            evidence.append(
                f"the ratio B to A runs from {short(np.nanmin(ratios))} to "
                f"{short(np.nanmax(ratios))}"
            )
        evidence.append(_gradients_agree(case, place))
        yield Finding(
            code="optimizer.hyperparameter" if constant else "optimizer.schedule",
            summary=f"The learning rate is {short(a[index])} in A and {short(b[index])} in B"
            + (" at every step." if constant else f" at {where}, and takes another course."),
            confidence=0.97,
            stage="update",
            step=place.step,
            subject="learning_rate",
            a=float(a[index]),
            b=float(b[index]),
            evidence=tuple(evidence),
        )


def _only_recorded_to_decay(case: Case, steps: Array, a: Array, b: Array) -> bool:
    """Say whether rates differ by the `decay` of tf.keras's Nadam only, which is no decay of it.

    That optimizer calls its schedule_decay so and leaves its rate alone (tensorflow/python/keras/
    optimizer_v2/nadam.py 2.3); recorders that ask it for its decayed rate are told a decayed one.
    """
    if case.optimizer_classes() != ("nadam", "nadam"):
        return False
    decays = [float(one.get("decay") or 0.0) for one in case.optimizer_settings()]
    undecayed_a, undecayed_b = a * (1.0 + decays[0] * steps), b * (1.0 + decays[1] * steps)
    return bool(np.allclose(undecayed_a, undecayed_b, rtol=1e-5, atol=0.0))


def _gradients_agree(case: Case, place: Place) -> str:
    differing = [one.track.pair.name for one in case.judged("gradient") if one.after[place.step]]
    if differing:
        return f"at that step {len(differing)} gradients differ already"
    return f"data, weights, loss and gradients agree at step {place.step}"


def rule(case: Case) -> Iterable[Finding]:
    """Name optimizers of different classes."""
    class_a, class_b = case.optimizer_classes()
    if not class_a or not class_b or class_a == class_b:
        return
    place = first_update(case)
    first = case.first
    masked = place is None and first is not None and first.stage == "update"
    names = [str(one.get("class")) for one in case.optimizers()]
    yield Finding(
        code="optimizer.rule",
        summary=f"A trains with {names[0]}, B with {names[1]}.",
        # Another optimizer brings its own default rate, so it is the better name for both.
        confidence=0.98 if place is not None or masked else 0.6,
        stage="update",
        step=first.step if masked and first is not None else None if place is None else place.step,
        subject="optimizer",
        a=names[0],
        b=names[1],
        evidence=_confirmation(case, place),
    )


def hyperparameters(case: Case) -> Iterable[Finding]:
    """Name settings of the optimizer that differ, by the config as each stack resolved it."""
    class_a, class_b = case.optimizer_classes()
    if class_a != class_b:
        return
    place = first_update(case)
    a, b = case.optimizer_settings()
    # With unequal rates all updates differ, and no other setting can be seen to matter.
    masked = place is None and bool(case.firsts("learning_rate"))
    for key in sorted((a.keys() | b.keys()) - _HANDLED):
        one, other = a.get(key), b.get(key)
        if same_setting(one, other) or (key in _ONLY_IN_SOME and (one is None or other is None)):
            continue
        if key == "decay" and class_a == "nadam":
            continue  # What tf.keras calls its schedule_decay, and others lack
        if isinstance(one, dict) or isinstance(other, dict):
            continue
        yield Finding(
            code="gradient.processing" if key in _PROCESSING else "optimizer.hyperparameter",
            summary=f"{key} of {class_a or 'the optimizer'} is {shown(one)} in A and "
            f"{shown(other)} in B.",
            confidence=0.9 if place is not None else 0.6 if masked else 0.4,
            stage="update",
            step=None if place is None else place.step,
            subject=key,
            a=plain(one),
            b=plain(other),
            evidence=_confirmation(case, place),
        )


def unlike_updates(case: Case) -> Iterable[Finding]:
    """Report updates that part from equal gradients, slots and settings, for want of better."""
    place = first_update(case)
    if place is None or case.first is None or place.key != case.first.key:
        return  # What parted before may have come through to here.
    if any(_config_differs(case)) or not place.track.after[place.step]["known"]:
        return
    step, name = place.step, place.track.pair.name
    factor = _factor(case, place)
    yield Finding(
        code="optimizer.rule",
        summary=f"{name} is updated otherwise at {case.where(step)}, from equal gradients, slots "
        "and settings: the versions compute another formula.",
        confidence=0.6,
        stage="update",
        step=step,
        subject=case.optimizer_classes()[0] or "optimizer",
        evidence=(*factor, *_confirmation(case, place)),
    )


def _config_differs(case: Case) -> Iterable[Any]:
    yield from rule(case)
    yield from hyperparameters(case)
    yield from case.firsts("learning_rate")


def first_update(case: Case) -> Place | None:
    """Return the first weight or slot whose divergence begins in an update."""
    for place in case.firsts("weight", "slot"):
        if place.stage != "update" or not case.is_origin(place):
            continue
        tensor = case.a.find("weight", place.track.pair.a or "")
        if tensor is None or tensor.trainable is not False:
            return place
    return None


def _confirmation(case: Case, place: Place | None) -> tuple[str, ...]:
    if place is None and case.first is not None and case.first.stage == "update":
        return (
            "the recorded configurations differ",
            f"data, state and gradients agree at {case.where(case.first.step)}",
        )
    if place is None:
        first = case.first
        begin = "" if first is None else f"; the first divergence is in the {first.stage} stage"
        return (f"the recorded configurations differ{begin}",)
    what = "the update of " if place.quantity == "update" else ""
    return (
        f"{what}{place.track.pair.name} differs at {case.where(place.step)}",
        "what went into it (weight, gradient, slots, learning rate) agrees at that step",
    )


def _factor(case: Case, place: Place) -> list[str]:
    key, step = place.track.pair.key, place.step
    before, after = case.read(key, step, "before"), case.read(key, step, "after")
    if before is None or after is None:
        return []
    moved_a, moved_b = (
        (new.astype(np.float64) - old.astype(np.float64)).reshape(-1)
        for new, old in zip(after, before, strict=True)
    )
    power = float(moved_a @ moved_a)
    if power == 0.0:
        return ["A does not move it at all"]
    factor = float(moved_a @ moved_b) / power
    left = float(np.linalg.norm(moved_b - factor * moved_a)) / float(np.sqrt(power))
    return [f"B's update is {short(factor)} times A's, up to {short(left)} of its norm"]
