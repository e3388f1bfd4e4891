"""The ladder of controls: what is left of a divergence when more and more of B is taken from A.

Each rung is a recorded run of B; this package compares them with A and says in which part of the
training the cause lies. It runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tracediff.compare import AlignOptions, compare
from tracediff.compare.parts import replay_of
from tracediff.errors import NotKept
from tracediff.ladder._model import Control as Control
from tracediff.ladder._model import Ladder as Ladder
from tracediff.ladder._model import Part as Part
from tracediff.ladder._model import Place as Place
from tracediff.ladder._model import Rung as Rung
from tracediff.ladder._places import place as place
from tracediff.ladder._places import places
from tracediff.outcome import final_value
from tracediff.trace import Run

OPTIONS: Mapping[Control, tuple[str, ...]] = MappingProxyType(
    {
        "none": (),
        "start": ("--initial-weights-from", "--own-slots"),
        "batches": ("--initial-weights-from", "--own-slots", "--batches-from"),
        "lockstep": ("--initial-weights-from", "--batches-from", "--lockstep"),
    }
)
"""What `tracediff-record` is given for each rung, lowest first.

Slots are left to B up to the last rung: that an optimizer begins with others is a cause of its own,
which does not lie in the initial weights.
"""


def ladder(
    a: Run,
    runs: Iterable[tuple[Control, Run]],
    *,
    align: AlignOptions | None = None,
    progress: Callable[[Control], None] | None = None,
) -> Ladder:
    """Compare controlled runs of B with A and say where the cause lies.

    Args:
        a: The run that was replayed.
        runs: The runs of B: with no control, with A's initial weights, with A's batches as well,
            and in lockstep.
        align: As for `compare`.
        progress: Called with each control before its comparison.

    Raises:
        TracediffError: As for `compare`.
    """
    final = _loss(a)
    rungs = []
    for control, run in runs:
        if progress is not None:
            progress(control)
        loss, about = _loss(run), replay_of(run) or {}
        rungs.append(
            Rung(
                control,
                run.path,
                compare(a, run, align=align),
                loss,
                loss - final,
                tuple(str(name) for name in about.get("uncontrolled") or ()),
                {**_reasons(about, "left_in_a"), **_reasons(about, "left_in_b")},
            )
        )
    return Ladder(a.path, final, tuple(rungs), places(rungs))


def check_replayable(a: Run) -> None:
    """Make sure that A kept what the rungs take from it: its state and its batches.

    Raises:
        NotKept: It did not, or there is nothing to keep.
    """
    hint = "record A again with level='full' (tracediff-record --level full)"
    taken = [one for one in a.tensors if one.role in ("weight", "slot", "input", "label")]
    for role, words in (("weight", "weights"), ("input", "batches")):
        if not a.steps or all(one.role != role for one in taken):
            what = f"no {words}" if a.steps else "no complete step"
            raise NotKept(f"{a.path} holds {what}, so it cannot be replayed", hint=hint)
    for tensor in taken:
        missing = a.observed(tensor) & ~a.kept(tensor)
        if missing.any():
            raise NotKept(
                f"{a.path} keeps no values of {tensor.role} {tensor.name} at step "
                f"{int(missing.argmax())} (level {a.about.get('level')}), so it cannot be replayed",
                hint=hint,
            )


def random_layers_off(a: Run) -> bool:
    """Say whether A trained with its random layers switched off, which B has to do as well then."""
    capture = a.about.get("capture")
    found = capture.get("random_layers") if isinstance(capture, Mapping) else None
    return isinstance(found, Mapping) and found.get("asked") == "off"


def _reasons(about: Mapping[str, Any], key: str) -> dict[str, str]:
    found = about.get(key)
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _loss(run: Run) -> float:
    try:
        return final_value(run)
    except LookupError:
        return math.nan
