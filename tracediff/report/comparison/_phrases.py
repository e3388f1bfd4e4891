"""The sentences that the reports and the interface share."""

from __future__ import annotations

import math

from tracediff.model import Comparison, Difference, DriftRow, Finding, Floor, Pair, Unpaired
from tracediff.report.comparison._numbers import number, rounded_up, whole
from tracediff.report.comparison._tables import SHORT_ROLES
from tracediff.report.terminal import printable

_VERDICTS = {
    "identical": "The runs are identical.",
    "rounding": "The runs agree within rounding.",
    "diverged": "The runs diverge.",
}


def verdict(comparison: Comparison) -> str:
    """Return the answer in one sentence."""
    steps = comparison.steps
    compared = "1 step" if steps.compared == 1 else f"{steps.compared} steps"
    tensors = len(comparison.drift)
    over = f"{compared}, {tensors} tensors"
    answer = _VERDICTS[comparison.verdict]
    if comparison.verdict == "rounding" and comparison.bounded:
        answer = "The runs agree within the tolerances given."
    elif comparison.verdict == "rounding" and _bounds_only(comparison):
        answer = "Nothing beyond rounding is visible in what digests keep."
    if comparison.verdict == "diverged" and comparison.first_divergence is None:
        answer = "The runs diverge: not all of their tensors have a partner."
    return f"{answer} ({over})"


def _bounds_only(comparison: Comparison) -> bool:
    """Say whether of some differences only lower bounds are known."""
    return any(row.at_least for row in comparison.drift)


def place(one: Difference) -> str:
    """Return where a difference is.

    Example: ``step 3 (epoch 0, batch 3), gradient: gradient of hidden/kernel``
    """
    what = f"{_role(one)} {printable(one.tensor)}".strip()
    when = f", {one.moment} the update" if one.moment and one.quantity == "value" else ""
    other = "" if one.step_b in (None, one.step) else f"; B's step {one.step_b}"
    return (
        f"step {one.step} (epoch {one.epoch}, batch {one.batch}{other}), {one.stage} stage: "
        f"{what}{when}"
    )


def _role(one: Difference) -> str:
    if one.quantity == "update":
        return "the update of"
    return {
        "learning_rate": "",
        "loss": "",
        "sample_weight": "sample weight",
        "applied_gradient": "applied gradient of",
        "gradient": "gradient of",
        "activation": "output of",
    }.get(one.role, one.role)


def size(one: Difference) -> str:
    """Return how large a difference is, beside what rounding explains."""
    if math.isnan(one.times_tolerance):
        return "by an unknown amount: " + (
            "the shapes differ or values are not finite"
            if one.worst is not None
            else "the values were not kept, or their shapes differ"
        )
    if one.at_least and not one.relative_l2:
        return "by how much is not to be seen in what digests keep"
    at_least = "at least " if one.at_least else ""
    parts = [f"relative L2 {at_least}{number(one.relative_l2)}"]
    if one.quantity == "value" and not math.isnan(one.max_abs):
        parts.append(f"largest difference {at_least}{number(one.max_abs)}")
    if one.max_ulp is not None and one.quantity == "value":
        parts.append(f"{whole(one.max_ulp)} ulp")
    if one.differing is not None and one.size is not None and one.size > 1:
        parts.append(f"{one.differing} of {one.size} elements")
    text = ", ".join(parts)
    if one.bound is not None:
        text += f"; {number(one.times_tolerance)} times what is allowed ({number(one.bound)})"
    elif math.isinf(one.times_tolerance):
        text += "; what is copied is not rounded"
    elif one.times_tolerance >= 1.0:
        allowed = number(one.tolerance, digits=2)
        explains = "repeats explain" if one.floor == "repeats" else "rounding explains"
        text += f"; {at_least}{number(one.times_tolerance)} times what {explains} ({allowed})"
    return text


def floor(comparison: Comparison) -> str | None:
    """Return which noise floor was used, and how near differences came to it; None without one."""
    found = comparison.floor
    if found is None:
        return None
    text = f"Noise floor: {_floor_source(found)}"
    first = comparison.first_divergence
    if first is not None:
        if math.isinf(first.times_tolerance) and first.bound is None:
            text += "; the first divergence is none of it, however small"
        elif first.times_tolerance < 1.0 and not first.at_least:
            times = number(first.times_tolerance)
            text += f"; the first divergence, {times} times its level, is told by its form"
        elif not math.isnan(first.times_tolerance):
            times = f"{'at least ' if first.at_least else ''}{number(first.times_tolerance)}"
            text += f"; the first divergence stands {times} times above it"
    elif found.tensor is not None:
        most = number(found.times, digits=2)
        what = f"{SHORT_ROLES.get(found.role or '', found.role)} {printable(found.tensor)}"
        seen = "as far as digests tell, " if found.at_least else ""
        text += f"; {seen}at most {most} times its level ({what}, step {found.step})"
        if found.grown:
            tensors = "1 tensor" if found.grown == 1 else f"{found.grown} tensors"
            text += f"; {tensors} passed it by growth that fits rounding"
    return text


