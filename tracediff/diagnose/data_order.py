"""The same samples in another order, or cut into other batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from tracediff.diagnose.case import Case, Key
from tracediff.diagnose.moved import which_rows
from tracediff.diagnose.rows import Batch, batches, left_out, permutation
from tracediff.model import Finding

_MOSTLY = 0.5
"""A share of samples found elsewhere from which on the order is the likelier explanation."""


def data_order(case: Case) -> Iterable[Finding]:
    """Find inputs whose rows B has elsewhere in the same batch, or in other batches."""
    places = case.firsts("input")
    if not places:
        return
    place = places[0]
    key = place.track.pair.key
    if place.track.pair.a is None or place.track.pair.b is None:
        return
    found = list(batches(case, [key], first=place.step))
    here = next((batch for batch in found if batch.step == place.step), None)
    if here is None:
        return
    missing = _missing(case, found, here, key[1])
    if missing is not None:
        yield missing
        return
    if len(here.a) != len(here.b):
        batching = _batching(case, found, here)
        lines = (*batching.evidence, *which_rows(case, key, here.step))
        yield replace(batching, evidence=lines)
        return
    order = permutation(here.a, here.b)
    if order is not None and order != sorted(order):
        moved = sum(index != row for index, row in enumerate(order))
        yield Finding(
            code="data.order",
            summary=f"The {len(here.a)} samples of {case.where(here.step)} are the same in both "
            f"runs, but {moved} of them stand in another row.",
            confidence=0.97,
            stage="data",
            step=here.step,
            subject=key[1],
            evidence=(
                f"row by row, {key[1]} holds the same {len(here.a)} rows in both batches",
                (
                    f"rows 0 to {min(5, len(order) - 1)} of B are rows "
                    f"{', '.join(map(str, order[:6]))} of A"
                ),
                *which_rows(case, key, here.step),
                *_elsewhere(found, here),
                *_labels_follow(case, key, here.step),
            ),
        )
        return
    known = Counter(row for batch in found for row in batch.a)
    share = sum(row in known for row in here.b) / max(1, len(here.b))
    wrong = sum(one != other for one, other in zip(here.a, here.b, strict=True))
    outside = sum(row in known and row not in here.a for row in here.b)
    rows_a, rows_b = _counted(found)
    common = sum((rows_a & rows_b).values()) / max(1, sum(rows_b.values()))
    # One row that A has elsewhere may be a repeated sample; not where nothing else is in B.
    if share >= _MOSTLY and outside and (wrong > 1 or rows_a == rows_b):
        steps = f"steps {found[0].step} to {found[-1].step}"
        yield Finding(
            code="data.order",
            summary=f"From {case.where(here.step)} on, the samples come in another order: "
            f"{outside} of B's {len(here.b)} samples stand in other batches of A.",
            confidence=round(min(0.97, 0.6 + 0.4 * common), 2),
            stage="data",
            step=here.step,
            subject=key[1],
            evidence=(
                f"over {steps}, {common:.0%} of B's samples are A's, row for row",
                f"at step {here.step}, {wrong} of {len(here.b)} rows hold another sample",
                *which_rows(case, key, here.step),
                *_elsewhere(found, here),
                *_labels_follow(case, key, here.step),
            ),
        )


def _missing(case: Case, found: list[Batch], here: Batch, name: str) -> Finding | None:
    """Find samples that one run leaves out, or takes twice, and goes on after."""
    stream_a = [row for batch in found for row in batch.a]
    stream_b = [row for batch in found for row in batch.b]
    left = left_out(stream_a, stream_b, most=max(1, max(len(here.a), len(here.b)) - 1))
    if left is None:
        return None
    side, other = ("A", "B") if left.only_a else ("B", "A")
    count = left.only_a or left.only_b
    begin, batch, rows = 0, found[0], found[0].a
    for batch in found:
        rows = batch.a if left.only_a else batch.b
        if left.place < begin + len(rows):
            break
        begin += len(rows)
    if left.place == begin and count >= len(rows):
        return None  # A whole batch is a matter of batching
    if len(here.a) != len(here.b) and left.place + count == begin + len(rows):
        return None  # So is the end of one, where the other is shorter
    row = left.place - begin
    stream = stream_a if left.only_a else stream_b
    again = stream[left.place] in stream[max(0, left.place - len(rows)) : left.place]
    which = f"row {row}" if count == 1 else f"rows {row} to {row + count - 1}"
    how = "twice" if again else f"not in {other}"
    return Finding(
        code="data.content",
        summary=f"{which.capitalize()} of {name} at {case.where(batch.step)} of {side} "
        f"{'is' if count == 1 else 'are'} {how}: {other} goes on with the samples after "
        f"{'it' if count == 1 else 'them'}.",
        confidence=0.95,
        stage="data",
        step=here.step,
        subject=name,
        a=count if left.only_a else 0,
        b=count if left.only_b else 0,
        evidence=(
            (
                f"sample {left.place} of the epoch is the first that differs; from sample "
                f"{left.place + count} of {side} on, {other} has the same, {count} earlier"
            ),
            *_elsewhere(found, here),
        ),
        remedy="look for a filter, a skipped record or a repeated one in the pipeline that differs",
    )


def _counted(found: list[Batch]) -> tuple[Counter[int], Counter[int]]:
    """Return how often each row occurs in A and in B."""
    return (
        Counter(row for batch in found for row in batch.a),
        Counter(row for batch in found for row in batch.b),
    )


def _batching(case: Case, found: list[Batch], here: Batch) -> Finding:
    stream_a = [row for batch in found for row in batch.a]
    stream_b = [row for batch in found for row in batch.b]
    length = min(len(stream_a), len(stream_b))
    same = sum(one == other for one, other in zip(stream_a, stream_b, strict=False))
    evidence = [f"step {here.step} takes {len(here.a)} samples in A and {len(here.b)} in B"]
    if same == length:
        evidence.append(f"the first {length} samples come in the same order in both runs")
    else:
        common = sum((Counter(stream_a) & Counter(stream_b)).values())
        evidence.append(f"{common} of {length} samples are in both runs")
    smaller = min(len(here.a), len(here.b))
    if smaller < max(len(batch.a) for batch in found) and here.step > found[0].step:
        evidence.append("one run has a partial batch where the other has a full one")
    return Finding(
        code="data.batching",
        summary=f"Batches differ in size: {len(here.a)} samples in A, {len(here.b)} in B, at "
        f"{case.where(here.step)}.",
        confidence=0.97,
        stage="data",
        step=here.step,
        subject="batch size",
        a=len(here.a),
        b=len(here.b),
        evidence=tuple(evidence),
    )


def _elsewhere(found: list[Batch], here: Batch) -> list[str]:
    earlier = [batch for batch in found if batch.step < here.step and batch.a == batch.b]
    differing = [batch.step for batch in found if batch.a != batch.b]
    result = []
    if earlier:
        result.append(f"the {len(earlier)} batches of this epoch before it are equal")
    result.append(f"{len(differing)} of {len(found)} batches looked at differ")
    return result


def _labels_follow(case: Case, key: Key, step: int) -> list[str]:
    """Say whether the labels went the same way as the inputs."""
    labels = [one.track.pair.key for one in case.judged("label")]
    if not labels:
        return []
    found = list(batches(case, [key, *labels], first=step))
    rows_a, rows_b = _counted(found)
    total = sum(rows_b.values())
    if not total:
        return []
    share = sum((rows_a & rows_b).values()) / total
    if share >= _MOSTLY:
        return [f"the labels moved with their samples ({share:.0%} of the pairs are found again)"]
    return ["the labels did not move with their samples"]


def labels_moved_along(case: Case, step: int) -> bool:
    """Say whether inputs and labels together are the same samples, in another order."""
    keys = [one.track.pair.key for one in case.judged("input", "label")]
    found = list(batches(case, keys, first=step))
    rows_a, rows_b = _counted(found)
    total = sum(rows_b.values())
    return total > 0 and sum((rows_a & rows_b).values()) / total >= _MOSTLY
