"""Explain a divergence: a shelf of rules, each from a case to findings; adding one is one file.

A rule speaks only of what it has evidence for. Where none explains the first divergence,
`unexplained` says what to record next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tracediff.diagnose.case import Case as Case
from tracediff.diagnose.data import data
from tracediff.diagnose.elimination import agreed_before as agreed_before
from tracediff.diagnose.forensics import forensics
from tracediff.diagnose.forward import layers, loss, random_layer, statistics
from tracediff.diagnose.gradients import gradients
from tracediff.diagnose.initial import initial_slots, initial_weights
from tracediff.diagnose.known import known_changes
from tracediff.diagnose.metrics import metrics
from tracediff.diagnose.optimizer import hyperparameters, learning_rate, rule, unlike_updates
from tracediff.diagnose.precision import precision
from tracediff.diagnose.skipped import skipped_steps
from tracediff.diagnose.state import constraints, external, trainable
from tracediff.diagnose.structure import structure, unpaired_slots
from tracediff.diagnose.unexplained import rounding, unexplained
from tracediff.diagnose.variances import variance_factor as variance_factor
from tracediff.diagnose.weighing import explains, weighed
from tracediff.model import Finding

Rule = Callable[[Case], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    data,
    initial_weights,
    initial_slots,
    skipped_steps,
    external,
    constraints,
    trainable,
    structure,
    unpaired_slots,
    layers,
    known_changes,
    random_layer,
    loss,
    statistics,
    gradients,
    learning_rate,
    rule,
    hyperparameters,
    forensics,
    metrics,
    precision,
)
"""Every rule; the order decides only between findings that are otherwise equal."""


def diagnose(case: Case) -> tuple[Finding, ...]:
    """Return what explains a divergence, best first.

    First comes what explains the first divergence, then what begins elsewhere; within each, by
    confidence. Runs that agree have no cause; where rounding visibly grew, `rounding` says so.

    Args:
        case: Both runs and where they part.
    """
    if case.verdict != "diverged":
        return tuple(rounding(case))
    found = _merged(finding for one in RULES for finding in one(case))
    if not any(explains(case, finding) for finding in found):
        found.extend(list(unlike_updates(case)) or unexplained(case))
    return weighed(case, sorted(found, key=lambda finding: _rank(case, finding)))


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, of those about one thing the surest, with the evidence of all."""
    merged: dict[tuple[str, str | None], Finding] = {}
    for finding in findings:
        key = (finding.code, finding.subject)
        other = merged.get(key)
        if other is None:
            merged[key] = finding
            continue
        first, second = sorted((other, finding), key=lambda one: -one.confidence)
        evidence = dict.fromkeys((*first.evidence, *second.evidence))
        merged[key] = replace(first, evidence=tuple(evidence))
    return list(merged.values())


def _rank(case: Case, finding: Finding) -> tuple[bool, bool, bool, float]:
    return (
        not explains(case, finding),
        not _of_the_rate(case, finding),
        finding.step is None,
        -finding.confidence,
    )


def _of_the_rate(case: Case, finding: Finding) -> bool:
    """Say whether the rate parts first, and this is about it: nothing else can explain that."""
    first = case.first
    if first is None or first.track.pair.role != "learning_rate":
        return False
    return finding.subject in ("learning_rate", "optimizer")
