"""Compare two recorded runs: pair, measure, judge, find the first difference, explain it.

The result is one frozen `Comparison`. Nothing is printed.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, TypeAlias

from tracediff.align import (
    Pairing,
    StepMap,
    align_steps,
    aligned,
    pair_tensors,
    scale_notes,
    with_counter,
    with_scales,
)
from tracediff.compare._alignment import AlignOptions as AlignOptions
from tracediff.compare._alignment import align_options as align_options
from tracediff.compare._alignment import mapping_of as mapping_of
from tracediff.compare._examination import Examination as Examination
from tracediff.compare._floor import floor_of
from tracediff.compare._follow import Progress as Progress
from tracediff.compare._follow import Values, external_steps, follow
from tracediff.compare._layers import layer_rows
from tracediff.compare._lockstep import local_errors
from tracediff.compare._own_batches import of_batches, own_batches_notes
from tracediff.compare._own_rules import with_own_changes, with_own_rules
from tracediff.compare._repeats import Repeated, described, measured, shorter, sorted_out
from tracediff.compare._skipped import without_skipped
from tracediff.compare._summary import describe, drift_rows, notes, run_summary
from tracediff.compare._variances import with_variances
from tracediff.compare.bounds import Bounds as Bounds
from tracediff.compare.bounds import bounded, without_ignored
from tracediff.compare.bounds import bounds as bounds
from tracediff.compare.bounds import parse_rules as parse_rules
from tracediff.compare.cache import cache_key, keep, load
from tracediff.diagnose import Case, diagnose
from tracediff.drift import Track
from tracediff.errors import NothingComparable
from tracediff.model import Comparison, Side, Steps, Verdict
from tracediff.onset import Onset, find_onset, has_kinks, judge
from tracediff.trace import Run, Trace, open_trace

Source: TypeAlias = "str | os.PathLike[str] | Trace | Run"


@dataclass(frozen=True, slots=True)
class Repeats:
    """Further runs of the scripts that A and B are runs of.

    Attributes:
        either: Of whichever run they fit: by configuration, initial weights and batches.
        a: Of A.
        b: Of B.
    """

    either: tuple[Source, ...] = ()
    a: tuple[Source, ...] = ()
    b: tuple[Source, ...] = ()


def compare(
    a: Source,
    b: Source,
    *,
    align: AlignOptions | None = None,
    progress: Progress | None = None,
    within: Bounds | None = None,
    repeats: Repeats | Sequence[Source] = (),
    cache: bool = False,
) -> Comparison:
    """Compare two runs step by step.

    Of two runs of different length the common steps are compared. Values are read only where
    digests differ, and a few at a time.

    Args:
        a: A run: its path (``a.zarr`` for the first run of a trace, ``a.zarr/run-1`` for another),
            an opened trace, or a run of one.
        b: The other run.
        align: How to find what belongs together, where it is not to be found by itself.
        progress: Called with the bytes of both runs that are compared, and their total.
        within: Tolerances to judge by instead of what rounding explains.
        repeats: Repeats of A or of B, which measure how far runs of one script are apart: as a
            sequence, each is taken for one of the run whose configuration, initial weights and
            batches it has; `Repeats` says of which.
        cache: Whether to take the result from the cache where it is there, and to keep it there.

    Returns:
        What differs first, what explains it, and how every tensor drifts.

    Raises:
        NothingComparable: The runs have no complete step, or no weight and no input, in common.
        DamagedTrace: Something that was recorded cannot be read.
        UsageError: ``align`` asks for what the runs do not hold, or a repeat cannot be one.
        TracediffError: A path holds no trace.

    Example:
        >>> from tracediff.compare import compare
        >>> compare("a.zarr", "b.zarr").verdict  # doctest: +SKIP
        'diverged'
    """
    return examine(
        a, b, align=align, progress=progress, within=within, repeats=repeats, cache=cache
    ).comparison


def examine(
    a: Source,
    b: Source,
    *,
    align: AlignOptions | None = None,
    progress: Progress | None = None,
    within: Bounds | None = None,
    repeats: Repeats | Sequence[Source] = (),
    cache: bool = False,
) -> Examination:
    """Compare two runs, and keep what the comparison rests on: every tensor at every step.

    Args:
        a: As for `compare`.
        b: The other run.
        align: As for `compare`.
        progress: As for `compare`; what it raises ends the comparison.
        within: As for `compare`.
        repeats: As for `compare`.
        cache: As for `compare`.

    Raises:
        TracediffError: As for `compare`.
    """
    source_a, source_b = open_run(a), open_run(b)
    chosen, limits = align or AlignOptions(), within or Bounds()
    given = repeats if isinstance(repeats, Repeats) else Repeats(either=tuple(repeats))
    opened = [[open_run(one) for one in some] for some in (given.either, given.a, given.b)]
    runs = [source_a, source_b, *itertools.chain(*opened)]
    options = chosen.identity(), limits, [len(some) for some in opened]
    key = cache_key(runs, options) if cache else None
    found = load(key, source_a, source_b)
    if found is None:
        either, of_a, of_b = opened
        _refuse_empty(source_a, source_b)
        repeated = sorted_out(source_a, source_b, either=either, of_a=of_a, of_b=of_b)
        found, matched = _examined(source_a, source_b, chosen, limits, repeated, progress)
        # What was being written meanwhile is neither what it was nor what it will be.
        if key is not None and key == cache_key(runs, options):
            keep(key, found, matched)
    return found


def _refuse_empty(source_a: Run, source_b: Run) -> None:
    if not min(source_a.steps, source_b.steps):
        empty = source_a if not source_a.steps else source_b
        failures = [one["message"] for one in empty.about["events"] if one["kind"] == "failure"]
        raise NothingComparable(
            f"{empty.path} holds no complete step, so there is nothing to compare",
            hint=f"its recorder gave up ({failures[0]}): mend that, and record it again"
            if failures
            else "a step is complete when its update has been recorded; let it train longer",
        )


def _examined(
    source_a: Run,
    source_b: Run,
    chosen: AlignOptions,
    limits: Bounds,
    repeated: Repeated,
    progress: Progress | None,
) -> tuple[Examination, StepMap]:
    pairing = pair_tensors(source_a, source_b, chosen.overrides(source_a, source_b))
    matched = align_steps(source_a, source_b, pairing, chosen.steps)
    pairing = with_counter(source_a, source_b, pairing, matched)
    pairing = with_scales(source_a, source_b, pairing, matched)
    unpaired = of_batches(without_ignored(pairing.unpaired, limits), source_a, source_b)
    pairing = replace(pairing, unpaired=unpaired)
    run_a, run_b = aligned(source_a, source_b, pairing, matched)
    steps = len(matched.b)
    tracks = follow(run_a, run_b, pairing, steps=steps, progress=progress)
    sides: dict[Side, Run] = {"a": run_a, "b": run_b}
    spread = measured(sides, repeated, pairing, matched, progress)
    if not any(map(_in_common, tracks.values())):
        raise NothingComparable(
            f"{run_a.path} and {run_b.path} have no weight and no input in common",
            hint="are these runs of the same model? tracediff info shows what each one holds",
        )
    values = Values(run_a, run_b)
    judged = judge(
        tracks,
        about=run_a.about,
        trainable={t.name: t.trainable for t in run_a.tensors if t.role == "weight"},
        external=external_steps(run_a, run_b, pairing, steps),
        norm=values.norm,
        rows=values.rows,
        roundings=values.roundings(),
        moved=values.moved,
        eps=values.eps(),
        age=matched.age,
        spread=spread,
        same_libraries=_libraries(run_a) == _libraries(run_b) is not None,
    )
    judged = with_variances(judged, run_a, run_b)
    judged = without_skipped(judged, source_a, source_b)
    if repeated:
        judged = with_own_rules(judged, run_a, run_b, pairing)
        judged = with_own_changes(judged, run_a, run_b, pairing)
    onset = find_onset(
        bounded(judged, limits),
        kinks=has_kinks(run_a.about),
        sensitivity=lambda step: values.sensitivity(tracks, step),
    )
    verdict: Verdict = (
        "diverged" if matched.departs is not None else _verdict(pairing, tracks, onset)
    )
    case = Case(run_a, run_b, pairing, onset, steps, verdict, matched.start, matched.departs)
    comparison = Comparison(
        a=run_summary(source_a),
        b=run_summary(source_b),
        verdict=verdict,
        first_bit_difference=describe(onset, onset.first_bit, case, agreed=False),
        first_divergence=describe(onset, onset.first, case, agreed=True),
        causes=diagnose(case),
        drift=drift_rows(onset),
        pairs=pairing.pairs,
        unpaired=pairing.unpaired,
        steps=Steps(
            source_a.steps,
            source_b.steps,
            matched.compared,
            matched.by,
            offset=matched.offset,
            reason=matched.reason,
        ),
        notes=(
            *notes(source_a, source_b, pairing, tracks, matched),
            *scale_notes(source_a, source_b, pairing, matched),
            *shorter(repeated, steps),
            *own_batches_notes(source_a, source_b, lambda own: compare(source_a, own)),
        ),
        bounded=limits.given,
        lockstep=local_errors(source_a, source_b, judged),
        layers=layer_rows(onset, run_a, run_b),
        floor=floor_of(onset, described(repeated), bounded=limits.given),
    )
    return Examination(comparison, case), matched


def open_run(source: Source) -> Run:
    """Return the run that ``source`` stands for: of a trace with several, the first.

    Raises:
        NothingComparable: The trace holds no run.
        TracediffError: There is no trace.
    """
    if isinstance(source, Run):
        return source
    trace = source if isinstance(source, Trace) else open_trace(source)
    if not trace.runs:
        raise NothingComparable(
            f"{trace.path} holds no run", hint="recording begins with the first call of fit"
        )
    return trace.runs[0]


def _libraries(run: Run) -> dict[str, str] | None:
    """Return the versions of all that trained a run, the recorder aside; None where not told."""
    versions = (run.about.get("stack") or {}).get("versions")
    if not isinstance(versions, Mapping):
        return None
    return {name: str(one) for name, one in versions.items() if name != "tracediff_hooks"}


def _in_common(track: Track) -> bool:
    """Say whether a pair is ground to compare on: a weight, or an input of one shape."""
    if track.pair.role == "input":
        return bool((track.after["present"] & ~track.after["reshaped"]).any())
    return track.pair.role == "weight"


def _verdict(pairing: Pairing, tracks: dict[tuple[str, str], Track], onset: Onset) -> Verdict:
    if onset.first is not None or any(one.matters for one in pairing.unpaired):
        return "diverged"
    differs = any(
        track.after["differs"].any() or (track.before is not None and track.before["differs"].any())
        for track in tracks.values()
    )
    return "rounding" if differs else "identical"


class _Callable(ModuleType):
    """Lets ``tracediff.compare`` be the function, whichever of both was imported first."""

    def __call__(self, *arguments: Any, **options: Any) -> Comparison:
        function: Callable[..., Comparison] = compare
        return function(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
