"""Runs that correct their bias with different step counters.

Keras 2.3.1 reads its counter without an order against its own increment, so most steps correct
with a counter one too high. Works whatever else differs, since each run is checked against its own
moments.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracediff.diagnose import remedies
from tracediff.diagnose.case import Case
from tracediff.diagnose.numbers import short
from tracediff.forensics import Counted, Reproduction, compute, correction, count_steps
from tracediff.model import Finding
from tracediff.names import optimizer_settings
from tracediff.trace import Run


def step_counter(case: Case, a: Reproduction | None, b: Reproduction | None) -> Iterable[Finding]:
    """Find runs of one class of optimizer that count their steps differently.

    Args:
        case: Both runs; of Adam, every update is counted from its moments.
        a: What reproduces A; of other classes, the sampled updates are counted.
        b: What reproduces B.
    """
    if case.optimizer_classes() == ("adam", "adam"):
        counted = [count_steps(case.a, case.steps), _in_a(case, count_steps(case.b, case.steps))]
        how = "recomputed in float64 from the run's own m, v, learning rate, betas and epsilon"
        shares = [_first_share(run) for run in (case.a, case.b)]
    elif a is not None and b is not None:
        counted = [_counted(a), _in_a(case, _counted(b), own=True)]
        how = f"in A {a.sample.words}; in B {b.sample.words}"
        shares = [_first_share_of(one) for one in (a, b)]
    else:
        return
    yield from _finding(case, counted, how, shares)


def _in_a(case: Case, counted: Counted | None, *, own: bool = False) -> Counted | None:
    """Return what was counted in B by the names that A has for its weights.

    Args:
        case: Both runs.
        counted: What was counted.
        own: Whether steps have B's own numbers; A's are put in their place then.
    """
    if counted is None:
        return None
    if own:
        steps = {step: case.in_a(step) for _, step in counted.choices}
        choices = {
            (name, place): choice
            for (name, step), choice in counted.choices.items()
            if (place := steps[step]) is not None
        }
        counted = Counted(choices, counted.neither, counted.residual)
    names = {pair.b: pair.a for pair in case.pairing.pairs if pair.role == "weight"}
    choices = {
        (names.get(name) or name, step): choice for (name, step), choice in counted.choices.items()
    }
    return Counted(choices, counted.neither, counted.residual)


def _finding(
    case: Case, counted: list[Counted | None], how: str, shares: list[float]
) -> Iterable[Finding]:
    a, b = counted
    if a is None or b is None or not a.choices or not b.choices:
        return
    common = a.choices.keys() & b.choices.keys()
    unlike = sorted(key for key in common if a.choices[key] != b.choices[key])
    if not unlike:
        return
    name = str(case.optimizers()[0].get("class")).rpartition(".")[2]
    step = min(step for _, step in unlike)
    ahead = [side for side, one in (("A", a), ("B", b)) if one.count(2) > one.count(1)]
    racing = [side for side, one in (("A", a), ("B", b)) if one.count(2) and one.count(1)]
    if len(ahead) == 1:
        who = f"{ahead[0]} corrects {name}'s bias with a step counter one too high"
    else:
        who = f"The runs correct {name}'s bias with different step counters"
    first = shares[1] if ahead == ["B"] else shares[0]
    yield Finding(
        code="optimizer.rule",
        summary=f"{who}, in {len(unlike)} of {len(common)} updates that tell; its first step is "
        f"{first:.3f} of the right one.",
        confidence=0.98 if len(unlike) > 1 else 0.8,
        stage="update",
        step=step,
        subject=f"{name} step counter",
        a=_shares(a),
        b=_shares(b),
        evidence=(
            _line("A", a),
            _line("B", b),
            how,
            *(
                f"{side} uses both counters: a race in the graph, so that not even two runs of it "
                "agree"
                for side in racing
            ),
        ),
        remedy=remedies.COUNTER,
    )


def _line(side: str, one: Counted) -> str:
    text = (
        f"{side}: iteration + 1 reproduces {one.count(1)} updates, iteration + 2 {one.count(2)} "
        f"(largest residual {short(one.residual)})"
    )
    return text + (f"; neither reproduces {one.neither}" if one.neither else "")


def _shares(one: Counted) -> dict[str, int]:
    return {"iteration+1": one.count(1), "iteration+2": one.count(2), "neither": one.neither}


def _first_share(run: Run) -> float:
    settings = optimizer_settings((run.about.get("optimizer") or {}).get("config"))
    beta_1, beta_2 = settings.get("beta_1", 0.9), settings.get("beta_2", 0.999)
    return correction(2, beta_1, beta_2) / correction(1, beta_1, beta_2)


def _counted(one: Reproduction) -> Counted | None:
    best = one.best
    if best is None or len(best.rule.counters) < 2:
        return None
    return Counted(best.choices, best.telling - best.reproduced, best.residual)


def _first_share_of(one: Reproduction) -> float:
    """Return the share of the first update that the rule makes with a counter one too high."""
    best, first = one.best, one.sample.updates[0]
    if best is None:
        return float("nan")
    right, wrong = (
        float(np.linalg.norm(compute(first, best.rule, best.settings, counter=count).change))
        for count in (1, 2)
    )
    return wrong / right if right else float("nan")
