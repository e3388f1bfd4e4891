"""Trains, records and compares in one call: what the tests of a comparison are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from support.build import make_trace
from support.train import Training, train
from tracediff.compare import compare
from tracediff.model import Comparison, Finding

SGD = Training()
ADAM = replace(SGD, optimizer="adam", lr=1e-2)


def compared(folder: Path, a: Training, b: Training, **options: Any) -> Comparison:
    """Train both, record both, and compare them."""
    paths = [
        make_trace(folder / f"{name}.zarr", train(plan), **options)
        for name, plan in (("a", a), ("b", b))
    ]
    return compare(*paths)


def changed(plan: Training, **fields: Any) -> Training:
    """Return the plan with some fields changed."""
    return replace(plan, **fields)


def codes(comparison: Comparison) -> list[str]:
    """Return the codes of the causes, best first."""
    return [cause.code for cause in comparison.causes]


def cause(comparison: Comparison, code: str) -> Finding:
    """Return the one cause with this code."""
    found = [one for one in comparison.causes if one.code == code]
    assert len(found) == 1, codes(comparison)
    return found[0]


def place(comparison: Comparison) -> tuple[int, str, str]:
    """Return step, stage and tensor of the first divergence."""
    first = comparison.first_divergence
    assert first is not None, comparison.verdict
    return first.step, first.stage, first.tensor
