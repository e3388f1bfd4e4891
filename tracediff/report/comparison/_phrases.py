"""The sentences and cells that the text and the markdown report share."""

from __future__ import annotations

import math

from tracediff.model import (
    Comparison,
    Difference,
    DriftRow,
    Finding,
    Floor,
    GrowthFit,
    LayerPart,
    LayerRow,
    Pair,
    Unpaired,
)
from tracediff.report.terminal import printable

_VERDICTS = {
    "identical": "The runs are identical.",
    "rounding": "The runs agree within rounding.",
    "diverged": "The runs diverge.",
}


def number(value: float | None, *, digits: int = 3) -> str:
    """Return a number for a cell; ``-`` for one that is not there, ``?`` for one not known.

    Example:
        >>> number(0.000123456), number(None), number(float("nan")), number(0.0)
        ('0.000123', '-', '?', '0')
    """
    if value is None:
        return "-"
    return "?" if math.isnan(value) else f"{value:.{digits}g}"


def least(value: float | None, *, at_least: bool, digits: int = 3) -> str:
    """Return a number for a cell, marked where it is a lower bound.

    Example:
        >>> least(0.5, at_least=True), least(float("nan"), at_least=True)
        ('≥0.5', '?')
    """
    text = number(value, digits=digits)
    return f"≥{text}" if at_least and text not in ("-", "?") else text


def whole(value: int | None) -> str:
    """Return an integer for a cell, large ones by their size.

    Example:
        >>> whole(12), whole(2144544368), whole(None)
        ('12', '2.1e+09', '-')
    """
    if value is None:
        return "-"
    return str(value) if value < 1_000_000 else f"{value:.1e}"


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


DRIFT_HEADER = (
    "tensor",
    "role",
    "bits",
    "beyond",
    "first",
    "median",
    "last",
    "max",
    "ulp",
    "cosine",
    "growth",
)
DRIFT_ALIGN = "llrrrrrrrrl"
DRIFT_SPARE = ("median", "cosine", "first", "ulp", "last")
"""Columns that a narrow terminal goes without, the least missed first."""
SHORT_ROLES = {"applied_gradient": "applied", "learning_rate": "rate", "sample_weight": "weighting"}


def drift_cells(row: DriftRow) -> list[str]:
    """Return the cells of a tensor's row in the table of drift, in the order of the header."""
    drift = row.relative_l2
    marks = [growth(row)]
    if row.noise_driven:
        marks.append("noise")
    elif row.origin:
        marks.append("origin")
    return [
        printable(row.tensor),
        SHORT_ROLES.get(row.role, row.role),
        "-" if row.first_step is None else str(row.first_step),
        "-" if row.first_significant_step is None else str(row.first_significant_step),
        least(drift.first, at_least=row.at_least, digits=2),
        least(drift.median, at_least=row.at_least, digits=2),
        least(drift.last, at_least=row.at_least, digits=2),
        least(drift.max, at_least=row.at_least, digits=2),
        whole(row.max_ulp),
        "" if row.cosine is None else f"{row.cosine:.3f}",
        ", ".join(marks),
    ]


def growth(row: DriftRow | LayerPart) -> str:
    """Return the shape of a drift with what was fitted to it.

    Examples: ``jump @37``, ``exponential x2/12`` (it doubles in 12 steps), ``linear +3e-08`` (a
    step).
    """
    fit = row.growth_fit
    if row.growth == "jump" and row.jump_step is not None:
        return f"jump @{row.jump_step}"
    if fit is None or fit.rate is None:
        return str(row.growth)
    if row.growth == "linear":
        return f"linear {fit.rate:+.1g}"
    return str(row.growth) if fit.doubling_steps is None else f"exponential x2/{_steps(fit)}"


def _steps(fit: GrowthFit) -> str:
    return number(fit.doubling_steps, digits=2 if (fit.doubling_steps or 0.0) < _WHOLE else 4)


_WHOLE = 100.0
"""From so many steps on, doubling is told to whole steps."""

LAYERS = "The largest relative L2 of any step, of a layer's tensors taken together"
LAYER_HEADER = (
    "layer",
    "bits",
    "beyond",
    "output",
    "gradient",
    "slots",
    "update",
    "weight",
    "growth",
)
LAYER_ALIGN = "lrrrrrrrl"
LAYER_SPARE = ("slots", "output", "gradient")
"""Columns that a narrow terminal goes without, the least missed first."""


def layer_cells(row: LayerRow) -> list[str]:
    """Return the cells of a layer's row in the table of layers, in the order of the header."""
    marks = []
    course = next((part for part in map(row.part, ("weight", "activation")) if part), None)
    if course is None and row.parts:
        course = row.parts[0]
    if course is not None:
        marks.append(growth(course))
    if row.origin:
        marks.append("origin")
    applied = row.part("applied_gradient")
    return [
        printable(row.layer),
        "-" if row.first_step is None else str(row.first_step),
        "-" if row.first_significant_step is None else str(row.first_significant_step),
        _largest(row.part("activation")),
        _largest(row.part("gradient") or applied),
        _largest(*(part for part in row.parts if part.role == "slot")),
        _largest(row.part("update")),
        _largest(row.part("weight")),
        ", ".join(marks),
    ]


def _largest(*parts: LayerPart | None) -> str:
    """Return the largest drift of any part; nothing where there is none."""
    known = [part.relative_l2.max for part in parts if part is not None]
    if not known:
        return ""
    at_least = any(part.at_least for part in parts if part is not None)
    largest = math.nan if any(map(math.isnan, known)) else max(known)
    return least(largest, at_least=at_least, digits=2)


def ranked_layers(rows: tuple[LayerRow, ...]) -> list[LayerRow]:
    """Return the layers that differ: those that diverge first, then in execution order."""

    def key(row: LayerRow) -> tuple[float, bool, int]:
        beyond = math.inf if row.first_significant_step is None else row.first_significant_step
        return beyond, not row.origin, row.order

    return sorted((row for row in rows if row.first_step is not None), key=key)


def ranked(rows: tuple[DriftRow, ...]) -> list[DriftRow]:
    """Return the rows that differ: those that diverge first, then by first bit and size."""

    def key(row: DriftRow) -> tuple[float, bool, float, float]:
        beyond = math.inf if row.first_significant_step is None else row.first_significant_step
        first = math.inf if row.first_step is None else row.first_step
        largest = row.relative_l2.max
        return beyond, not row.origin, first, -(math.inf if math.isnan(largest) else largest)

    return sorted((row for row in rows if row.first_step is not None), key=key)


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
    return f"rtol {_up(row.passing_rtol)} or atol {_up(row.passing_atol)} would pass"


def _up(value: float) -> str:
    """Return a number to three digits that is not below ``value``.

    Example:
        >>> _up(0.00012341), _up(0.0), _up(0.5)
        ('0.000124', '0', '0.5')
    """
    if not value:
        return "0"
    for digits in range(3, 18):
        text = f"{value:.{digits}g}"
        if float(text) >= value:
            return text
        unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
        text = f"{value + unit:.{digits}g}"
        if float(text) >= value:
            return text
    return repr(value)
