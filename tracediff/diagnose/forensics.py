"""Which update rule each run really used: told from its own record, whatever else differs.

Both runs are reproduced apart, so that no difference upstream can hide one of the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracediff.diagnose import remedies
from tracediff.diagnose.case import Case
from tracediff.diagnose.clipping import clipped
from tracediff.diagnose.numbers import plain, short, shown
from tracediff.diagnose.optimizer import first_update
from tracediff.diagnose.step_counter import step_counter
from tracediff.forensics import (
    Fit,
    Reproduction,
    Rule,
    compute,
    fit,
    reproduce,
)
from tracediff.model import Finding
from tracediff.names import same_setting
from tracediff.tolerance import UPDATE_TOLERANCE

_UNLIKE_ANY = 0.5
"""Of a run that no rule explains, at least this share of updates must be unlike the nearest."""
_TELLING = 8
_OPTIONS = ("nesterov", "amsgrad", "centered", "momentum")
"""Settings that choose another rule of the same class."""


def forensics(case: Case) -> Iterable[Finding]:
    """Name rules, settings, treatment of sparse gradients, and clipping that differ."""
    yield from clipped(case)
    family = case.optimizer_classes()[0]
    if not family or family != case.optimizer_classes()[1]:
        return
    a, b = (reproduce(run, steps=min(run.steps, case.steps)) for run in case.recorded)
    yield from step_counter(case, a, b)
    if a is None or b is None:
        return
    both = [(one, b.fit_of(one.rule.key)) for one in a.fits]
    common = [(one, other) for one, other in both if other is not None]
    if common:
        fit_a, fit_b = common[0]
        yield from _settings(case, a, b, fit_a, fit_b)
        yield from _sparse(case, a, b, fit_a, fit_b)
    elif a.best is not None and b.best is not None:
        yield from _rules(case, a, b, a.best, b.best)
    else:
        yield from _unknown(case, a, b)


def _rules(
    case: Case, a: Reproduction, b: Reproduction, fit_a: Fit, fit_b: Fit
) -> Iterable[Finding]:
    effect = _effect(a, fit_a.rule, fit_b.rule, fit_a.settings, fit_b.settings)
    if effect is None:
        effect = _effect(b, fit_a.rule, fit_b.rule, fit_a.settings, fit_b.settings)
        shows = None if effect is None else case.in_a(effect.step)
    else:
        shows = effect.step
    if effect is not None and effect.largest < UPDATE_TOLERANCE:
        return
    name = _class_of(case)
    option = next(
        (one for one in _OPTIONS if bool(a.config.get(one)) != bool(b.config.get(one))), None
    )
    said = ""
    if option is not None:
        values = [shown(one.config.get(option)) for one in (a, b)]
        said = f" ({option} is {values[0]} in A and {values[1]} in B)"
    yield Finding(
        code="optimizer.rule" if option is None else "optimizer.hyperparameter",
        summary=f"{name} computes another formula{said}: {fit_a.rule.words} in A, "
        f"{fit_b.rule.words} in B.",
        confidence=0.97,
        stage="update",
        step=_step(case, 0 if shows is None else shows),
        subject=option or a.family,
        a=fit_a.rule.key if option is None else plain(a.config.get(option)),
        b=fit_b.rule.key if option is None else plain(b.config.get(option)),
        evidence=(
            _reproduced("A", a, fit_a, fit_b.rule),
            _reproduced("B", b, fit_b, fit_a.rule),
            *([] if effect is None else [effect.words]),
            *_used_by(fit_a, fit_b),
            _looked_at(a, b),
        ),
        remedy=remedies.for_rules(fit_a.rule.key, fit_b.rule.key),
    )


def _settings(
    case: Case, a: Reproduction, b: Reproduction, fit_a: Fit, fit_b: Fit
) -> Iterable[Finding]:
    rule = fit_a.rule
    for name in sorted(fit_a.settings.keys() | fit_b.settings.keys()):
        one, other = (
            each.settings.get(name, 1.0 if name == "rate_factor" else 0.0)
            for each in (fit_a, fit_b)
        )
        if same_setting(one, other):
            continue
        with_a, with_b = {**fit_a.settings, name: one}, {**fit_a.settings, name: other}
        effect = _effect(a, rule, rule, with_a, with_b)
        if effect is None or effect.largest < UPDATE_TOLERANCE:
            continue
        decay = name == "weight_decay"
        swapped = (
            fit(a.sample.updates, rule, {**fit_a.settings, name: other}, exclusions=not decay),
            fit(b.sample.updates, rule, {**fit_b.settings, name: one}, exclusions=not decay),
        )
        if all(each.fits for each in swapped):
            continue
        found = [
            f"{side}'s updates are those of {name} = {short(each.fitted[name])}, although its "
            f"configuration says {shown(of.config.get(name))}"
            for side, of, each in (("A", a, fit_a), ("B", b, fit_b))
            if name in each.fitted and name != "rate_factor"
        ]
        values = (
            plain(each.fitted.get(name, of.config.get(name, each.settings.get(name))))
            for of, each in ((a, fit_a), (b, fit_b))
        )
        value_a, value_b = values
        words = "what the learning rate is multiplied by" if name == "rate_factor" else name
        yield Finding(
            code="gradient.processing" if decay else "optimizer.hyperparameter",
            summary=f"{words} of {_class_of(case)} is {shown(one)} in A and {shown(other)} in B, "
            "by the updates themselves.",
            confidence=0.95,
            stage="update",
            step=_step(case, effect.step),
            subject=name,
            a=value_a,
            b=value_b,
            evidence=(
                _swapped("A", fit_a, swapped[0], f"B's {name}"),
                _swapped("B", fit_b, swapped[1], f"A's {name}"),
                *found,
                effect.words,
                _looked_at(a, b),
            ),
        )


def _sparse(
    case: Case, a: Reproduction, b: Reproduction, fit_a: Fit, fit_b: Fit
) -> Iterable[Finding]:
    forms_a, forms_b = fit_a.sparse_forms, fit_b.sparse_forms
    if not (fit_a.sparse and fit_b.sparse and forms_a and forms_b) or forms_a & forms_b:
        return
    words = [
        _SPARSE_WORDS[min(forms, key=list(_SPARSE_WORDS).index)] for forms in (forms_a, forms_b)
    ]
    step = min(one.step for one in a.sample.updates if one.touched is not None)
    yield Finding(
        code="optimizer.rule",
        summary=f"{_class_of(case)} treats sparse gradients in another way: {words[0]} in A, "
        f"{words[1]} in B.",
        confidence=0.95,
        stage="update",
        step=_step(case, step),
        subject="sparse gradients",
        a=sorted(forms_a),
        b=sorted(forms_b),
        evidence=(
            (
                f"A: so in {max(fit_a.forms.values())} of {fit_a.sparse} updates with sparse "
                f"gradients, B in {max(fit_b.forms.values())} of {fit_b.sparse}; not the other way"
            ),
            f"both compute {fit_a.rule.words}",
            _looked_at(a, b),
        ),
        remedy=remedies.SPARSE,
    )


_SPARSE_WORDS: Mapping[str, str] = {
    "summed": "repeated rows are added up and all rows move",
    "touched": "only the rows of the batch move, slots included",
    "weight touched": "only the rows of the batch move, but all rows of the slots",
    "one by one": "repeated rows are squared one by one and all rows move",
}


def _unknown(case: Case, a: Reproduction, b: Reproduction) -> Iterable[Finding]:
    """Report that one run follows its class's rule and the other follows none."""
    for side, other, known, strange in (("A", "B", a, b), ("B", "A", b, a)):
        best, nearest = known.best, strange.nearest
        if best is None or strange.fits or nearest is None or nearest.telling < _TELLING:
            continue
        if nearest.share > 1.0 - _UNLIKE_ANY:
            continue
        yield Finding(
            code="optimizer.rule",
            summary=f"{other}'s updates follow no known rule of {_class_of(case)}; {side}'s do.",
            confidence=0.5,
            stage="update",
            step=_step(case, None),
            subject=known.family,
            a=best.rule.key if side == "A" else None,
            b=best.rule.key if side == "B" else None,
            evidence=(
                _share(side, best),
                f"{other}: nearest is {_share(other, nearest)}",
                "no single setting of the rule, nor a factor on the learning rate, does it either",
                _looked_at(a, b),
            ),
        )


