"""What a comparison costs: which bytes it reads, and how much memory it takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.compare import compare
from tracediff.errors import DamagedTrace
from tracediff.trace._store import StoredArray

ROOT = Path(__file__).parents[2]
LAYERS = 40


def wide_run(steps, *, rows, late=None):
    """A run of many layers; ``late`` is the layer whose last value is off."""
    random = np.random.default_rng(0)
    keys = [("weight", f"part{number}of40/kernel") for number in range(LAYERS)]
    initial = {key: random.normal(size=(rows, 64)).astype(np.float32) for key in keys}
    state, plan = initial, []
    for step in range(steps):
        after = {key: value + np.float32(1e-3) for key, value in state.items()}
        if late is not None and step == steps - 1:
            after[keys[late]] = after[keys[late]] * np.float32(1.01)
        plan.append(Step(after=after))
        state = after
    layers = [
        {"name": name.partition("/")[0], "class": "Dense", "config": {}, "inputs": []}
        for _, name in keys
    ]
    return RunPlan(plan, initial, about={"model": {"name": "wide", "layers": layers}})


@pytest.fixture
def read(monkeypatch):
    """The bytes of values that were read."""
    count = []
    read, read_into = StoredArray.read, StoredArray.read_into

    def counted(self, *arguments):
        before = len(count)
        found = read(self, *arguments)
        if "/values/" in self.where and len(count) == before:
            count.append(found.nbytes)
        return found

    def counted_into(self, start, out):
        done = read_into(self, start, out)
        if "/values/" in self.where and done:
            count.append(out.nbytes)
        return done

    monkeypatch.setattr(StoredArray, "read", counted)
    monkeypatch.setattr(StoredArray, "read_into", counted_into)
    return count


def test_one_late_difference_reads_little_of_the_traces(tmp_path, read):
    a = make_trace(tmp_path / "a.zarr", wide_run(60, rows=256))
    b = make_trace(tmp_path / "b.zarr", wide_run(60, rows=256, late=LAYERS - 1))
    comparison = compare(a, b)
    assert comparison.first_divergence.step == 59
    assert comparison.first_divergence.tensor == f"part{LAYERS - 1}of40/kernel"
    total = 2 * 61 * LAYERS * 256 * 64 * 4
    assert 0 < sum(read) < total / 100


def test_equal_traces_read_no_value(tmp_path, read):
    a = make_trace(tmp_path / "a.zarr", wide_run(5, rows=64))
    b = make_trace(tmp_path / "b.zarr", wide_run(5, rows=64))
    assert compare(a, b).verdict == "identical"
    assert not read


def test_a_chunk_that_is_shortened_meanwhile_is_damage(tmp_path, monkeypatch):
    # GIVEN values of 4 MiB, and somebody who shortens the chunks of B when some have been read
    for name, seed in (("a", 1), ("b", 2)):
        weight = np.random.default_rng(seed).random((1024, 1024), np.float32)
        keys = [("weight", f"layer_{number}/kernel") for number in range(2)]
        steps = [Step(after={key: weight + np.float32(n + 1) for key in keys}) for n in range(2)]
        make_trace(tmp_path / f"{name}.zarr", RunPlan(steps, dict.fromkeys(keys, weight)))
    read_into, count = StoredArray.read_into, []

    def shortened(self, start, out):
        count.append(self.where)
        if len(count) == 6:
            for chunk in (tmp_path / "b.zarr/run-0/values").rglob("*.0.0"):
                os.truncate(chunk, 1 << 12)
        return read_into(self, start, out)

    monkeypatch.setattr(StoredArray, "read_into", shortened)
    # WHEN, THEN
    with pytest.raises(DamagedTrace, match=r"b.zarr/run-0/values/weight/layer_\d/kernel"):
        compare(tmp_path / "a.zarr", tmp_path / "b.zarr")


_PEAK = """
import json, resource, sys
from tracediff.compare import compare
import scipy.stats, numpy as np
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = compare(*sys.argv[1:])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([found.verdict, (after - before) << 10]))
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in KiB on Linux only")
def test_memory_is_bounded_on_traces_larger_than_the_bound(tmp_path):
    # GIVEN two traces of 1.2 GiB each that differ everywhere
    for name, seed in (("a", 1), ("b", 2)):
        random = np.random.default_rng(seed)
        state = {
            ("weight", f"layer_{n}/kernel"): random.random((1024, 1024), np.float32)
            for n in range(6)
        }
        steps, first = [], dict(state)
        for _ in range(50):
            state = {key: value + np.float32(1e-3) for key, value in state.items()}
            steps.append(Step(after=state))
        make_trace(tmp_path / f"{name}.zarr", RunPlan(steps, first))
    # WHEN they are compared in a process of their own
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, tmp_path / "a.zarr", tmp_path / "b.zarr"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    verdict, grown = json.loads(done.stdout)
    # THEN no more memory was taken than docs/cli.md says: two caches, and two blocks a thread
    assert verdict == "diverged"
    threads = min(16, os.cpu_count() or 1)
    assert grown < (2 * 256 + 2 * 32 * threads + 128) << 20
