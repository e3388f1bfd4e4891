"""Weigh findings against each other: what else could be, what remains, what would separate them.

Finds nothing of its own; every sentence comes from where differences begin and what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracediff.diagnose import remedies
from tracediff.diagnose.case import Case
from tracediff.diagnose.elimination import agreed_before
from tracediff.diagnose.forward import is_statistic
from tracediff.diagnose.known import recognised, undecided
from tracediff.diagnose.numbers import listed
from tracediff.model import Finding
from tracediff.onset import Place

_EXPERIMENTS = {
    "layer.random": "set the rates of the random layers to 0 in both scripts",
    "layer.forward": "record both runs with activations=True: the first output that differs tells",
    "loss.value": "compile both with one loss and the same regularisers",
    "precision": "train both in float32",
    "gradient.raw": "record both runs with activations=True, and compare the backward pass",
    "gradient.processing": "train both without clipping and weight decay",
    "optimizer.hyperparameter": "give both optimizers this setting, and compare again",
    "optimizer.schedule": "train both at one constant learning rate",
    "optimizer.rule": "train both with plain SGD, whose formula is the same everywhere",
    "optimizer.slots": "start both optimizers anew, with equal initial slots",
    "layer.state": "give both layers this setting, and compare again",
    "model.structure": "build both models from one definition",
    "init.draw": "start B from A's recorded initial weights",
    "init.distribution": "start B from A's recorded initial weights",
    "state.trainable": "freeze the same layers in both",
    "state.external": "leave out callbacks that set weights",
}
_CANDIDATES = frozenset({"layer.random", "layer.forward", "loss.value", "precision"})
"""What all shows in the loss first, where no layer outputs were recorded."""


def weighed(case: Case, found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings with what speaks against each, what it leaves over, and what to try.

    Args:
        case: Both runs and where they part.
        found: The findings, best first.
    """
    first = case.first
    excluded = () if first is None else agreed_before(case.onset, first)
    result: list[Finding] = []
    known = [recognised(case, finding) for finding in found]
    silent = undecided(case, known)
    for one in known:
        evidence = one.evidence
        if excluded and not result and explains(case, one):
            evidence = (*evidence, f"excluded before it: {'; '.join(excluded)}")
        result.append(
            replace(
                one,
                evidence=evidence,
                against=(*one.against, *_against(case, one, found)),
                not_explained=(
                    *one.not_explained,
                    *_left(case, one),
                    *(silent if one.code.startswith("optimizer.") else ()),
                ),
                remedy=one.remedy or remedies.general(one),
            )
        )
    return tuple(result)


def explains(case: Case, finding: Finding) -> bool:
    """Say whether a finding is about where the runs first part."""
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
        return finding.stage != "update" and _at(finding, first)
    return _at(finding, first)


def _at(finding: Finding, place: Place) -> bool:
    return (finding.step, finding.stage) == (place.step, place.stage)


def _against(case: Case, one: Finding, found: Sequence[Finding]) -> list[str]:
    """Name what could stand in the place of a finding, and what would tell them apart."""
    if one.code not in _CANDIDATES or not explains(case, one):
        return []
    rivals = [
        other
        for other in found
        if other.code != one.code and other.code in _CANDIDATES and explains(case, other)
    ]
    lines = []
    for rival in rivals[:3]:
        what = f"{rival.code} ({rival.subject})" if rival.subject else rival.code
        lines.append(
            f"{what} would show in the same place, and the two are not told apart here; "
            f"to separate them: {_EXPERIMENTS[rival.code]}"
        )
    return lines


def _left(case: Case, one: Finding) -> list[str]:
    """Name where differences begin that a finding does not account for."""
    first, onset = case.first, case.onset
    lines = []
    if (
        first is not None
        and not explains(case, one)
        and (one.step or 0, one.stage)
        != (
            first.step,
            first.stage,
        )
    ):
        lines.append(
            f"the first divergence, {first.track.pair.name} at step {first.step} in the "
            f"{first.stage} stage"
        )
    groups: dict[tuple[int, str], list[str]] = {}
    for key, place in onset.firsts.items():
        if key not in onset.origins or _accounts(case, one, place):
            continue
        if first is not None and place.key == first.key:
            continue
        groups.setdefault((place.step, place.stage), []).append(place.track.pair.name)
    lines.extend(
        f"differences that begin in the {stage} stage of step {step}: {listed(names, limit=3)}"
        for (step, stage), names in sorted(groups.items())[:3]
    )
    return lines


def _accounts(case: Case, one: Finding, place: Place) -> bool:
    """Say whether a finding accounts for a difference that begins in ``place``."""
    if one.code == "rounding":
        return True
    if one.code == "layer.state":
        return is_statistic(case, place)
    if is_statistic(case, place) and one.stage == "update":
        return False
    same = one.stage == place.stage or (
        one.stage in ("forward", "loss") and place.stage in ("forward", "loss", "metric")
    )
    if one.stage == "state" and one.code.startswith(("init.", "state.")):
        return place.stage == "state" and place.step == (one.step or 0)
    return same and place.step >= (one.step or 0)
