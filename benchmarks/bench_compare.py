"""Prints what comparing costs: `compare` over numpy's `norm(a - b)` on the same bytes.

The two traces differ everywhere. The larger pair takes 2.6 GB of disk.
"""

import os
import tempfile
import time
from pathlib import Path

import checkout  # noqa: F401 - puts what follows on the path
import numpy as np
import zarr

from tracediff.compare import compare
from tracediff_hooks.recorder import Recorder, TensorSpec

SIZES = (40, 160)
"""Steps of the pairs."""
TENSORS = 8
SHAPE = (512, 512)
ROUNDS = 5


def record(path, seed, steps):
    """Writes a run whose weights all differ from those of another seed."""
    generator = np.random.default_rng(seed)
    names = [f"layer_{number}/kernel" for number in range(TENSORS)]
    recorder = Recorder(path, level="full")
    specs = [
        TensorSpec(name, "weight", "float32", SHAPE, layer=name.split("/")[0], order=number)
        for number, name in enumerate(names)
    ]
    recorder.begin_run({"model": {"layers": []}}, specs, expected_steps=steps)
    recorder.begin_fit({})
    state = {("weight", name): generator.random(SHAPE, np.float32) for name in names}
    for step in range(steps):
        after = {key: value + np.float32(1e-3) for key, value in state.items()}
        recorder.record_step(before=state, observed={}, after=after, batch=step)
        state = after
    recorder.close("complete")


def numpy_alone(a, b, steps):
    """Reads the same values with plain zarr, chunk by chunk, and takes the norm of differences."""
    runs = [zarr.open_group(path, mode="r")["run-0"] for path in (a, b)]
    total = 0
    for number in range(TENSORS):
        one, other = (run[f"values/weight/layer_{number}/kernel"] for run in runs)
        for start in range(0, steps + 1, one.chunks[0]):
            rows, others = one[start : start + one.chunks[0]], other[start : start + one.chunks[0]]
            for left, right in zip(rows, others, strict=True):
                np.linalg.norm(left - right)
            total += rows.nbytes + others.nbytes
    return total


def measure(steps):
    """Records two traces and prints the median and the range of several rounds."""
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder, "a.zarr"), Path(folder, "b.zarr")
        record(a, 1, steps)
        record(b, 2, steps)
        ratios, work = [], []
        for _ in range(ROUNDS):
            began, spent = time.perf_counter(), time.process_time()
            size = numpy_alone(a, b, steps)
            between, spent_between = time.perf_counter(), time.process_time()
            compare(a, b)
            ended, spent_end = time.perf_counter(), time.process_time()
            ratios.append((ended - between) / (between - began))
            work.append((spent_end - spent_between) / (spent_between - spent))
        print(
            f"{size >> 20} MiB: compare takes {np.median(ratios):.2f} times as long as zarr and "
            f"numpy alone ({min(ratios):.2f} to {max(ratios):.2f}), on {os.cpu_count()} cores, and "
            f"{np.median(work):.2f} times the work of one ({min(work):.2f} to {max(work):.2f})"
        )


if __name__ == "__main__":
    for number in SIZES:
        measure(number)
