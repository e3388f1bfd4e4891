"""Measure how well a rule reproduces recorded updates, to rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracediff.forensics.rule import Array, Outcome, Rule, Settings, SparseForm
from tracediff.forensics.sample import Recorded

SHARE = 4e-6
"""Relative residual that is forgiven: constants that stacks round to float32, short sums."""
ROUNDINGS = 4.0
"""How many times the rounding of the formula itself, float32 against float64, is forgiven."""
TELLING = 0.02
"""Where rounding alone could be this share of an update, the update tells nothing."""
ENOUGH = 0.95
"""The share of the telling updates that *the* rule reproduces."""


@dataclass(frozen=True, slots=True)
class Residual:
    """How far one rule is from one recorded update.

    Attributes:
        size: Norm of the difference over the norm of the update; of a slot that is further from
            what it should be, over the norm of the slot.
        excess: The same over what rounding explains; up to 1 the update is reproduced.
        tells: Whether rounding is small beside the update.
    """

    size: float
    excess: float
    tells: bool

    @property
    def reproduced(self) -> bool:
        """Whether rounding explains what is left."""
        return self.excess <= 1.0


@dataclass(frozen=True, slots=True)
class Fit:
    """How a rule fares with the updates of a run.

    Attributes:
        rule: The rule.
        settings: With these settings.
        fitted: Those of them that were found by fitting, not in the configuration;
            ``rate_factor`` is what the recorded learning rate was multiplied by.
        telling: How many updates could tell.
        reproduced: How many of them the rule reproduces.
        residual: The largest residual of the reproduced ones; of the best half where most are not.
        choices: By weight and step, which counter alone reproduces the update, by what it adds to
            the iteration; where several do, nothing.
        forms: How many updates with sparse gradients each form reproduces.
        sparse: How many of the telling updates have sparse gradients.
        bare: Weights that are reproduced without weight decay only.
    """

    rule: Rule
    settings: Settings
    fitted: Mapping[str, float]
    telling: int
    reproduced: int
    residual: float
    choices: Mapping[tuple[str, int], int]
    forms: Mapping[SparseForm, int]
    sparse: int
    bare: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of the telling updates that the rule reproduces."""
        return self.reproduced / self.telling if self.telling else 0.0

    @property
    def fits(self) -> bool:
        """Whether the rule is one that the run can have used."""
        return self.telling > 0 and self.share >= ENOUGH

    @property
    def counters(self) -> dict[int, int]:
        """How many updates only this counter reproduces."""
        chosen = list(self.choices.values())
        return {counter: chosen.count(counter) for counter in self.rule.counters}

    @property
    def sparse_forms(self) -> frozenset[SparseForm]:
        """The forms that reproduce nearly all updates with sparse gradients."""
        return frozenset(f for f, n in self.forms.items() if n >= ENOUGH * self.sparse)


def settings_of(rule: Rule, config: Mapping[str, Any]) -> dict[str, float]:
    """Return the settings that a rule computes with, from a run's configuration.

    Args:
        rule: The rule.
        config: The optimizer's settings, in one spelling (`tracediff.names.optimizer_settings`).
    """
    found = dict(rule.defaults)
    for name in rule.defaults:
        value = config.get(name)
        if name == "schedule_decay" and value is None:
            value = config.get("decay")  # The name that OptimizerV2 has for it
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    decay = config.get("weight_decay")
    if isinstance(decay, int | float) and decay:
        found["weight_decay"] = float(decay)
    return found


def compute(
    recorded: Recorded,
    rule: Rule,
    settings: Settings,
    *,
    counter: int = 1,
    form: SparseForm = "summed",
    precision: str = "float64",
) -> Outcome:
    """Return what a rule makes of a recorded update, weight decay included.

    Source of the decay: keras/src/optimizers/base_optimizer.py 3.15, _apply_weight_decay: before
    the update, the weight loses lr * weight_decay of itself.
    """
    given = recorded.update

    def cast(values: Array) -> Array:
        return values.astype(precision, copy=False)

    square, magnitude = given.square, given.magnitude
    if form == "one by one" and recorded.squares is not None and recorded.magnitudes is not None:
        square, magnitude = recorded.squares, recorded.magnitudes
    weight, gradient = cast(given.weight), cast(given.gradient)
    rate = given.rate * settings.get("rate_factor", 1.0)
    decayed = settings.get("weight_decay", 0.0) * rate * weight
    with np.errstate(over="ignore"):  # As below
        square = cast(square) if form == "one by one" else gradient * gradient
    update = dataclasses.replace(
        given,
        weight=weight - decayed,
        gradient=gradient,
        square=square,
        magnitude=cast(magnitude),
        rate=rate,
        slots={name: cast(values) for name, values in given.slots.items()},
        count=recorded.iteration + counter,
    )
    with np.errstate(all="ignore"):  # What overflows fits nothing, which is all that is asked
        found = rule.formula(update, settings)
    change, slots, touched = found.change, found.slots, recorded.touched
    if touched is not None and form in ("touched", "weight touched"):
        change = np.where(touched, change, 0.0)
        if form == "touched":
            slots = {n: np.where(touched, new, update.slots[n]) for n, new in slots.items()}
    return Outcome(change - decayed, slots, found.slack)


