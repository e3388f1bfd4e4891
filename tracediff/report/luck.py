"""Whether a gap is more than luck, in words and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from tracediff.luck import Luck
from tracediff.report.strict import strict

SCHEMA = 1


def to_text(found: Luck) -> str:
    """Return the answer in a few lines."""
    runs = f"{len(found.a)} and {len(found.b)} runs"
    share = f"{found.confidence:.0%}"
    if found.answer == "no spread":
        head = f"Cannot tell: repeats do not differ in their final {found.metric}."
        more = "Were they trained with seeds of their own? Equal seeds say nothing about luck."
    else:
        head = {
            "more than luck": f"More than luck: the gap in {found.metric} exceeds the spread.",
            "luck explains it": f"Luck explains the gap in {found.metric}: repeats spread so far.",
        }[found.answer]
        more = (
            f"{share} interval of the gap {found.low:+.4g} to {found.high:+.4g}, p = {found.p:.2g} "
            f"({found.method}); a gap below {found.reach:.4g} could not be told from luck with "
            "these runs"
        )
    return "\n".join(
        [
            f"{head} ({runs})",
            f"  A {_side(found.a)}",
            f"  B {_side(found.b)}",
            f"  gap B - A {found.gap:+.4g}",
            f"  {more}",
            *([] if found.caution is None else [f"  {found.caution}"]),
        ]
    )


def to_json(found: Luck) -> str:
    """Return the answer as one JSON object; what is not defined is null."""
    return json.dumps({"schema": SCHEMA, **strict(asdict(found))}, indent=2, allow_nan=False)


def _side(values: tuple[float, ...]) -> str:
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4g} (one run)"
    return f"mean {mean:.4g}, from {min(values):.4g} to {max(values):.4g}"
