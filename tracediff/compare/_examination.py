"""A comparison together with what it rests on, for a view that shows single steps and elements."""

from __future__ import annotations

from dataclasses import dataclass

from tracediff.diagnose import Case
from tracediff.model import Comparison


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """What `examine` returns.

    Attributes:
        comparison: What a report says.
        case: Both runs, every tensor's differences step by step, and where they begin.
    """

    comparison: Comparison
    case: Case
