"""A long float32 weight over some steps, beside the formulas in float64, step by step."""

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.drift import track as track_module
from tracediff.drift import track_pair
from tracediff.drift.updates import AMPLIFICATION, STATE_FEEDBACK
from tracediff.model import Pair
from tracediff.trace import open_trace

SIZE = 70_001
STEPS = 9
KERNEL = ("weight", "hidden/kernel")
GRADIENT = ("gradient", "hidden/kernel")
SLOT = ("slot", "hidden/kernel/m")
EXTERNAL, STILL, WITHOUT, BROKEN = 3, 4, 5, 8
"""Steps: moved before it by something else; without an update; without a gradient; to a NaN."""

pytestmark = pytest.mark.usefixtures("either_way")


def a_run(folder, seed):
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    weight, slot = (common.normal(size=SIZE).astype(np.float32) for _ in range(2))
    weight[::7] += np.float32(1e-3) * own.normal(size=len(weight[::7])).astype(np.float32)
    initial, steps = {KERNEL: weight, SLOT: slot}, []
    for step in range(STEPS):
        before = {}
        if step == EXTERNAL:
            weight = weight + np.float32(0.01 * seed)
            before = {KERNEL: weight}
        gradient = common.normal(size=SIZE) + 1e-3 * own.normal(size=SIZE)
        gradient = gradient.astype(np.float32)
        slot = np.float32(0.9) * slot + np.float32(0.1) * gradient
        if step == EXTERNAL:
            weight = initial[KERNEL]  # What leads back to an earlier value is an update, too.
        elif step != STILL:
            weight = weight - np.float32(1e-2) * slot
        if step == BROKEN:
            weight = weight.copy()
            weight[60_000] = np.nan
        observed = {} if step == WITHOUT else {GRADIENT: gradient}
        after = {KERNEL: weight, SLOT: slot}
        steps.append(Step(observed=observed, after=after, before=before))
    plan = RunPlan(steps, initial)
    return open_trace(make_trace(folder / f"{seed}.zarr", plan)).runs[0]


def pair(key):
    return Pair(role=key[0], name=key[1], a=key[1], b=key[1])


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    return a_run(folder, 1), a_run(folder, 2)


@pytest.fixture(params=[32 << 20, 1], ids=["all steps at once", "step by step"])
def track(both, request, monkeypatch):
    monkeypatch.setattr(track_module, "BLOCK_BYTES", request.param)
    options = {"gradient": pair(GRADIENT), "slots": [pair(SLOT)]}
    return track_pair(*both, pair(KERNEL), steps=STEPS, **options)


def values(both, key, step, moment="before"):
    return [run.read(run.find(*key), step, moment).astype(np.float64) for run in both]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_values_are_measured_as_in_float64(both, track, moment):
    for step in range(STEPS):
        cell = (track.before if moment == "before" else track.after)[step]
        a, b = values(both, KERNEL, step, moment)
        finite = np.isfinite(a) & np.isfinite(b)
        x, y = a[finite], b[finite]
        assert cell["norm_difference"] == pytest.approx(np.linalg.norm(x - y), rel=1e-6)
        assert cell["norm_a"] == pytest.approx(np.linalg.norm(x), rel=1e-6)
        assert cell["norm_b"] == pytest.approx(np.linalg.norm(y), rel=1e-6)
        assert cell["cosine"] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        assert cell["different"] == np.count_nonzero(x != y)
        assert cell["max_abs"] == pytest.approx(np.abs(x - y).max(), rel=1e-6)
        assert cell["non_finite_a"] == cell["non_finite_b"] == SIZE - len(x)


def unexplained(both, step):
    """What is left of the difference of two updates, as `UpdateDrift` says."""
    (w_a, w_b), (after_a, after_b) = (
        values(both, KERNEL, step, end) for end in ("before", "after")
    )
    one, other = after_a - w_a, after_b - w_b
    relative = np.zeros(SIZE)
    for key in (SLOT,) if step == WITHOUT else (GRADIENT, SLOT):
        x, y = values(both, key, step)
        relative = np.maximum(relative, np.abs(x - y) / np.maximum(np.abs(x), np.abs(y)))
    inherited = AMPLIFICATION * relative * np.maximum(np.abs(one), np.abs(other))
    rest = np.abs(one - other) - inherited - STATE_FEEDBACK * np.abs(w_a - w_b)
    return one, other, np.linalg.norm(np.maximum(rest, 0.0))


def test_updates_are_measured_as_in_float64(both, track):
    for step in range(STEPS - 1):
        one, other, left = unexplained(both, step)
        found, moves = track.update[step], track.moves[step]
        size = np.linalg.norm(one)
        _, after_b = values(both, KERNEL, step, "after")
        # Differences of float32 are off by half a unit of the weight, as the update itself is.
        assert moves["norm_a"] == pytest.approx(size, rel=1e-6)
        assert moves["norm_b"] == pytest.approx(np.linalg.norm(other), rel=1e-6)
        assert found["norm_difference"] == pytest.approx(np.linalg.norm(one - other), rel=1e-5)
        assert found["unexplained"] == pytest.approx(left, rel=1e-4, abs=2e-7 * size)
        assert found["weight_norm"] >= np.linalg.norm(after_b) * (1 - 1e-6)
        assert moves["differs"] == (step != STILL)


def test_an_update_to_what_is_not_finite_is_measured_too(both, track):
    one, other, _ = unexplained(both, BROKEN)
    there = np.isfinite(one) & np.isfinite(other)
    assert track.update["present"][BROKEN]
    apart = np.linalg.norm((one - other)[there])
    assert track.moves["norm_difference"][BROKEN] == pytest.approx(apart, rel=1e-5)


def test_a_value_is_read_once(both, monkeypatch):
    run, read = both[0], []
    original = type(run).read_many

    def noted(self, tensor, versions, digests, **options):
        read.extend((self.path, int(version)) for version in versions)
        return original(self, tensor, versions, digests, **options)

    monkeypatch.setattr(type(run), "read_many", noted)
    track_pair(*both, pair(KERNEL), steps=STEPS)
    assert len(read) == len(set(read)) > STEPS
