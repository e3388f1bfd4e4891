"""A trace holds the same on every stack, whichever numpy and zarr wrote it.

Everything is read back with plain zarr, by the rules of docs/trace-format.md and with none of the
recorder's code.
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from support.plain_traces import PROGRAM, STORY, Plain, hash_of


@pytest.fixture(scope="module")
def written_here(tmp_path_factory):
    """The story, recorded by this interpreter."""
    folder = tmp_path_factory.mktemp("here")
    STORY.write(folder)
    return folder / "a.zarr"


@pytest.fixture(scope="module")
def written_there(stack, tmp_path_factory):
    """The story, recorded by a stack's own Python, numpy and zarr."""
    folder = tmp_path_factory.mktemp(stack.name)
    stack.run(PROGRAM, "write", folder)
    return folder / "a.zarr"


def assert_story(run):
    specs, steps = STORY.story()
    for name, role, _, _ in specs:
        expected = [steps[0][0][role, name]] + [after[role, name] for _, _, after in steps]
        for value, truth in zip(run.rows(role, name), expected):
            assert np.asarray(value).tobytes() == truth.tobytes(), name
            assert np.asarray(value).dtype == truth.dtype
        assert run.digests(role, name) == [hash_of(value) for value in expected]
    for step, (_, seen, _) in enumerate(steps):
        values, rows = run.rows("gradient", "never/changes")[step]
        assert np.array_equal(values, seen["gradient", "never/changes"][0])
        assert np.array_equal(rows, seen["gradient", "never/changes"][1])
        assert np.array_equal(run.rows("input", "input/0")[step], seen["input", "input/0"])
        loss = run.rows("loss", "loss")[step]
        assert struct.pack("<f", loss) == struct.pack("<f", seen["loss", "loss"])
    assert run.versions("weight", "never/changes") == [0] * 8
    assert run.rows("metric", "metric/late one") == [None] * 3 + [3, 4, 5, 6]
    changes = [change[:2] for change in run.external()]
    assert changes == [(2, "changed/outside"), (5, "changed/outside")]


def test_the_story_is_recorded_as_it_was_told(written_there):
    # Given the story of the contract, recorded by the oldest and the newest zarr, when it is read
    # by the newest, then every value and digest is as it was told
    assert_story(Plain(written_there))


def test_every_stack_writes_the_same_tables_and_values(written_there, written_here):
    # Given the story recorded here and on a stack, when all arrays of both are compared
    here, there = STORY.read(str(written_here)), STORY.read(str(written_there))
    # Then they have the same names, shapes, dtypes and bytes, but for the time that passed
    differ = [name for name in set(here) | set(there) if here.get(name) != there.get(name)]
    assert sorted(differ) == ["run-0/steps/seconds"]
    # and the attributes agree, but for the time it was
    one, other = (Plain(path).about for path in (written_here, written_there))
    assert {**one, "started": 0} == {**other, "started": 0}


def test_every_stack_reads_what_the_newest_zarr_writes(stack, written_here):
    # Given the story recorded here, when a stack's own zarr reads it
    there = json.loads(stack.run(PROGRAM, "read", written_here).stdout)
    # Then it finds what this one finds
    assert there == STORY.read(str(written_here))
