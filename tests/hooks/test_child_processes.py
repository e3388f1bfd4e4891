"""What processes train that a recorded script starts is recorded, each to a trace of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.ways import ALL

import tracediff

PROGRAMS = Path(__file__).parent / "programs"
RECORD = ("-m", "tracediff_hooks", "record")
WEIGHTS = ("hidden/kernel", "hidden/bias", "out/kernel", "out/bias")


def load(path):
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


@pytest.mark.way(
    "processes that a script starts or forks, under `tracediff-record`",
    "recorded, a trace each",
    *ALL,
)
def test_started_and_forked_processes_have_a_trace_each(training, tmp_path):
    # Given a script that trains in a Python that it starts and in a process that it forks
    for name in ("plain", "recorded"):
        (tmp_path / name).mkdir()
    plain = training.run(PROGRAMS / "starting.py", training.name, tmp_path / "plain")
    # When the command runs it
    done = training.run(
        *RECORD, "-o", tmp_path / "a.zarr", PROGRAMS / "starting.py", training.name,
        tmp_path / "recorded",
    )  # fmt: skip
    # Then its children see the paths that they would see, and end with the same weights,
    assert done.stdout == plain.stdout
    assert json.loads(done.stdout)[1] == []
    expected = [load(tmp_path / "plain" / f"{child}.npz") for child in ("started", "forked")]
    found = [load(tmp_path / "recorded" / f"{child}.npz") for child in ("started", "forked")]
    for one, other in zip(expected, found, strict=True):
        assert [w.tobytes() for w in one] == [w.tobytes() for w in other]
    # each has a trace that ends with them, and the script, which trains nothing, has none
    traces = sorted(tmp_path.glob("a.child-*.zarr"))
    assert len(traces) == 2
    assert not (tmp_path / "a.zarr").exists()
    for trace in traces:
        (run,) = tracediff.open_trace(trace).runs
        assert (run.steps, run.status) == (3, "complete")
        for name, weight in zip(WEIGHTS, found[0], strict=True):
            assert np.array_equal(run.read(run.tensor("weight", name), 2, "after"), weight)
            assert run.find("gradient", name) is not None


def test_a_sitecustomize_of_the_users_own_still_runs(keras23, tmp_path):
    # Given one on PYTHONPATH, and a script that starts a Python
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("print('own')\n")
    (tmp_path / "script.py").write_text(
        "import subprocess, sys\n"
        "subprocess.call([sys.executable, '-c', 'import sys; print(sys.modules[\"sitecustomize\"]"
        ".__file__)'])\n"
    )
    from support.stacks import REPOSITORY

    paths = {"PYTHONPATH": f"{REPOSITORY / 'hooks'}:{own}"}
    # When the command runs it, then the child has it too
    done = keras23.run(*RECORD, "-o", "a.zarr", "script.py", cwd=tmp_path, env=paths, status=2)
    assert done.stdout.split() == ["own", "own", str(own / "sitecustomize.py")]
