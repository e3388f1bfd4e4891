"""Records a fixed story, or says what a trace holds, with nothing but the zarr of this environment.

`python recorder_contract.py write FOLDER` writes `FOLDER/a.zarr`, the same on every stack.
`python recorder_contract.py read TRACE` prints, as one JSON object, every array in it: path ->
[shape, dtype, hash of the bytes], as this zarr reads them.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
)
SHAPES = ((), (1,), (3, 2), (0,), (2, 0, 3))
STEPS = 7


def numbers(seed, shape, dtype="float32"):
    """Numbers that are the same bytes on every numpy: an integer hash of their place."""
    count = int(np.prod(shape, dtype=np.int64))
    place = np.arange(count, dtype=np.uint64) + np.uint64(1000003 * (seed + 1))
    mixed = (place * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return (mixed % np.uint64(251)).astype(dtype).reshape(shape)


def story():
    """Everything that is recorded: (specs, steps), each step (before, observed, after)."""
    specs = []
    for dtype in DTYPES:
        for number, shape in enumerate(SHAPES):
            specs.append((f"{dtype}/{number}", "weight", dtype, shape))
    specs.append(("never/changes", "weight", "float32", (5,)))
    specs.append(("changed/outside", "weight", "float32", (5,)))
    steps = []
    state = {("weight", s[0]): numbers(0, s[3], s[2]) for s in specs}
    for step in range(STEPS):
        before = dict(state)
        if step in (2, 5):
            before["weight", "changed/outside"] = numbers(100 + step, (5,))
        after = {}
        for name, role, dtype, shape in specs:
            seed = 0 if name == "never/changes" else step // 2 + 1
            after[role, name] = numbers(seed, shape, dtype)
        observed = {
            ("loss", "loss"): np.array([1.5, np.nan, np.inf, -0.0, 0.0, 1e-40, 2.0], "f4")[step],
            ("input", "input/0"): numbers(step % 3, (4 - step % 2, 2)),
            ("gradient", "never/changes"): (
                numbers(step, (2, 3)),
                np.array([4, step % 5], np.int64),
            ),
        }
        if step >= 3:
            observed["metric", "metric/late one"] = np.array(step, "f8")
        steps.append((before, observed, after))
        state = after
    return specs, steps


def write(folder):
    from tracediff_hooks.recorder import Recorder, SparseRows, TensorSpec

    specs, steps = story()
    recorder = Recorder(Path(folder) / "a.zarr")
    recorder.begin_run(
        {"about": {"number": 1, "nothing": None}},
        [TensorSpec(name, role, dtype, shape) for name, role, dtype, shape in specs],
        expected_steps=STEPS,
    )
    recorder.begin_fit({"epochs": 1})
    recorder.declare(TensorSpec("loss", "loss", "float32", ()))
    recorder.declare(TensorSpec("input/0", "input", "float32", None, ragged=True))
    recorder.declare(TensorSpec("never/changes", "gradient", "float32", (5, 3), sparse=True))
    for step, (before, observed, after) in enumerate(steps):
        values = dict(observed)
        values["gradient", "never/changes"] = SparseRows(*values["gradient", "never/changes"])
        if step == 3:
            recorder.declare(TensorSpec("metric/late one", "metric", "float64", ()))
        recorder.record_step(before=before, observed=values, after=after, epoch=0, batch=step)
        if step == 4:
            recorder.flush()
    recorder.close()
    return {}


def read(path):
    import zarr

    found = {}

    def visit(group, prefix):
        for name, array in group.arrays():
            value = np.ascontiguousarray(array[...])
            digest = hashlib.sha256(value.tobytes()).hexdigest()
            found[prefix + name] = [list(value.shape), value.dtype.str, digest]
        for name, inner in group.groups():
            visit(inner, prefix + name + "/")

    visit(zarr.open_group(path, mode="r"), "")
    return found


if __name__ == "__main__":
    print(json.dumps({"write": write, "read": read}[sys.argv[1]](sys.argv[2])))
