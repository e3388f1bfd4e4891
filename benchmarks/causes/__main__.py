"""Prints, for every case of the bench, what was expected and what was found, and the score."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from causes.bench import Outcome, Recordings, examine
from causes.case import Case
from causes.cases import CASES


def main() -> int:
    """Runs the bench; the status is 1 where a case is not right."""
    parser = argparse.ArgumentParser(prog="causes", description=__doc__)
    parser.add_argument("words", nargs="*", help="only cases whose names contain one of these")
    parser.add_argument("--half", choices=["tuning", "held-out"], help="only one half of the cases")
    parser.add_argument("--wrong", action="store_true", help="show only cases that are not right")
    parser.add_argument("--reuse", action="store_true", help="whoever recorded the traces")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if _chosen(case, arguments.words, arguments.half)]
    recordings = Recordings(reuse=arguments.reuse)
    recordings.record(chosen)
    outcomes = []
    for case in chosen:
        outcome = examine(case, recordings)
        outcomes.append(outcome)
        if not (arguments.wrong and outcome.right):
            print("\n".join(_lines(outcome)), flush=True)
    for half in (True, False):
        of_half = [outcome for outcome in outcomes if outcome.case.tuning is half]
        print(_score("tuning half  " if half else "held-out half", of_half))
    return int(any(not outcome.right for outcome in outcomes))


def _chosen(case: Case, words: Sequence[str], half: str | None) -> bool:
    named = not words or any(word in case.name for word in words)
    return named and (half is None or case.tuning is (half == "tuning"))


def _lines(outcome: Outcome) -> list[str]:
    case = outcome.case
    half = "tuning" if case.tuning else "held out"
    lines = [f"{'right' if outcome.right else 'WRONG'}  {case.name}  ({half})"]
    if outcome.trouble:
        return [*lines, f"       {outcome.trouble}"]
    mark = "" if outcome.right_place else "  <--"
    lines.append(
        f"       first: expected {_place(case.first)}, found {_place(outcome.first)}{mark}"
    )
    mark = "" if outcome.right_cause else "  <--"
    expected = case.code or "nothing"
    if case.subject:
        expected += f":{case.subject}"
    shown = ", ".join(f"{c}:{s} {p:.2f}" for c, s, p in outcome.causes[:5]) or "nothing"
    lines.append(f"       cause: expected {expected}, found {shown}{mark}")
    if outcome.missing:
        lines.append(f"       not named: {', '.join(outcome.missing)}  <--")
    return lines


def _place(place: Sequence[object] | None) -> str:
    if place is None:
        return "nowhere"
    return " ".join("*" if part is None else str(part) for part in place)


def _score(title: str, outcomes: Sequence[Outcome]) -> str:
    faults = [one for one in outcomes if not one.case.clean]
    clean = [one for one in outcomes if one.case.clean]
    named = [one for one in faults if one.case.also]
    return (
        f"{title}: first divergence {sum(o.right_place for o in faults)} of {len(faults)}, "
        f"first cause {sum(o.right_cause for o in faults)} of {len(faults)}, "
        f"all causes of several {sum(not o.missing for o in named)} of {len(named)}, "
        f"false alarms {sum(o.false_alarm for o in clean)} of {len(clean)}"
    )


if __name__ == "__main__":
    sys.exit(main())
