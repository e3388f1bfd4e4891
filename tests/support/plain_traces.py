"""Write a small trace with the recorder, and read it by the page of the format alone.

Nothing of the recorder's code is used to read: docs/trace-format.md and plain zarr do.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import xxhash
import zarr

from tracediff_hooks.recorder import Recorder, TensorSpec

PROGRAM = Path(__file__).resolve().parents[1] / "hooks" / "programs" / "recorder_contract.py"
ABSENT = (0, 0)


def load_story():
    spec = importlib.util.spec_from_file_location("recorder_contract", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STORY = load_story()


class Plain:
    """A run, read by the format page."""

    def __init__(self, path, run="run-0"):
        self.group = zarr.open_group(path, mode="r")[run]
        self.about = self.group.attrs["run"]
        self.lines = {(line["role"], line["name"]): line for line in self.about["tensors"]}
        self.steps = int(self.group["progress"][0])

    def versions(self, role, name):
        line = self.lines[role, name]
        return self.group[line["table"]]["version"][:, line["column"]].tolist()

    def digests(self, role, name):
        line = self.lines[role, name]
        return [tuple(map(int, d)) for d in self.group[line["table"]]["digest"][:, line["column"]]]

    def stored(self, role, name):
        """Every stored value, in the order of versions; of sparse ones (values, rows)."""
        line = self.lines[role, name]
        at = self.group[line["path"]]
        if line["layout"] == "fixed":
            return list(at[...])
        values, start, row = [], 0, 0
        for padded in at["shape"][...]:
            shape = tuple(int(extent) for extent in padded if extent >= 0)
            end = start + int(np.prod(shape, dtype=np.int64))
            value = at["data"][start:end].reshape(shape)
            if line["layout"] == "sparse":
                rows = at["rows"][row : row + shape[0]]
                row += shape[0]
                value = value, rows
            values.append(value)
            start = end
        return values

    def rows(self, role, name):
        """The value of each row of the table, None where it was not observed or not kept."""
        stored = self.stored(role, name)
        return [None if v < 0 else stored[v] for v in self.versions(role, name)]

    def external(self):
        """(step, name, version, digest) of every change between steps."""
        part = self.group["external"]
        names = {
            line["column"]: line["name"]
            for line in self.about["tensors"]
            if line["table"] == "state"
        }
        return [
            (int(step), names[int(column)], int(version), tuple(map(int, digest)))
            for step, column, version, digest in zip(
                *(part[array][...] for array in ("step", "column", "version", "digest")),
                strict=True,
            )
        ]


def hash_of(*arrays):
    """The format page's digest: low and high word of the XXH3 hash of the bytes."""
    joined = b"".join(np.asarray(array).tobytes() for array in arrays)
    value = xxhash.xxh3_128(joined).intdigest()
    return value & (2**64 - 1), value >> 64


def weight(name="w", dtype="float32", shape=(2,), **more):
    return TensorSpec(name, "weight", dtype, shape, **more)


def observed(name, role, dtype="float32", shape=(), **more):
    return TensorSpec(name, role, dtype, shape, **more)


def f4(*values):
    return np.array(values, np.float32)


def record(path, specs, steps, **options):
    """Records steps of (before, after) or (before, observed, after), dicts by (role, name)."""
    recorder = Recorder(path, **options)
    recorder.begin_run({}, specs)
    for step in steps:
        before, seen, after = step if len(step) == 3 else (step[0], {}, step[1])
        recorder.record_step(before=before, observed=seen, after=after)
    recorder.close()
    return Plain(path)


def weights(*values, name="w"):
    return [{("weight", name): f4(value, value)} for value in values]
