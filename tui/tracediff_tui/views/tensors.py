"""What is said about one tensor at one step: measures of both runs, and the same for export."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracediff.compare import Examination
from tracediff.errors import TracediffError
from tracediff.report.comparison import numbers, tables
from tracediff.report.terminal import printable
from tracediff_tui.sheet import Sheet
from tracediff_tui.views import kept
from tracediff_tui.views.cells import cell_words, layer_words
from tracediff_tui.views.elements import HEADER, Elements, Side
from tracediff_tui.views.places import Spot, label, names_of
from tracediff_tui.views.steps import shape_words, step_lines
from tracediff_tui.views.summaries import Summary


def title(found: Examination, spot: Spot) -> str:
    """Return what is looked at."""
    track = found.case.onset.judged[spot.key].track
    when = f", {spot.shown} the update" if track.state else ""
    if spot.shown == "update":
        when = ", the update itself"
    words = [f"{printable(label(spot.key))} · step {spot.step}{when}", shape_words(found, spot.key)]
    lines = [line for line in step_lines(found, spot.step) if line.spot.key == spot.key]
    words += [line.verdict for line in lines if line.spot.moment == spot.moment]
    return " · ".join(words)


def facts(
    found: Examination,
    spot: Spot,
    elements: Elements | None,
    summary: Summary | None = None,
    *,
    wide: bool = True,
) -> list[str]:
    """Return measures of the difference here and over the run, then of A, of B and of the layer.

    Args:
        found: What was found.
        spot: The tensor and the step.
        elements: Its elements, where they were kept.
        summary: What is known of it where they were not.
        wide: Whether there is room for how the whole layer drifts.
    """
    judged = found.case.onset.judged[spot.key]
    if spot.shown == "update" and elements is not None:
        drift = elements.drift
        words = [
            f"differ {drift.different}/{drift.size}",
            f"rel {numbers.number(_update_ratio(found, spot, elements))} of A's update",
            f"abs {numbers.number(drift.max_abs)}",
            f"cos {numbers.number(drift.cosine, digits=6)}",
        ]
    else:
        words = cell_words(judged, spot.step, "before" if spot.shown == "before" else "after")
    row = next(r for r in found.comparison.drift if (r.role, r.tensor) == spot.key)
    beyond = _step(row.first_significant_step)
    over = f"run: bits {_step(row.first_step)}, beyond rounding {beyond}"
    if row.unknown_steps:
        over += f", by how much is not known at {row.unknown_steps} steps"
    if not np.isnan(row.relative_l2.max):
        most = numbers.least(row.relative_l2.max, at_least=row.at_least)
        over += f", max rel {most}, growth {tables.growth(row)}"
    if elements is not None and elements.drift.different and spot.shown != "update":
        over += f" · cos {numbers.number(elements.drift.cosine, digits=6)}"
    lines = [" · ".join(words), over]
    whole = layer_words(found, row.layer) if row.layer is not None and wide else None
    if elements is not None:
        lines += [
            f"{name} {side_words(side)} sha {digest(found, spot, name)}"
            for name, side in zip("AB", elements.sides, strict=True)
        ]
    elif summary is not None:
        lines += [
            f"{name} {kept.side_words(side.statistics)} sha {digest(found, spot, name)}"
            for name, side in (("A", summary.here.a), ("B", summary.here.b))
            if side is not None
        ]
    return lines if whole is None else [*lines, whole]


def _update_ratio(found: Examination, spot: Spot, elements: Elements) -> float:
    """Return the relative size of the difference of two updates, as the report has it."""
    update = found.case.onset.judged[spot.key].track.update
    if update is not None and update[spot.step]["present"]:
        cell = update[spot.step]
        return float(cell["norm_difference"] / cell["norm"]) if cell["norm"] > 0 else float("nan")
    return elements.drift.relative_l2


def _step(step: int | None) -> str:
    return "never" if step is None else f"from {step}"


def side_words(side: Side) -> str:
    """Return what one run's value is like."""
    number = numbers.number
    return (
        f"min {number(side.least)} max {number(side.most)} mean {number(side.mean)} "
        f"norm {number(side.norm, digits=6)} nan {side.nan} inf {side.inf} zero {side.zero}"
    )


def digest(found: Examination, spot: Spot, side: str) -> str:
    """Return the beginning of the digest of a value in A or in B, or ``-``."""
    number = "AB".index(side)
    run, name = (found.case.a, found.case.b)[number], names_of(found, spot.key)[number]
    tensor = None if name is None else run.find(spot.key[0], name)
    if tensor is None or spot.shown == "update":
        return "-"
    try:
        low, high = run.digests(tensor, spot.moment)[spot.step].tolist()
    except TracediffError:
        return "?"
    return f"{high:016x}{low:016x}"[:8] if low or high else "-"


def python_of(elements: Elements, flat: int) -> str:
    """Return an element of both runs as Python that gives its bits back."""
    a, b = elements.a.reshape(-1)[flat], elements.b.reshape(-1)[flat]
    index = elements.index(flat)
    return f"index, a, b = {index}, {_literal(a)}, {_literal(b)}"


def _literal(value: object) -> str:
    if isinstance(value, np.floating):
        return f"np.{value.dtype.name}({float(value)!r})"
    return f"np.{np.asarray(value).dtype.name}({value!s})"


def tensor_sheet(
    found: Examination, spot: Spot, elements: Elements | None, rows: Sequence[tuple[str, ...]]
) -> Sheet:
    """Return a tensor for export: facts, the worst elements, both values as arrays."""
    lines = tuple(facts(found, spot, elements))
    if elements is None:
        return Sheet(title(found, spot), lines, data={"tensor": spot.key[1], "step": spot.step})
    drift = elements.drift
    return Sheet(
        title(found, spot),
        lines,
        HEADER,
        tuple(rows),
        data={
            "tensor": spot.key[1],
            "role": spot.key[0],
            "step": spot.step,
            "value": spot.shown,
            "relative_l2": drift.relative_l2,
            "max_abs": drift.max_abs,
            "max_ulp": drift.max_ulp,
            "cosine": drift.cosine,
            "differing": drift.different,
            "size": drift.size,
            "worst": [dict(zip(HEADER, row, strict=True)) for row in rows],
            # Tolerances with which numpy.testing.assert_allclose(b, a) passes.
            "passes_with": {"atol": drift.max_abs, "rtol": 0.0},
        },
        arrays={"a": elements.a, "b": elements.b},
    )
