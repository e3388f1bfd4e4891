"""Fit one hyperparameter of a rule to recorded updates, where the configuration does not do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

from tracediff.forensics.fit import Fit, distance, fit, measure
from tracediff.forensics.rule import Rule, Settings
from tracediff.forensics.sample import Recorded

_UPDATES = 6
"""How many updates a search looks at; what it finds is then checked on all."""
_GRID = 25


def _power_of_ten(place: float) -> float:
    return float(10.0**place)


def _near_one(place: float) -> float:
    return float(1.0 - 10.0**place)


_RANGES: dict[str, tuple[Callable[[float], float], float, float]] = {
    "epsilon": (_power_of_ten, -12.0, 0.0),
    "rho": (_near_one, -5.0, 0.0),
    "momentum": (_near_one, -4.0, 0.0),
    "beta_1": (_near_one, -4.0, 0.0),
    "beta_2": (_near_one, -5.0, 0.0),
    "schedule_decay": (_power_of_ten, -5.0, 1.0),
    "rate_factor": (_power_of_ten, -3.0, 3.0),
    "weight_decay": (_power_of_ten, -6.0, 1.0),
}
"""Where values are sought: how a place becomes a value, and between which places."""


def search(updates: Sequence[Recorded], rule: Rule, settings: Settings) -> Fit | None:
    """Return the rule with one setting fitted, if that reproduces the updates.

    Args:
        updates: Recorded updates.
        rule: The rule.
        settings: Its settings as configured.

    Returns:
        None where no single setting does.
    """
    chosen = _chosen(updates, rule, settings)
    if not chosen:
        return None
    for name in (*rule.defaults, "rate_factor", "weight_decay"):
        if name not in _RANGES:
            continue
        value = _minimum(chosen, rule, settings, name)
        for candidate in (float(f"{value:.2g}"), float(f"{value:.4g}"), value):
            found = fit(updates, rule, {**settings, name: candidate}, fitted={name: candidate})
            if found.fits:
                return found
    return None


def _chosen(updates: Sequence[Recorded], rule: Rule, settings: Settings) -> list[Recorded]:
    telling = [one for one in updates if measure(one, rule, settings).tells]
    places = np.unique(np.linspace(0, len(telling) - 1, _UPDATES).astype(int))
    return [telling[place] for place in places] if telling else []


def _minimum(updates: Sequence[Recorded], rule: Rule, settings: Settings, name: str) -> float:
    value, low, high = _RANGES[name]

    def cost(place: float) -> float:
        tried = {**settings, name: value(place)}
        sizes = [
            min(
                distance(one, rule, tried, counter=counter, form=form)
                for counter in rule.counters
                for form in one.forms
            )
            for one in updates
        ]
        return float(np.median(np.minimum(sizes, 1e3)))

    grid = np.linspace(low, high, _GRID)
    costs = [cost(float(place)) for place in grid]
    best = int(np.argmin(costs))
    around = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _GRID - 1)]))
    found = optimize.minimize_scalar(
        cost, bounds=around, method="bounded", options={"xatol": 1e-7, "maxiter": 40}
    )
    return value(float(found.x))
