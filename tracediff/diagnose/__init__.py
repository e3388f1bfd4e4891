"""Explain a divergence: a shelf of rules, each from a case to findings; adding one is one file.

A rule speaks only of what it has evidence for. Where none explains the first divergence,
`unexplained` says what to record next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tracediff.diagnose.case import Case as Case
from tracediff.diagnose.data import data
from tracediff.diagnose.forensics import forensics
from tracediff.diagnose.forward import is_statistic, layers, loss, random_layer, statistics
from tracediff.diagnose.gradients import gradients
from tracediff.diagnose.initial import initial_slots, initial_weights
from tracediff.diagnose.metrics import metrics
from tracediff.diagnose.optimizer import hyperparameters, learning_rate, rule, unlike_updates
from tracediff.diagnose.precision import precision
from tracediff.diagnose.state import external, trainable
from tracediff.diagnose.structure import structure, unpaired_slots
from tracediff.diagnose.unexplained import rounding, unexplained
from tracediff.model import Finding

Rule = Callable[[Case], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    data,
    initial_weights,
    initial_slots,
    external,
    trainable,
    structure,
    unpaired_slots,
    layers,
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
    if not any(_explains(case, finding) for finding in found):
        found.extend(list(unlike_updates(case)) or unexplained(case))
    return tuple(sorted(found, key=lambda finding: _rank(case, finding)))


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


def _explains(case: Case, finding: Finding) -> bool:
    first = case.first
    if first is None:
        return True
    if finding.code == "model.structure":
        # Another model computes another loss from the first step on.
        return first.step == case.start and first.stage not in ("data", "metric")
    if case.departs is not None and finding.subject == "batches":
        # Where steps are paired by their batches, the order can only show in what comes after.
        return finding.step is not None and finding.step <= first.step
    if (finding.code == "layer.state") is not is_statistic(case, first):
        # Statistics move in the update stage, but the optimizer has no hand in them.
        return finding.stage != "update" and (finding.step, finding.stage) == (
            first.step,
            first.stage,
        )
    return (finding.step, finding.stage) == (first.step, first.stage)


def _rank(case: Case, finding: Finding) -> tuple[bool, bool, float]:
    return not _explains(case, finding), finding.step is None, -finding.confidence
