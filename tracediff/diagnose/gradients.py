"""Gradients that differ on an equal forward pass, raw or between raw and applied."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import listed, short, shown
from tracediff.model import Finding
from tracediff.names import scales_losses
from tracediff.onset import Place

_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm", "weight_decay", "loss_scale_factor")


def gradients(case: Case) -> Iterable[Finding]:
    """Find where raw gradients part from equal losses, or applied ones from equal raw ones."""
    # Of what is known by its digest only, rounding may be all the difference.
    raw = [
        place
        for place in case.firsts("gradient")
        if case.is_origin(place) and place.track.after[place.step]["known"]
    ]
    scaled = _overflown(case, raw) or _loss_scale(case, raw)
    if scaled is not None:
        yield scaled
    elif raw:
        names = [place.track.pair.name for place in raw]
        cell = raw[0].track.after[raw[0].step]
        least = "at least " if cell["at_least"] else ""
        yield Finding(
            code="gradient.raw",
            summary=f"The gradient of {listed(names)} differs at {case.where(raw[0].step)} "
            "although data, weights and loss agree.",
            confidence=0.8,
            stage="gradient",
            step=raw[0].step,
            subject=names[0],
            evidence=(
                (
                    f"relative L2 {least}{short(cell['relative_l2'])}, "
                    f"cosine {short(cell['cosine'])}, "
                    f"norm {short(cell['norm_a'])} in A and {short(cell['norm_b'])} in B"
                ),
                (
                    "equal losses with other gradients come from custom or stopped gradients, "
                    "or a layer's backward pass"
                ),
            ),
        )
    yield from _processing(case)


def _overflown(case: Case, raw: list[Place]) -> Finding | None:
    """Find a scaled loss whose gradients are finite in one run only, which skips the update."""
    runs = {"A": case.a, "B": case.b}
    here = [place for place in raw if place.step == raw[0].step]
    cells = [place.track.after[place.step] for place in here]
    broken = [
        side
        for side, count in (("A", "non_finite_a"), ("B", "non_finite_b"))
        if any(cell[count] for cell in cells)
    ]
    if len(broken) != 1 or not scales_losses(runs[broken[0]].about.get("optimizer")):
        return None
    (side,) = broken
    other = "B" if side == "A" else "A"
    step, names = raw[0].step, [place.track.pair.name for place in here]
    return Finding(
        code="gradient.processing",
        summary=f"The scaled loss overflows in {side} at {case.where(step)}, and not in {other}: "
        f"{side} skips the update and lowers its loss scale.",
        confidence=0.9,
        stage="gradient",
        step=step,
        subject="loss scale",
        evidence=(
            f"not finite in {side} alone: gradient of {listed(names)}",
            "data and weights agree, and losses within the precision they are computed in",
            "half precision ends at 65504; stacks scale and add up in other orders, and one passes",
        ),
    )


def _loss_scale(case: Case, raw: list[Place]) -> Finding | None:
    """Find gradients that differ by the ratio of the two loss scales, and by nothing else."""
    settings = case.optimizer_settings()
    scales = [float(one.get("loss_scale_factor") or 1.0) for one in settings]
    if not raw or scales[0] == scales[1]:
        return None
    ratio = scales[1] / scales[0]
    cells = [place.track.after[place.step] for place in raw]
    ratios = [float(cell["norm_b"] / cell["norm_a"]) for cell in cells if cell["norm_a"] > 0.0]
    if not ratios or not np.allclose(ratios, ratio, rtol=1e-4):
        return None
    return Finding(
        code="gradient.processing",
        summary=f"The loss is scaled by {shown(scales[0])} in A and by {shown(scales[1])} in B "
        "before gradients are taken.",
        confidence=0.95,
        stage="gradient",
        step=raw[0].step,
        subject="loss_scale_factor",
        a=settings[0].get("loss_scale_factor"),
        b=settings[1].get("loss_scale_factor"),
        evidence=(
            (
                f"{len(ratios)} raw gradients of B are {short(ratio)} times those of A, which is "
                "the ratio of the two scales"
            ),
        ),
    )


def _processing(case: Case) -> Iterable[Finding]:
    by_name = {one.track.pair.name: one for one in case.judged("gradient")}
    places = [
        place
        for place in case.firsts("applied_gradient")
        if place.track.pair.name in by_name and not by_name[place.track.pair.name].after[place.step]
    ]
    if not places:
        return
    step = min(place.step for place in places)
    here = [place for place in places if place.step == step]
    names = [place.track.pair.name for place in here]
    settings_a, settings_b = case.optimizer_settings()
    changed = [
        f"{key} is {shown(settings_a.get(key))} in A and {shown(settings_b.get(key))} in B"
        for key in _CLIPPING
        if settings_a.get(key) != settings_b.get(key)
    ]
    factors = [
        f"{place.track.pair.name}: applied norm {short(cell['norm_a'])} in A, "
        f"{short(cell['norm_b'])} in B, cosine {short(cell['cosine'])}"
        for place in here[:4]
        for cell in [place.track.after[step]]
    ]
    same = [key for key in _CLIPPING if key in settings_a and not changed]
    reason = f": {'; '.join(changed)}" if changed else ""
    first = changed[0].split(" is ")[0] if changed else None
    yield Finding(
        code="gradient.processing",
        summary=f"What the update consumed differs at {case.where(step)} while the raw gradients "
        f"agree ({listed(names)}){reason}.",
        confidence=0.95 if changed else 0.85,
        stage="gradient",
        step=step,
        subject=first or (same[0] if same else names[0]),
        a=settings_a.get(first) if first else None,
        b=settings_b.get(first) if first else None,
        evidence=(
            *factors,
            *(
                f"{key} is {shown(settings_a[key])} in both: whether it bounds each gradient or "
                "all together differs between versions"
                for key in same
            ),
            f"{_agreeing(case, step)} raw gradients of the step agree",
        ),
    )


def _agreeing(case: Case, step: int) -> str:
    judged = case.judged("gradient")
    flags = np.array([one.after[step] for one in judged])
    return f"{int(np.count_nonzero(~flags))} of {len(flags)}"
