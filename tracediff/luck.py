"""Whether a gap between two groups of trainings is more than the spread between seeds explains.

Nothing here looks inside a run: each is one number, its final metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from tracediff.errors import UsageError

Answer = Literal["more than luck", "luck explains it", "no spread"]
CONFIDENCE = 0.95
FEW = 5
"""Repeats of a side below which Welch's interval may cover clearly less than its confidence."""
_ROUNDING = 1e-12
"""Repeats whose spread is below this share of their size differ by the rounding of sums only."""


@dataclass(frozen=True, slots=True)
class Luck:
    """What repeats say about a gap.

    Attributes:
        metric: What was compared.
        a: A's final values, one a run.
        b: B's.
        gap: Mean of B less mean of A.
        low: Lower end of the confidence interval of the gap; NaN where repeats do not spread.
        high: Its upper end.
        p: Probability of a gap this large, or larger, by luck alone; NaN as above.
        confidence: Of the interval.
        method: How the interval was found.
        answer: Whether the gap exceeds the spread; ``no spread`` where repeats are all equal.
        caution: What few runs, or one on a side, make of the answer; None where there are enough.
    """

    metric: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    gap: float
    low: float
    high: float
    p: float
    confidence: float
    method: str
    answer: Answer
    caution: str | None = None

    @property
    def reach(self) -> float:
        """Half the width of the interval: a smaller gap could not be told from luck; or NaN."""
        return (self.high - self.low) / 2.0


def luck(
    a: Sequence[float],
    b: Sequence[float],
    *,
    metric: str = "loss",
    confidence: float = CONFIDENCE,
) -> Luck:
    """Say whether two groups of final values differ by more than their own spread.

    Welch's t-test and its interval, with the degrees of freedom of Welch and Satterthwaite (B. L.
    Welch, Biometrika 34, 1947, pp. 28-35) where both sides have repeats: final values may spread
    otherwise on either side, and are taken to be normally distributed. Where one side is a single
    run, the other side's spread is taken for both, and the interval is Student's for one more draw
    (a prediction interval: G. J. Hahn, W. Q. Meeker, Statistical Intervals, 1991).

    Args:
        a: A's final values, one a run with a seed of its own.
        b: B's.
        metric: What they are, for the report.
        confidence: Of the interval, above 0 and below 1.

    Raises:
        UsageError: A side is empty, neither has repeats, or a value is not finite.

    Example:
        >>> luck([0.90, 0.91, 0.92], [0.80, 0.81, 0.82]).answer
        'more than luck'
    """
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"a confidence is between 0 and 1, not {confidence}")
    if not a or not b:
        raise UsageError("both sides need at least one run", hint="--a A1 A2 ... --b B1 B2 ...")
    if len(a) == len(b) == 1:
        raise UsageError(
            "one run on either side tells nothing about luck",
            hint="train at least one side again with other seeds, twice or more",
        )
    if not all(map(math.isfinite, (*a, *b))):
        raise UsageError(f"a final {metric} is not finite, so there is no gap to judge")
    one, other = np.asarray(a, float), np.asarray(b, float)
    gap = float(other.mean() - one.mean())
    spread = math.sqrt(sum(float(side.var(ddof=1)) for side in (one, other) if len(side) > 1))
    if spread <= _ROUNDING * max(map(abs, (*a, *b))):
        nan, method = math.nan, "none: the repeats of each side are equal"
        return Luck(metric, tuple(a), tuple(b), gap, nan, nan, nan, confidence, method, "no spread")
    low, high, p, method = _interval(one, other, gap, confidence)
    answer: Answer = "more than luck" if low > 0.0 or high < 0.0 else "luck explains it"
    caution = _caution(len(a), len(b))
    return Luck(metric, tuple(a), tuple(b), gap, low, high, p, confidence, method, answer, caution)


def _caution(a: int, b: int) -> str | None:
    if min(a, b) == 1:
        side, other = ("A", "B") if a == 1 else ("B", "A")
        return f"{side} is one run: that it spreads as {other} does is taken for granted"
    if min(a, b) < FEW:
        return (
            f"{a} and {b} runs are few: in simulations with so few, intervals of 95 % held the "
            f"true gap in 89 to 98 % of cases; {FEW} runs a side are better"
        )
    return None


def _interval(
    a: np.ndarray, b: np.ndarray, gap: float, confidence: float
) -> tuple[float, float, float, str]:
    if len(a) > 1 and len(b) > 1:
        squares = [float(side.var(ddof=1)) / len(side) for side in (a, b)]
        error = math.sqrt(sum(squares))
        shares = [square / sum(squares) for square in squares]
        freedom = 1.0 / sum(
            share * share / (len(side) - 1) for share, side in zip(shares, (a, b), strict=True)
        )
        method = "Welch's t"
    else:
        repeats, name = (a, "A") if len(a) > 1 else (b, "B")
        error = float(repeats.std(ddof=1)) * math.sqrt(1.0 + 1.0 / len(repeats))
        freedom = float(len(repeats) - 1)
        method = f"Student's t, with the spread of {name} for both sides"
    student = stats.t(freedom)
    reach = float(student.ppf((1.0 + confidence) / 2.0)) * error
    return gap - reach, gap + reach, 2.0 * float(student.sf(abs(gap) / error)), method
