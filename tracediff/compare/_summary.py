"""Turn tracks and places into the plain values of a `Comparison`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.align import Pairing, StepMap
from tracediff.compare._figures import first_bits, nan_safe, ratio, smallest, summarised
from tracediff.compare._floor import largest_over_floor, source_at
from tracediff.compare._own_batches import beside
from tracediff.diagnose import Case, agreed_before
from tracediff.drift import Course, Series, Track, growth, largest_possible, measure, squeezed
from tracediff.model import (
    Difference,
    DriftRow,
    RelativeL2,
    RunSummary,
    UpdateRow,
    WorstElement,
)
from tracediff.names import optimizer_class
from tracediff.onset import Judged, Onset, Place
from tracediff.trace import SKETCH_ERROR, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRADIENTS = ("gradient", "applied_gradient")


def describe(onset: Onset, place: Place | None, case: Case, *, agreed: bool) -> Difference | None:
    """Return what a report says about a place, or None for None.

    Args:
        onset: What was found.
        place: The place.
        case: Both runs, to read the values there.
        agreed: Whether to say what agreed before.
    """
    if place is None:
        return None
    one = onset.judged[place.track.pair.key]
    before = place.moment == "before" and one.track.state
    cells = one.track.before if before else one.track.after
    assert cells is not None  # `before` is only true for state
    cell = cells[place.step]
    tolerance = float((one.tolerance_before if before else one.tolerance_after)[place.step])
    relative, maximum = float(cell["relative_l2"]), float(cell["max_abs"])
    if place.quantity == "update" and one.track.update is not None:
        update = one.track.update[place.step]
        relative = ratio(float(update["norm_difference"]), float(update["norm"]))
        tolerance = max(case.update_tolerance(one.track, place.step), 1e-300)
        if one.spread is not None and one.room is not None and update["norm"] > 0.0:
            tolerance = max(tolerance, float(one.room[place.step] / update["norm"]))
    differing = worst = size = None
    pair = case.read(place.track.pair.key, place.step, place.moment)
    if pair is not None:
        a, b = squeezed(pair[0]), squeezed(pair[1])
        if a.shape == b.shape and a.size:
            drift = measure(a, b)
            differing, size = drift.different, drift.size
            index = tuple(int(i) for i in np.unravel_index(drift.worst, a.shape))
            worst = WorstElement(index, float(a[index]), float(b[index]))
    times = relative / tolerance if tolerance > 0.0 else math.inf
    bound = None
    if one.bound is not None and place.quantity == "value":
        bound = float(one.bound.allowed(cell["peak"]))
        times = maximum / bound if bound > 0.0 else math.inf
    if not cell["known"]:
        relative = maximum = times = math.nan
    return Difference(
        step=place.step,
        stage=place.stage,
        tensor=place.track.pair.name,
        role=place.track.pair.role,
        layer=place.track.pair.layer,
        moment=place.moment if one.track.state else None,
        quantity=place.quantity,
        origin=place.track.pair.key in onset.origins,
        epoch=int(case.a.epoch[place.step]),
        batch=int(case.a.batch[place.step]),
        relative_l2=relative,
        max_abs=maximum,
        max_ulp=int(cell["max_ulp"]) if one.track.floats and _counted(cell) else None,
        tolerance=tolerance,
        times_tolerance=times,
        differing=differing,
        size=size,
        worst=worst,
        agreed=agreed_before(onset, place) if agreed else (),
        bound=bound,
        floor=source_at(one, place),
        step_b=case.own(place.step),
        at_least=bool(cell["at_least"] and place.quantity == "value"),
    )


def drift_rows(onset: Onset) -> tuple[DriftRow, ...]:
    """Return a row for every compared tensor."""
    return tuple(_row(onset, one) for one in onset.judged.values())


def _row(onset: Onset, one: Judged) -> DriftRow:
    track, pair = one.track, one.track.pair
    cells = track.after
    before = track.before
    everything = cells if before is None else np.concatenate([before[:1], cells])
    present = np.flatnonzero(cells["present"])
    drift = np.where(cells["known"], cells["relative_l2"], np.nan)
    course = _course(everything, drift, before=before is not None)
    if pair.key in onset.chaotic:
        course = growth(drift, shape="exponential")
    first_step, first_stage = first_bits(track)
    place = onset.firsts.get(pair.key)
    known = everything[everything["known"] & everything["differs"]]
    last = known[-1] if known.size else None
    # Something differs, and at no such step were elements kept, or anything known at all.
    counted = known[~(known["estimated"] | known["at_least"])]
    unseen = bool(everything["differs"].any() and not counted.size)
    blind = bool(everything["differs"].any() and not known.size)
    gradients = pair.role in _GRADIENTS
    series = drift[present]
    nonzero = everything["relative_l2"][everything["differs"]]
    return DriftRow(
        tensor=pair.name,
        role=pair.role,
        layer=pair.layer,
        order=pair.order,
        first_step=first_step,
        first_stage=first_stage,
        first_significant_step=None if place is None else place.step,
        relative_l2=RelativeL2(
            first=float(nonzero[0]) if nonzero.size else 0.0,
            median=math.nan if blind else nan_safe(np.median, series),
            last=float(series[-1]) if series.size else math.nan,
            max=math.nan if blind else nan_safe(np.max, np.r_[series, known["relative_l2"]]),
        ),
        max_abs=math.nan
        if blind or np.isnan(known["max_abs"]).any()
        else float(np.nan_to_num(everything["max_abs"]).max(initial=0.0)),
        max_ulp=None if unseen or not track.floats else int(everything["max_ulp"].max(initial=0)),
        cosine=smallest(known["cosine"]) if gradients else None,
        sign_agreement=smallest(known["sign_agreement"]) if gradients else None,
        norm_ratio=None if last is None else ratio(float(last["norm_b"]), float(last["norm_a"])),
        growth=course.shape,
        jump_step=course.jump,
        origin=None if place is None else pair.key in onset.origins,
        noise_driven=bool(one.noise.any()),
        chaotic=pair.key in onset.chaotic,
        unknown_steps=int(np.count_nonzero(cells["present"] & ~cells["known"])),
        non_finite=(int(cells["non_finite_a"].sum()), int(cells["non_finite_b"].sum())),
        compared=int(present.size),
        steps=present.astype(np.int64),
        series=series,
        note=pair.note,
        ignored=one.bound is not None and math.isinf(one.bound.atol),
        passing_rtol=_passing(everything, everything["peak"]),
        passing_atol=_passing(everything, np.ones(len(everything))),
        abs_quantiles=_quantiles(last, "abs_quantiles"),
        ulp_quantiles=_quantiles(last, "ulp_quantiles") if track.floats else None,
        precision_only=_precision_only(track, everything),
        update=None if track.moves is None else _update_row(track.moves, floats=track.floats),
        growth_fit=course.fit,
        times_floor=largest_over_floor(one),
        at_least=bool(everything["at_least"].any()),
    )


def _course(everything: Series, drift: NDArray[np.float64], *, before: bool) -> Course:
    """Return how a drift goes on; that of state begins with what stands before the first step."""
    if not before:
        return growth(drift)
    return growth(np.r_[everything["relative_l2"][0], drift]).moved(-1)


def _passing(cells: Series, unit: NDArray[np.float64]) -> float | None:
    """Return the largest difference in terms of ``unit`` at any step, or None for no number."""
    apart = cells["present"] & cells["differs"]
    wrong = ~cells["known"] | cells["at_least"] | cells["reshaped"] | (cells["mismatched"] > 0)
    if (apart & wrong).any():
        return None
    largest = largest_possible(cells)
    some = apart & (largest > 0.0)
    found = float((largest[some] / unit[some]).max(initial=0.0))
    return found if math.isfinite(found) else None


def _quantiles(cell: Any, name: str) -> tuple[float, ...] | None:
    return None if cell is None else tuple(float(value) for value in cell[name])


def _precision_only(track: Track, cells: Series) -> bool:
    """Say whether values of two precisions differ, and are equal in the narrower one."""
    apart = cells[cells["differs"] & cells["present"]]
    known = apart["known"] & ~apart["reshaped"] & (apart["mismatched"] == 0)
    known &= ~(apart["estimated"] | apart["at_least"])
    return bool(track.mixed and apart.size and known.all() and not apart["max_ulp"].any())


def _update_row(cells: Series, *, floats: bool) -> UpdateRow:
    here = cells[cells["present"]]
    apart = here["differs"]
    known = here[apart & here["known"]]
    series = np.where(apart, np.where(here["known"], here["relative_l2"], np.nan), 0.0)
    unseen = bool(apart.any() and not known.size)
    last = known[-1] if known.size else None
    return UpdateRow(
        relative_l2=summarised(series, apart=apart),
        max_abs=math.nan if unseen else float(known["max_abs"].max(initial=0.0)),
        max_ulp=None
        if unseen or known["estimated"].any() or not floats
        else int(known["max_ulp"].max(initial=0)),
        cosine=smallest(known["cosine"]),
        sign_agreement=smallest(known["sign_agreement"]),
        norm_ratio=None if last is None else ratio(float(last["norm_b"]), float(last["norm_a"])),
        abs_quantiles=_quantiles(last, "abs_quantiles"),
        ulp_quantiles=_quantiles(last, "ulp_quantiles") if floats else None,
    )


def _counted(cell: Any) -> bool:
    """Say whether elements were compared one by one."""
    return bool(cell["known"] and not cell["estimated"] and not cell["at_least"])


def run_summary(run: Run) -> RunSummary:
    """Return what a report says about a run."""
    stack = run.about.get("stack") or {}
    versions = stack.get("versions") or {}
    label = str(stack.get("label") or stack.get("generation") or "unknown stack")
    python = versions.get("python")
    optimizer = run.about.get("optimizer") or {}
    events = [event for event in run.about.get("events") or () if isinstance(event, Mapping)]
    return RunSummary(
        path=run.path,
        steps=run.steps,
        status=run.status,
        level=str(run.about.get("level", "")),
        stack=f"{label}, Python {python}" if python else label,
        optimizer=str(optimizer["class"]) if optimizer.get("class") else None,
        events=tuple(
            f"step {event.get('step')}: {event.get('kind')}: {event.get('message')}"
            for event in events
        ),
    )


def notes(
    a: Run, b: Run, pairing: Pairing, tracks: Mapping[tuple[str, str], Track], steps: StepMap
) -> tuple[str, ...]:
    """Return what a reader of the report should know besides."""
    result: list[str] = []
    if steps.reason is not None:
        result.append(f"steps are told by {steps.by}: {steps.reason}")
    if a.steps != b.steps and steps.plain:
        common = len(steps.b)
        longer, more = ("A", a.steps - common) if a.steps > b.steps else ("B", b.steps - common)
        count = "1 more step was" if more == 1 else f"{more} more steps were"
        result.append(f"{longer} is longer; its {count} not compared")
    elif not steps.plain:
        result.append(
            f"{steps.compared} of A's {a.steps} and of B's {b.steps} steps have a partner; steps "
            "are numbered as in A"
        )
    for side, run in (("A", a), ("B", b)):
        if run.status != "complete":
            what = (
                "was still being recorded, or killed" if run.status == "recording" else run.status
            )
            result.append(f"{side} is incomplete ({what}): {run.steps} steps are readable")
        if run.about.get("level") == "digest":
            result.append(
                f"{side} holds digests and statistics only: that values differ is known, and by "
                "how much at least (≥)"
            )
    estimated = sum(
        int(np.count_nonzero(cells["estimated"] & cells["differs"]))
        for track in tracks.values()
        for cells in (track.before, track.after)
        if cells is not None
    )
    if estimated:
        result.append(
            "where elements were not kept, distances are estimates from sketches, off by "
            f"{100 * SKETCH_ERROR:.1f} % (rms)"
        )
    for pair in pairing.pairs:
        track = tracks.get(pair.key)
        if pair.note and track is not None:
            same = not track.after["differs"].any()
            result.append(f"{pair.role} {pair.name}: {pair.note}{'; equal values' if same else ''}")
    class_a, class_b = (
        optimizer_class((r.about.get("optimizer") or {}).get("class")) for r in (a, b)
    )
    if class_a != class_b and beside(a) is None and beside(b) is None:
        result.append(f"optimizer {class_a or 'unknown'} in A, {class_b or 'unknown'} in B")
    return tuple(result)
