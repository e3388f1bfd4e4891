"""Runs that compute in different precision by their own account."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import shown
from tracediff.model import Finding
from tracediff.trace import Run


def precision(case: Case) -> Iterable[Finding]:
    """Name another precision policy, where the divergence begins in something computed."""
    first = case.first
    if first is None or first.stage not in ("forward", "loss", "gradient", "update"):
        return
    a, b = _policy(case.a), _policy(case.b)
    if a and b and a != b:
        yield Finding(
            code="precision",
            summary=f"A computes in {shown(a)}, B in {shown(b)}.",
            confidence=0.96,
            stage=first.stage,
            step=first.step,
            subject="precision policy",
            a=a,
            b=b,
            evidence=("the recorded precision policies differ",),
        )


def _policy(run: Run) -> str | None:
    flags: Any = (run.about.get("environment") or {}).get("flags") or {}
    for key in ("precision_policy", "policy", "floatx"):
        value = flags.get(key)
        if isinstance(value, dict):
            value = value.get("name") or (value.get("config") or {}).get("name")
        if value:
            return str(value)
    return None
