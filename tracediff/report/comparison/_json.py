"""A comparison as one JSON object; docs/compare.md lists its fields."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from tracediff.model import Comparison, Difference, DriftRow, Finding, LayerPart, LayerRow
from tracediff.report.strict import strict

SCHEMA = 1
"""Raised when a field of the object changes its meaning; new fields do not raise it."""


def to_json(comparison: Comparison) -> str:
    """Return the comparison as strict JSON, indented, with a number that is not finite as null."""
    return json.dumps(as_object(comparison), indent=2, allow_nan=False, ensure_ascii=False)


def as_object(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as dictionaries, lists, strings and finite numbers."""
    found = {
        "schema": SCHEMA,
        "verdict": comparison.verdict,
        "first_bit_difference": _difference(comparison.first_bit_difference),
        "first_divergence": _difference(comparison.first_divergence),
        "causes": [_finding(cause) for cause in comparison.causes],
        "drift": [_row(row) for row in comparison.drift],
        "unpaired": [asdict(one) for one in comparison.unpaired],
        "steps": asdict(comparison.steps),
        "pairs": [asdict(pair) for pair in comparison.pairs],
        "runs": {"a": asdict(comparison.a), "b": asdict(comparison.b)},
        "notes": list(comparison.notes),
        "lockstep": None if comparison.lockstep is None else asdict(comparison.lockstep),
        "floor": None if comparison.floor is None else asdict(comparison.floor),
        "layers": [_layer(row) for row in comparison.layers],
    }
    return {key: strict(value) for key, value in found.items()}


def _difference(one: Difference | None) -> dict[str, Any] | None:
    return None if one is None else asdict(one)


def _finding(one: Finding) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(one).items()
    }


def _row(row: DriftRow | LayerPart) -> dict[str, Any]:
    # The series by step is for views that draw it; here it would be most of the output.
    found = {
        field.name: getattr(row, field.name)
        for field in fields(row)
        if field.name not in ("steps", "series")
    }
    return {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in found.items()
    }


def _layer(row: LayerRow) -> dict[str, Any]:
    plain = {field.name: getattr(row, field.name) for field in fields(row)}
    return {**plain, "parts": [_row(part) for part in row.parts]}