def _floor_source(found: Floor) -> str:
    if found.source == "tolerances":
        return "the tolerances given"
    if found.source == "model":
        return "a model of floating-point rounding"
    sides = []
    for side in ("a", "b"):
        some = [one for one in found.repeats if one.side == side]
        if some:
            count = "1 repeat" if len(some) == 1 else f"{len(some)} repeats"
            sides.append(f"{number(some[0].factor, digits=2)} times what {count} of {side.upper()}")
    return f"{' and '.join(sides)} differ by, or a model of rounding where that is more"


def worst(one: Difference) -> str | None:
    """Return the element that differs most with both values, or None."""
    if one.worst is None:
        return None
    at = f"[{', '.join(map(str, one.worst.index))}]" if one.worst.index else ""
    return f"{printable(one.tensor)}{at}: A {one.worst.a!r}, B {one.worst.b!r}"


def quiet(comparison: Comparison) -> str | None:
    """Return how many tensors do not differ at all, or None if all do."""
    count = sum(row.first_step is None for row in comparison.drift)
    if not count:
        return None
    return f"{count} of {len(comparison.drift)} tensors are equal at every step"


def stacks(comparison: Comparison) -> list[str]:
    """Return a line for each run: path, stack, steps."""
    lines = []
    for side, run in (("A", comparison.a), ("B", comparison.b)):
        state = "" if run.status == "complete" else f", {run.status}"
        lines.append(
            f"{side}  {printable(run.path)}: {printable(run.stack)}, "
            f"{run.steps} step{'' if run.steps == 1 else 's'}{state}"
        )
    return lines


def pairs(comparison: Comparison) -> list[str]:
    """Return a line for what was paired by other than its name, weights of one layer together.

    The least sure come first.
    """
    groups: dict[tuple[str | None, str, float], list[Pair]] = {}
    for pair in comparison.pairs:
        if pair.role in _PAIRED_ALONE and (pair.reason != "same name" or pair.layout):
            groups.setdefault((pair.layer, pair.reason, pair.confidence), []).append(pair)
    lines = []
    for (_, reason, confidence), found in sorted(groups.items(), key=lambda item: item[0][2]):
        names = ", ".join(
            one.name if one.a == one.b else f"{one.a} is {one.b} in B" for one in found[:2]
        )
        more = f" and {len(found) - 2} more" if len(found) > 2 else ""
        lines.append(f"{names}{more} ({confidence:.0%}): {reason}")
    return lines


_PAIRED_ALONE = ("weight", "input", "label", "metric")
"""Roles whose pairs are shown; gradients and slots go with their weights."""


def unpaired(one: Unpaired) -> str:
    """Return a tensor without a partner, why, and what comes nearest to one."""
    text = f"{one.role} {printable(one.tensor)} in {one.side.upper()}: {one.reason}"
    if one.nearest is not None and not one.reason.startswith("shape"):
        shape = "" if one.nearest_shape is None else f" {one.nearest_shape}"
        text += f"; nearest there: {printable(one.nearest)}{shape}"
    return text


def reasons(finding: Finding) -> list[str]:
    """Return what a finding says for and against itself, a line each."""
    lines = list(finding.evidence)
    lines.extend(f"against: {sentence}" for sentence in finding.against)
    lines.extend(f"not explained: {sentence}" for sentence in finding.not_explained)
    if finding.remedy:
        lines.append(f"try: {finding.remedy}")
    return lines


def events(comparison: Comparison) -> list[str]:
    """Return what the recorders noted, a line each; steps have each run's own numbers."""
    own = "" if comparison.steps.offset == 0 else "its own "
    return [
        f"{side} noted at {own}{printable(event)}"
        for side, run in (("A", comparison.a), ("B", comparison.b))
        for event in run.events[:5]
    ]


def would_pass(row: DriftRow) -> str:
    """Return the smallest tolerances with which a tensor would pass."""
    if row.passing_rtol is None or row.passing_atol is None:
        return "no tolerance would pass: values are unknown, not finite, or of another shape"
    return f"rtol {rounded_up(row.passing_rtol)} or atol {rounded_up(row.passing_atol)} would pass"
