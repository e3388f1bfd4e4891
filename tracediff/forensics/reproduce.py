"""Find which published rule, with which settings, reproduces what a run's optimizer did."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tracediff.forensics.fit import Fit, fit, settings_of
from tracediff.forensics.rule import Rule
from tracediff.forensics.sample import Recorded, Sample, sample
from tracediff.forensics.search import search
from tracediff.forensics.shelf import applicable, rules_of
from tracediff.names import optimizer_class, optimizer_settings
from tracediff.trace import Run


@dataclass(frozen=True, slots=True, eq=False)
class Reproduction:
    """Which rules reproduce a run.

    Attributes:
        family: The class of its optimizer, in one spelling.
        config: Its settings, in one spelling.
        sample: What was looked at.
        fits: The rules that reproduce it, best first; several where the run does not tell them
            apart.
        nearest: The rule of its class that comes nearest, or None where none of it is known.
    """

    family: str
    config: Mapping[str, Any]
    sample: Sample
    fits: tuple[Fit, ...]
    nearest: Fit | None

    @property
    def best(self) -> Fit | None:
        """The first rule that reproduces the run."""
        return self.fits[0] if self.fits else None

    def fit_of(self, key: str) -> Fit | None:
        """Return the fit of the rule with this key, if it reproduces the run."""
        return next((one for one in self.fits if one.rule.key == key), None)


def reproduce(run: Run, *, steps: int | None = None) -> Reproduction | None:
    """Find the rules that reproduce a run's updates to rounding.

    First the rules of the class that the run says it uses, with its settings; then those of other
    classes; then those of its class with one setting fitted.

    Args:
        run: A run with recorded weights, applied gradients and slots.
        steps: How many of its steps to look at; all by default. A bounded sample of them is read.

    Returns:
        None where no update was recorded in full.
    """
    found = sample(run, steps=run.steps if steps is None else min(steps, run.steps))
    if found is None:
        return None
    about = run.about.get("optimizer") or {}
    family = optimizer_class(about.get("class"))
    config = optimizer_settings(about.get("config"))
    there = applicable(found.slots)
    own = [rule for rule in rules_of(family) if rule in there]
    tried = _fits(found.updates, own, config)
    fits = [one for one in tried if one.fits]
    if not fits and family == "nadam" and isinstance(config.get("decay"), float):
        # tf.keras calls Nadam's schedule_decay `decay`: its rate is recorded as if it decayed.
        undecayed = tuple(_undecayed(one, config["decay"]) for one in found.updates)
        again = _fits(undecayed, own, config)
        if any(one.fits for one in again):
            found = dataclasses.replace(found, updates=undecayed)
            tried, fits = again, [one for one in again if one.fits]
    if not fits:
        others = [rule for rule in there if rule not in own]
        fits = [one for one in _fits(found.updates, others, config) if one.fits]
    if not fits:
        searched = (search(found.updates, rule, settings_of(rule, config)) for rule in own)
        first = next((one for one in searched if one is not None), None)
        fits = [] if first is None else [first]
    nearest = max(tried, key=lambda one: (one.share, -one.residual), default=None)
    return Reproduction(family, config, found, tuple(fits), nearest)


def _fits(
    updates: Iterable[Recorded], rules: Iterable[Rule], config: Mapping[str, Any]
) -> list[Fit]:
    updates = tuple(updates)
    return [fit(updates, rule, settings_of(rule, config)) for rule in rules]


def _undecayed(recorded: Recorded, decay: float) -> Recorded:
    rate = recorded.update.rate * (1.0 + decay * recorded.iteration)
    return dataclasses.replace(recorded, update=dataclasses.replace(recorded.update, rate=rate))
