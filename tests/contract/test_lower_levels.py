"""Real trainings at lower levels: what digests tell of them, and sketches, beside all elements."""

from pathlib import Path

import numpy as np
import pytest
from support.levels import at_level
from support.stacks import stack_or_skip

from tracediff.compare import compare
from tracediff.report.comparison import as_object, to_text
from tracediff.trace import SKETCH_ERROR, open_trace

PROGRAM = Path(__file__).parent / "programs" / "levels.py"
CHANGED = {
    # what was trained, and where it parts from the same without the change
    "momentum:rate": (0, "update", "optimizer/learning_rate"),
    "momentum:high": (0, "update", "optimizer/learning_rate"),
    "momentum:momentum": (1, "update", "wide/kernel/momentum"),
    "momentum:pixel": (9, "data", "input/0"),
    "momentum:weight": (0, "state", "narrow/kernel"),
    "adam:epsilon": (0, "update", "wide/kernel"),
    "adagrad:slots": (0, "state", "wide/kernel/accumulator"),
}
RUNS = {
    "keras2.3": ["digest/momentum"],
    "tf2.3": ["digest/momentum", "digest/adam"],
    "keras3": [
        *("digest/momentum", "digest/adam", "digest/adam:epsilon", "digest/momentum:rate"),
        *("full/momentum", "full/adam", "full/adagrad", *(f"full/{one}" for one in CHANGED)),
    ],
}
MARGIN = 5 * SKETCH_ERROR


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return where a run of a stack is, recorded with the others of the stack."""
    folders = {}

    def path(stack, run, level):
        if stack not in folders:
            folders[stack] = tmp_path_factory.mktemp(stack)
            stack_or_skip(stack).run(PROGRAM, folders[stack], *RUNS[stack])
        return folders[stack] / f"{run.replace(':', '-')}-{level}.zarr"

    return path


@pytest.fixture(scope="module")
def compared(recorded, tmp_path_factory):
    """Return the comparison of a changed run with the unchanged, at a level; each made once."""
    folder, known = tmp_path_factory.mktemp("again"), {}

    def trace(run, level):
        full = recorded("keras3", run, "full")
        if level == "full":
            return full
        path = folder / f"{run.replace(':', '-')}-{level}.zarr"
        if not path.exists():
            at_level(open_trace(full).runs[0], path, level)
        return path

    def pair(changed, level):
        if (changed, level) not in known:
            paths = [trace(run, level) for run in (changed.partition(":")[0], changed)]
            known[changed, level] = compare(*paths)
        return known[changed, level]

    return pair


@pytest.mark.parametrize(
    ("old", "new", "run"),
    [
        ("keras2.3", "tf2.3", "momentum"),
        ("tf2.3", "keras3", "momentum"),
        ("tf2.3", "keras3", "adam"),
    ],
)
def test_stacks_that_agree_but_for_rounding_do_so_by_digests(recorded, old, new, run):
    # when
    found = compare(recorded(old, run, "digest"), recorded(new, run, "digest"))
    # then: no divergence, and no more is said than is known
    assert found.verdict == "rounding", found.first_divergence
    assert found.first_divergence is None
    text = to_text(found)
    assert text.startswith("Nothing beyond rounding is visible in what digests keep.")
    assert "≥" in text
    (cause,) = found.causes
    assert cause.code == "rounding"
    assert any("--level sketch" in line for line in cause.evidence)
    rows = {(row["role"], row["tensor"]): row for row in as_object(found)["drift"]}
    bounded = {key for key, row in rows.items() if row["at_least"]}
    assert bounded
    # and: scalars are recorded in full, and are known
    assert not rows["loss", "loss"]["at_least"]


@pytest.mark.parametrize(
    ("base", "changed", "tensor"),
    [
        ("adam", "adam:epsilon", "wide/kernel"),
        ("momentum", "momentum:rate", "optimizer/learning_rate"),
    ],
)
def test_a_change_between_stacks_is_found_by_digests(recorded, base, changed, tensor):
    found = compare(recorded("tf2.3", base, "digest"), recorded("keras3", changed, "digest"))
    assert found.verdict == "diverged"
    first = found.first_divergence
    assert (first.step, first.stage, first.tensor) == (0, "update", tensor)
    assert found.causes[0].code == "optimizer.hyperparameter"
    assert first.at_least == (tensor == "wide/kernel")
    place = to_text(found).partition("First divergence")[2].partition("Before it")[0]
    assert ("relative L2 at least" in place) == first.at_least


@pytest.mark.parametrize("level", ["full", "sketch", "digest"])
@pytest.mark.parametrize("changed", CHANGED)
def test_the_first_divergence_is_the_same_at_every_level(compared, changed, level):
    found = compared(changed, level)
    first = found.first_divergence
    assert found.verdict == "diverged"
    assert (first.step, first.stage, first.tensor) == CHANGED[changed]


@pytest.mark.parametrize("changed", CHANGED)
def test_estimates_are_within_their_error_and_bounds_below_the_truth(compared, changed):
    full, sketch, digest = (compared(changed, level) for level in ("full", "sketch", "digest"))
    for true, estimated, bound in zip(full.drift, sketch.drift, digest.drift, strict=True):
        assert true.tensor == estimated.tensor == bound.tensor
        np.testing.assert_allclose(estimated.series, true.series, rtol=MARGIN, atol=1e-15)
        known = ~np.isnan(bound.series)
        assert (bound.series[known] <= true.series[known] * (1 + 1e-9)).all()
        assert bound.first_step == true.first_step
        if true.update is not None:
            for name in ("first", "median", "last", "max"):
                of_all = getattr(true.update.relative_l2, name)
                of_sketch = getattr(estimated.update.relative_l2, name)
                assert of_sketch == pytest.approx(of_all, rel=MARGIN, abs=1e-9), name
