"""Runs a script without and with the recorder and says whether it comes out the same.

Each run is a process of its own. A witness notes the weights after every batch in both; where they
part, the script is run without the recorder once more, to see whether it differs from itself.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np


class Witnessed(NamedTuple):
    """What the witness saw of one run."""

    steps: np.ndarray
    final: Dict[str, np.ndarray]


class Parted(NamedTuple):
    """How two runs part."""

    step: Optional[int]
    different: int
    tensors: int
    largest: float

    @property
    def equal(self) -> bool:
        """Whether they do not."""
        return self.step is None and not self.different


class ScriptFailed(RuntimeError):
    """The script ended with a status that is not 0, or trained nothing."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SelfTest(NamedTuple):
    """The outcome of a self-test.

    Attributes:
        verdict: ``equal``; ``differs``; or ``irreproducible`` where the script differs from itself
            and recording changes nothing before it does.
        steps: how many batches were trained.
        parted: how the run with the recorder differs from the one without.
        plain: how a second run without it does; None where there was no need for one.
    """

    verdict: str
    steps: int
    parted: Parted
    plain: Optional[Parted]

    def told(self, script: str) -> str:
        """The outcome in a line."""
        if self.verdict == "equal":
            return (
                f"{script} trains the same with and without the recorder: {self.steps} steps and "
                f"{self.parted.tensors} final tensors are equal bit for bit"
            )
        if self.verdict == "irreproducible":
            assert self.plain is not None
            return (
                f"{script} differs from itself without the recorder, {_where(self.plain)}; until "
                f"then it trains the same with it, and no more can be told"
            )
        line = f"{script} trains otherwise with the recorder: it differs {_where(self.parted)}"
        if self.plain is not None and not self.plain.equal:
            line += f"; it differs from itself without the recorder, too, {_where(self.plain)}"
        return line

    def as_json(self) -> Dict[str, Any]:
        """The outcome as a trace keeps it, see docs/trace-format.md."""
        return {
            "verdict": self.verdict,
            "steps": self.steps,
            "first_step": self.parted.step,
            "different": self.parted.different,
            "tensors": self.parted.tensors,
            "max_abs": repr(self.parted.largest),
            "plain_first_step": None if self.plain is None else self.plain.step,
        }


def _where(parted: Parted) -> str:
    begin = "at the end" if parted.step is None else f"from step {parted.step} on"
    return (
        f"{begin}, in {parted.different} of {parted.tensors} final tensors, "
        f"by at most {parted.largest:.3g}"
    )


def self_test(arguments: Sequence[str], store: Optional[str]) -> SelfTest:
    """Runs a script two or three times and compares.

    Args:
        arguments: options of `tracediff-record` for the recorded run, then the script and its own;
            neither ``-o`` nor ``--selftest`` among them.
        store: where to keep the trace; None for a place that is removed.

    Raises:
        ScriptFailed: a run failed.
    """
    folder = tempfile.mkdtemp(prefix="tracediff-selftest-")
    try:
        plain = _run(folder, "plain", None, arguments)
        recorded = _run(folder, "recorded", store or os.path.join(folder, "a.zarr"), arguments)
        parted = compare(plain, recorded)
        if parted.equal:
            return SelfTest("equal", len(plain.steps), parted, None)
        again = compare(plain, _run(folder, "again", None, arguments))
        return SelfTest(_verdict(parted, again), len(plain.steps), parted, again)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _verdict(parted: Parted, again: Parted) -> str:
    if again.equal:
        return "differs"
    if again.step is None:
        return "irreproducible" if parted.step is None else "differs"
    return "irreproducible" if parted.step is None or parted.step >= again.step else "differs"


def compare(one: Witnessed, other: Witnessed) -> Parted:
    """Finds where two runs part, and by how much their final tensors differ."""
    count = min(len(one.steps), len(other.steps))
    same = one.steps.shape[1:] == other.steps.shape[1:]
    unequal = np.ones(count, bool)
    if same:
        unequal = (one.steps[:count] != other.steps[:count]).reshape(count, -1).any(axis=1)
    step: Optional[int] = int(np.argmax(unequal)) if unequal.any() else None
    if step is None and len(one.steps) != len(other.steps):
        step = count
    different, largest = 0, 0.0
    names = sorted(set(one.final) | set(other.final))
    for name in names:
        a, b = one.final.get(name), other.final.get(name)
        if a is None or b is None or a.shape != b.shape:
            different, largest = different + 1, float("inf")
        elif a.tobytes() != b.tobytes():
            different += 1
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
            largest = max(largest, float(np.nanmax(apart)) if np.isfinite(apart).any() else 0.0)
    return Parted(step, different, len(names), largest)


def _run(folder: str, name: str, store: Optional[str], arguments: Sequence[str]) -> Witnessed:
    seen = os.path.join(folder, name + ".npz")
    command: List[str] = [sys.executable, "-m", "tracediff_hooks", "record", "--witness", seen]
    if store is not None:
        command += ["-o", store]
    command += arguments
    done = subprocess.run(command, stdout=sys.stderr, check=False)  # noqa: S603 - the user's own
    if done.returncode != 0:
        raise ScriptFailed(f"the script ended with status {done.returncode}", done.returncode)
    with np.load(seen) as arrays:
        final = {key: arrays[key] for key in arrays.files if key.startswith("final/")}
        return Witnessed(arrays["steps"], final)


def keep_in_trace(result: SelfTest, store: str) -> None:
    """Writes the outcome into a trace, beside what wrote the trace."""
    path = os.path.join(store, ".zattrs")
    with open(path) as file:
        attributes = json.load(file)
    attributes.setdefault("tracediff", {})["selftest"] = result.as_json()
    with open(path + ".new", "w") as file:
        json.dump(attributes, file, indent=4)
    os.replace(path + ".new", path)
