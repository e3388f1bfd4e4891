"""What trainings on several replicas, or devices, are held against: numpy, and one device."""

from __future__ import annotations

import tracediff
from support.ways import WEIGHTS, assert_batches, batches_of, one_step, problem


def events(run, kind):
    return [event["message"] for event in run.about["events"] if event["kind"] == kind]


def of_parts(weights, x, y, *, replicas=2):
    """Loss and gradients of several replicas: each has its share of the rows, and the same say."""
    cut = -(-len(x) // replicas)
    starts = range(0, cut * replicas, cut)
    parts = [one_step(weights, x[at : at + cut], y[at : at + cut]) for at in starts]
    loss = sum(part.loss for part in parts) / replicas
    each = zip(*(part.gradients for part in parts), strict=True)
    return loss, [sum(gradients) / replicas for gradients in each]


def weights_at(run, step, moment="before"):
    return [run.read(run.tensor("weight", name), step, moment) for name in WEIGHTS]


def assert_undisturbed(answers, unwatched=()):
    """Every way was trained twice from one beginning: the weights are the same, bit for bit."""
    assert {name: facts["error"] for name, facts in answers.items() if "error" in facts} == {}
    watched = {name: facts for name, facts in answers.items() if name not in unwatched}
    assert len(watched) >= 2
    assert [name for name, facts in watched.items() if not facts["same_weights"]] == []
    # And nothing of the recorder is left on the model or the strategy.
    assert [name for name, facts in answers.items() if facts.get("left_behind")] == []
    assert [name for name, facts in answers.items() if facts.get("left_on_strategy")] == []


def assert_agrees_with_one_device(ways, name):
    two, one = (ways.folder / f"{name}{end}.zarr" for end in ("", "-one"))
    assert tracediff.open_trace(two).runs[0].steps >= 2
    # A sum in two parts is rounded otherwise; that of one part is not.
    same = name in ("one_device", "one_replica")
    assert tracediff.compare(two, one).verdict in (
        ("identical",) if same else ("identical", "rounding")
    )


def assert_plainly_recorded(run):
    assert_batches(run, batches_of(*problem(22)))
    assert "replicas" not in run.about["capture"]
    assert run.about["events"] == []
