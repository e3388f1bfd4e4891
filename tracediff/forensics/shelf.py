"""Every known rule, and which of them a run can have used."""

from __future__ import annotations

from collections.abc import Iterable

from tracediff.forensics import adam, adaptive, sgd
from tracediff.forensics.rule import Rule

SHELF: tuple[Rule, ...] = (*sgd.RULES, *adaptive.RULES, *adam.RULES)
"""All rules; of those that reproduce a run alike, the first is named."""

FAMILY_OF = {"adamw": "adam"}
"""Classes of optimizers that compute with the rules of another class."""


def rules_of(family: str) -> tuple[Rule, ...]:
    """Return the rules of a class of optimizers, as `optimizer_class` spells it."""
    family = FAMILY_OF.get(family, family)
    return tuple(rule for rule in SHELF if rule.family == family)


def applicable(slots: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that find the slots they need."""
    there = set(slots)
    return tuple(rule for rule in SHELF if there.issuperset(rule.slots))