def measure(
    recorded: Recorded,
    rule: Rule,
    settings: Settings,
    *,
    counter: int = 1,
    form: SparseForm = "summed",
) -> Residual:
    """Compare a recorded update with what a rule makes of what went into it."""
    options: dict[str, Any] = {"counter": counter, "form": form}
    exact = compute(recorded, rule, settings, **options)
    rough = exact
    if recorded.update.dtype != "float64":
        rough = compute(recorded, rule, settings, precision=recorded.update.dtype, **options)
    eps = float(np.finfo(recorded.update.dtype).eps)
    after = recorded.after.astype(np.float64)
    moved = after - recorded.update.weight.astype(np.float64)
    size = _norm(moved)
    stored = eps * _norm(after)
    rounding = ROUNDINGS * _norm(exact.change - rough.change)
    allowed = stored + rounding + (SHARE + exact.slack) * size
    left = _norm(moved - exact.change)
    worst = left / size if size else (0.0 if left <= allowed else np.inf)
    excess = left / allowed if allowed else (0.0 if left == 0.0 else np.inf)
    for name, slot in exact.slots.items():
        found = recorded.slots_after[name].astype(np.float64)
        scale = max(_norm(found), _norm(slot), float(np.finfo(np.float32).tiny))
        left = _norm(found - slot)
        allowed_slot = SHARE * scale + ROUNDINGS * _norm(slot - rough.slots[name])
        worst = max(worst, left / scale)
        excess = max(excess, left / allowed_slot)
    if not np.isfinite(excess):
        excess, worst = np.inf, np.inf
    tells = size > 0.0 and stored + rounding + exact.slack * size < TELLING * size
    return Residual(float(worst), float(excess), tells)


def distance(
    recorded: Recorded,
    rule: Rule,
    settings: Settings,
    *,
    counter: int = 1,
    form: SparseForm = "summed",
) -> float:
    """Return `Residual.size` of `measure`, for less work."""
    exact = compute(recorded, rule, settings, counter=counter, form=form)
    after = recorded.after.astype(np.float64)
    moved = after - recorded.update.weight.astype(np.float64)
    found = [_norm(moved - exact.change) / (_norm(moved) or 1.0)]
    for name, slot in exact.slots.items():
        kept = recorded.slots_after[name].astype(np.float64)
        found.append(_norm(kept - slot) / (max(_norm(kept), _norm(slot)) or 1.0))
    worst = max(found)
    return worst if np.isfinite(worst) else float("inf")


def _norm(values: Array) -> float:
    return float(np.linalg.norm(values))


def fit(
    updates: Iterable[Recorded],
    rule: Rule,
    settings: Settings,
    *,
    fitted: Mapping[str, float] | None = None,
    exclusions: bool = True,
) -> Fit:
    """Count the updates that a rule reproduces, with any of its counters and one sparse form.

    Args:
        updates: Recorded updates.
        rule: The rule; its slots must be there.
        settings: What it computes with.
        fitted: Which of the settings were found by fitting.
        exclusions: Whether weights may be excluded from weight decay.
    """
    rows = []
    bare: dict[str, bool] = {}
    for one in updates:
        tries = {
            (counter, form): measure(one, rule, settings, counter=counter, form=form)
            for counter in rule.counters
            for form in one.forms
        }
        decays = exclusions and settings.get("weight_decay")
        if decays and not any(r.reproduced for r in tries.values()):
            # A weight may be excluded from the decay.
            without = {**settings, "weight_decay": 0.0}
            again = {
                (counter, form): measure(one, rule, without, counter=counter, form=form)
                for counter, form in tries
            }
            if any(r.reproduced for r in again.values()):
                tries, bare[one.weight] = again, True
        if any(r.tells for r in tries.values()):
            rows.append((one, tries))
    sparse = [(one, tries) for one, tries in rows if one.touched is not None]
    forms: dict[SparseForm, int] = {}
    for _, tries in sparse:
        for good in {f for (_, f), r in tries.items() if r.reproduced}:
            forms[good] = forms.get(good, 0) + 1
    best: SparseForm = max(forms, key=lambda form: forms[form], default="summed")
    choices: dict[tuple[str, int], int] = {}
    residuals, reproduced = [], 0
    for one, tries in rows:
        form: SparseForm = "summed" if one.touched is None else best
        found = {counter: tries[counter, form] for counter in rule.counters}
        counters = [counter for counter, r in found.items() if r.reproduced]
        nearest = min(found.values(), key=lambda r: r.excess)
        residuals.append(nearest.size)
        reproduced += bool(counters)
        if len(counters) == 1:
            choices[one.weight, one.step] = counters[0]
    share = reproduced / len(rows) if rows else 0.0
    ordered = np.sort(residuals)
    kept = ordered[: reproduced if share >= ENOUGH else max(1, len(ordered) // 2)]
    return Fit(
        rule,
        settings,
        dict(fitted or {}),
        len(rows),
        reproduced,
        float(kept[-1]) if len(kept) else 0.0,
        choices,
        forms,
        len(sparse),
        tuple(bare),
    )


def first_unlike(recorded: Recorded, found: Fit) -> str | None:
    """Return what of a recorded update a rule does not make, as it was found to fit.

    Args:
        recorded: The update, of any run.
        found: The rule with its settings.

    Returns:
        The name of the first slot that is off, ``weight`` where only the weight is, None where
        nothing is, or where the update tells nothing.
    """
    rule, settings = found.rule, dict(found.settings)
    if recorded.weight in found.bare:
        settings["weight_decay"] = 0.0
    tries = [
        (measure(recorded, rule, settings, counter=counter, form=form), counter, form)
        for counter in rule.counters
        for form in recorded.forms
    ]
    best, counter, form = min(tries, key=lambda one: one[0].excess)
    if best.reproduced or not best.tells:
        return None
    exact = compute(recorded, rule, settings, counter=counter, form=form)
    for name, slot in exact.slots.items():
        after = recorded.slots_after[name].astype(np.float64)
        if _norm(after - slot) > SHARE * ROUNDINGS * max(_norm(after), _norm(slot)):
            return name
    return "weight"
