"""Records the runs that cases need, compares them, and says how many were explained right."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causes.case import Case, Place, Recorded
from tracediff.compare import compare
from tracediff.model import Comparison

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
CACHE = Path(os.environ.get("TRACEDIFF_CAUSES", "~/.cache/tracediff/causes")).expanduser()


class Recordings:
    """The traces of runs, recorded where the cache lacks them.

    Args:
        folder: Where traces are kept between runs of the bench.
        reuse: Whether to take traces that another version of the recorder wrote.
    """

    def __init__(self, folder: Path = CACHE, *, reuse: bool = False) -> None:
        self._folder = folder
        self._written_by = "" if reuse else _digest(REPOSITORY / "hooks" / "tracediff_hooks")
        self._program = "" if reuse else _digest(PROGRAMS)

    def path(self, one: Recorded, *, again: bool = False) -> Path:
        """Returns where the trace of a run is, or would be; `again` for a second recording."""
        told = json.dumps([self._program, one.stack, one.run, again], sort_keys=True)
        name = hashlib.sha256(told.encode()).hexdigest()[:20]
        return self._folder / self._written_by / f"{name}.zarr"

    def record(self, cases: Iterable[Case]) -> None:
        """Records what these cases need and the cache lacks, many runs to a process."""
        batches: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for case in cases:
            for one, again in ((case.a, False), (case.b, case.repeat)):
                path = self.path(one, again=again)
                todo = batches.setdefault((one.stack, one.run.get("threads", 1)), [])
                if not path.exists() and all(other["path"] != str(path) for other in todo):
                    todo.append({"path": str(path), "run": one.run})
        for (stack, _), runs in batches.items():
            if runs:
                path = Path(runs[0]["path"])
                path.parent.mkdir(parents=True, exist_ok=True)
                self._train(stack, runs)

    def _train(self, stack: str, runs: list[dict[str, Any]]) -> None:
        python = _python(stack)
        print(f"recording {len(runs)} runs on {stack}", file=sys.stderr)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(runs, file)
            file.flush()
            done = subprocess.run(
                [python, PROGRAMS / "train.py", file.name],
                env={
                    **os.environ,
                    "PYTHONPATH": str(REPOSITORY / "hooks"),
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    "CUDA_VISIBLE_DEVICES": "-1",
                    "KERAS_BACKEND": "tensorflow",
                },
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:], file=sys.stderr)


def _python(stack: str) -> Path:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from stacks import build

    found = build.find(stack)
    if found.python is None:
        raise FileNotFoundError(found.reason)
    return Path(found.python)


def _digest(folder: Path) -> str:
    # What is done counts; a reformatted line does not make a recording stale.
    sources = (path.read_text("utf-8") for path in sorted(folder.rglob("*.py")))
    content = "".join(ast.dump(ast.parse(source)) for source in sources)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Outcome:
    """What was said about a case.

    Attributes:
        case: The case.
        first: The first divergence found.
        causes: Every cause, best first: code, subject, confidence.
        right_place: Whether the first divergence is the expected one.
        right_cause: Whether the first cause is, with its subject where that is given.
        missing: Further causes that were expected and not named.
        false_alarm: Whether something was found where there is nothing.
        trouble: What went wrong, or "".
    """

    case: Case
    first: Place | None
    causes: tuple[tuple[str, str | None, float], ...]
    right_place: bool
    right_cause: bool
    missing: tuple[str, ...]
    false_alarm: bool
    trouble: str = ""

    @property
    def right(self) -> bool:
        """Whether all is as it ought to be."""
        return self.right_place and self.right_cause and not self.missing and not self.false_alarm


def examine(case: Case, recordings: Recordings) -> Outcome:
    """Compares the two runs of a case and holds what is said against what ought to be."""
    a, b = recordings.path(case.a), recordings.path(case.b, again=case.repeat)
    if not a.exists() or not b.exists():
        return Outcome(case, None, (), False, False, (), False, "not recorded")  # noqa: FBT003
    return judge(case, compare(a, b))


def judge(case: Case, comparison: Comparison) -> Outcome:
    """Holds what is said against what ought to be."""
    found = comparison.first_divergence
    first = None if found is None else (found.step, found.stage, found.role, found.tensor)
    causes = tuple((c.code, c.subject, c.confidence) for c in comparison.causes)
    said = {code for code, _, _ in causes} | {f"{code}:{subject}" for code, subject, _ in causes}
    if case.clean:
        alarm = comparison.verdict == "diverged" or bool({c for c, _, _ in causes} - {"rounding"})
        return Outcome(case, first, causes, first is None, not alarm, (), alarm)
    place = case.first is None or (
        first is not None
        and all(want in (None, got) for want, got in zip(case.first, first, strict=True))
    )
    cause = bool(causes) and causes[0][0] == case.code
    cause = cause and case.subject in (None, causes[0][1])
    missing = tuple(one for one in case.also if one not in said)
    return Outcome(case, first, causes, place, cause, missing, false_alarm=False)
