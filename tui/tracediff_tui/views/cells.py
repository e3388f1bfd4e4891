"""One tensor at one step in words, its numbers formatted as in the report."""

from __future__ import annotations

from tracediff.compare import Examination
from tracediff.compare.parts import Judged
from tracediff.report.comparison import numbers, tables
from tracediff_tui.views.kept import estimate_words
from tracediff_tui.views.places import Shown, cells_of


def cell_words(judged: Judged, step: int, shown: Shown = "after") -> list[str]:
    """Return the measures of a tensor at one end of a step, those that tell most first."""
    before = shown == "before" and judged.track.state
    cell = cells_of(judged.track, "before" if before else "after")[step]
    if not cell["present"]:
        return ["not recorded"]
    if not cell["differs"]:
        return ["equal"]
    if cell["reshaped"]:
        return ["the shapes differ"]
    if not cell["known"]:
        return ["differs; by how much is not known: values were not kept"]
    if cell["mismatched"]:
        sides = (
            f"NaN or infinite: {int(cell['non_finite_a'])} in A, {int(cell['non_finite_b'])} in B"
        )
        return [sides, f"{int(cell['different'])}/{int(cell['size'])} differ"]
    tolerance = (judged.tolerance_before if before else judged.tolerance_after)[step]
    significant = (judged.before if before else judged.after)[step]
    apart = float(cell["relative_l2"])
    word = "beyond" if significant else "within"
    if significant and apart >= tolerance > 0.0:
        word = f"{numbers.number(apart / tolerance)} times"
    allowed = numbers.number(float(tolerance), digits=2)
    if cell["at_least"]:
        if not significant:
            word = "as far as digests tell within"
        return [
            f"rel at least {numbers.number(apart)}, {word} rounding ({allowed})",
            "a lower bound, from statistics: values were not kept",
        ]
    words = [f"rel {numbers.number(apart)}, {word} rounding ({allowed})"]
    if cell["estimated"]:
        return [*words, estimate_words(cell)]
    if judged.track.floats:
        words.append(f"{numbers.whole(int(cell['max_ulp']))} ulp")
    words.append(f"abs {numbers.number(float(cell['max_abs']))}")
    words.append(f"{int(cell['different'])}/{int(cell['size'])} differ")
    return words


def layer_words(found: Examination, layer: str) -> str | None:
    """Return how a layer drifts over the run, its tensors taken together; None for no layer."""
    row = next((one for one in found.comparison.layers if one.layer == layer), None)
    if row is None:
        return None
    cells = zip(tables.LAYER_HEADER, tables.layer_cells(row), strict=True)
    words = [f"{title} {cell}" for title, cell in cells if cell not in ("", "-")]
    return " · ".join(words if row.first_step is not None else [words[0], "equal"])