@dataclass(frozen=True, slots=True)
class _Effect:
    """What another rule or setting does to the updates of a run.

    Attributes:
        step: The first step at which it shows.
        largest: The largest relative difference that it makes to an update.
        factor: B's first update as a multiple of A's.
        left: What is left of it then, over the norm of A's.
    """

    step: int
    largest: float
    factor: float
    left: float

    @property
    def words(self) -> str:
        """The effect in a sentence."""
        return (
            f"from the same state and gradients, B's first update is {short(self.factor)} times "
            f"A's, up to {short(self.left)} of its norm; the largest difference of any update is "
            f"{short(self.largest)} of it"
        )


def _effect(
    of: Reproduction,
    rule_a: Rule,
    rule_b: Rule,
    with_a: Mapping[str, float],
    with_b: Mapping[str, float],
) -> _Effect | None:
    """Apply both rules to one run's updates; None where it lacks slots that one of them needs."""
    updates = of.sample.updates
    if not of.sample.slots.issuperset({*rule_a.slots, *rule_b.slots}):
        return None
    shared = with_a if rule_a is not rule_b else {}
    largest, step = 0.0, updates[0].step
    first: list[tuple[Any, Any]] = []
    for one in updates:
        ours = compute(one, rule_a, with_a).change
        theirs = compute(one, rule_b, {**with_b, **shared}).change
        if one.step == updates[0].step:
            first.append((ours, theirs))
        size = float(np.linalg.norm(ours))
        apart = float(np.linalg.norm(ours - theirs)) / size if size else 0.0
        if apart >= UPDATE_TOLERANCE and largest < UPDATE_TOLERANCE:
            step = one.step
        largest = max(largest, apart) if np.isfinite(apart) else largest
    ours, theirs = (np.concatenate([pair[side] for pair in first]) for side in (0, 1))
    power = float(ours @ ours) or 1.0
    factor = float(ours @ theirs) / power
    left = float(np.linalg.norm(theirs - factor * ours)) / power**0.5
    return _Effect(step, largest, factor, left)


