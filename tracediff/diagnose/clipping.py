"""How each run clips its gradients: told from its own raw and applied gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tracediff.diagnose import remedies
from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import short
from tracediff.forensics import CLIPPING_WORDS, Clipping, clipping
from tracediff.model import Finding
from tracediff.names import same_setting

_BOUNDS = ("clipnorm", "global_clipnorm", "clipvalue")


def clipped(case: Case) -> Iterable[Finding]:
    """Name clipping of another kind, or to another bound."""
    a, b = (clipping(run, steps=min(run.steps, case.steps)) for run in case.recorded)
    if a is None or b is None or not a.kinds or not b.kinds or _alike(a, b):
        return
    (kind_a, bound_a), (kind_b, bound_b) = (next(iter(one.kinds.items())) for one in (a, b))
    settings = case.optimizer_settings()
    keys = [key for key in _BOUNDS if any(key in one for one in settings)]
    what = (
        f"to {short(bound_a)} in A and to {short(bound_b)} in B"
        if kind_a == kind_b
        else f"{CLIPPING_WORDS[kind_a]} in A, {CLIPPING_WORDS[kind_b]} in B"
    )
    first = case.first
    yield Finding(
        code="gradient.processing",
        summary=f"Gradients are clipped otherwise: {what}.",
        confidence=0.96,
        stage="gradient",
        step=first.step
        if first is not None and first.stage == "gradient"
        else _earlier(case, a, b),
        subject=keys[0] if keys else "clipping",
        a=settings[0].get(keys[0]) if keys else None,
        b=settings[1].get(keys[0]) if keys else None,
        evidence=(
            _described("A", a, settings[0]),
            _described("B", b, settings[1]),
        ),
        remedy=remedies.CLIPPING if {kind_a, kind_b} == {"norm", "global norm"} else None,
    )


def _earlier(case: Case, a: Clipping, b: Clipping) -> int:
    """Return the first step that either clips, by A's number."""
    other = case.in_a(b.step)
    return a.step if other is None else min(a.step, other)


def _alike(a: Clipping, b: Clipping) -> bool:
    """Say whether one way of clipping explains both runs, one of them perhaps below the bound."""
    if not a.active and not b.active:
        return True
    if a.active and b.active:
        return any(
            same_setting(a.kinds[kind], b.kinds[kind]) or (_fitted_alike(a, b, kind))
            for kind in a.kinds.keys() & b.kinds.keys()
        )
    idle, busy = (b, a) if a.active else (a, b)
    return any(idle.largest[kind] <= bound * 1.00001 for kind, bound in busy.kinds.items())


def _fitted_alike(a: Clipping, b: Clipping, kind: Any) -> bool:
    if a.configured and b.configured:
        return False
    return abs(a.kinds[kind] - b.kinds[kind]) <= 1e-4 * a.kinds[kind]


def _described(side: str, one: Clipping, settings: Mapping[str, Any]) -> str:
    said = [f"{key}={short(settings[key])}" for key in _BOUNDS if settings.get(key)]
    configured = f"configured: {', '.join(said) or 'no clipping'}"
    kind, bound = next(iter(one.kinds.items()))
    if kind == "none":
        return (
            f"{side}: raw and applied gradients agree at all {one.steps} steps looked at, their "
            f"common norm up to {short(one.largest['global norm'])}; {configured}"
        )
    return (
        f"{side}: {CLIPPING_WORDS[kind]} with c = {short(bound)} reproduces the applied gradients "
        f"to {short(one.residual)}; {one.active} of {one.steps} steps looked at were clipped; "
        f"{configured}"
    )