def _class_of(case: Case) -> str:
    return str(case.optimizers()[0].get("class") or "The optimizer").rpartition(".")[2]


def _step(case: Case, shows: int | None) -> int | None:
    """Return the first update that parts, if updates part first; else where it shows first."""
    place = first_update(case)
    first = case.first
    if place is not None and first is not None and place.key == first.key:
        return place.step
    return shows


def _share(side: str, one: Fit) -> str:
    return (
        f"{side}: {one.rule.key} reproduces {one.reproduced} of {one.telling} updates that tell "
        f"(largest residual {short(one.residual)})"
    )


def _reproduced(side: str, of: Reproduction, one: Fit, other: Rule) -> str:
    if not of.sample.slots.issuperset(other.slots):
        return f"{_share(side, one)}; it lacks the slots of {other.key}"
    wrong = fit(of.sample.updates, other, {**other.defaults, **_known(of, other)})
    return f"{_share(side, one)}, {other.key} {wrong.reproduced} ({short(wrong.residual)})"


def _known(of: Reproduction, rule: Rule) -> dict[str, float]:
    return {
        name: float(of.config[name])
        for name in (*rule.defaults, "weight_decay")
        if isinstance(of.config.get(name), int | float)
    }


def _swapped(side: str, right: Fit, wrong: Fit, what: str) -> str:
    return f"{_share(side, right)}; with {what} {wrong.reproduced} ({short(wrong.residual)})"


def _used_by(a: Fit, b: Fit) -> list[str]:
    return [f"{one.rule.key}: {', '.join(one.rule.stacks)}" for one in (a, b) if one.rule.stacks]


def _looked_at(a: Reproduction, b: Reproduction) -> str:
    return f"looked at, in A {a.sample.words}; in B {b.sample.words}"
