"""The cache: a pair compared once opens at once, and never as what it no longer is."""

import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from support.build import make_trace
from support.runs import ADAM, SGD, changed
from support.train import train

import tracediff.compare as comparing
from tracediff.cli import main
from tracediff.compare import AlignOptions, cache, compare, examine
from tracediff.compare._codec import NotCacheable, encode
from tracediff.report.comparison import to_json


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACEDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pair(tmp_path):
    a = make_trace(tmp_path / "a.zarr", train(changed(ADAM, batch_norm=True)))
    b = make_trace(tmp_path / "b.zarr", train(changed(ADAM, batch_norm=True, epsilon=1e-6)))
    return a, b


@pytest.fixture
def compared(monkeypatch):
    """How often runs were compared in earnest."""
    count = []
    original = comparing._examined

    def counted(*arguments):
        count.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(comparing, "_examined", counted)
    return count


def test_what_is_kept_is_what_was_found(pair, compared):
    fresh, kept = (examine(*pair, cache=True) for _ in range(2))
    assert len(compared) == 1
    assert to_json(kept.comparison) == to_json(fresh.comparison)
    assert kept.case.onset.first.key == fresh.case.onset.first.key
    for key, one in fresh.case.onset.judged.items():
        other = kept.case.onset.judged[key]
        for name in ("before", "after", "update", "moves"):
            left, right = getattr(one.track, name), getattr(other.track, name)
            assert (left is None) == (right is None)
            if left is not None:
                assert left.tobytes() == right.tobytes()
        assert np.array_equal(one.tolerance_after, other.tolerance_after)
    first = fresh.case.onset.first
    key = first.track.pair.key
    for left, right in zip(
        fresh.case.read(key, first.step, "after"),
        kept.case.read(key, first.step, "after"),
        strict=True,
    ):
        assert np.array_equal(left, right)


def test_without_the_cache_nothing_is_kept(pair, compared, folder):
    for _ in range(2):
        compare(*pair)
    assert len(compared) == 2
    assert not folder.exists()


def test_runs_seen_through_an_alignment_are_kept_too(tmp_path, compared):
    a = make_trace(tmp_path / "a.zarr", train(changed(SGD, steps=8)))
    b = make_trace(tmp_path / "b.zarr", train(changed(SGD, steps=6)))
    for _ in range(2):
        kept = compare(a, b, align=AlignOptions("batches"), cache=True)
    assert len(compared) == 1
    compare(a, b, align=AlignOptions("number"), cache=True)
    assert len(compared) == 2, "other options are another comparison"
    assert kept.steps.alignment == "batches"


def test_a_trace_that_changed_is_compared_again(pair, compared, tmp_path):
    assert compare(*pair, cache=True).verdict == "diverged"
    shutil.rmtree(pair[1])
    make_trace(pair[1], train(changed(ADAM, batch_norm=True)))
    assert compare(*pair, cache=True).verdict == "identical"
    assert len(compared) == 2


def test_a_touched_value_is_compared_again(pair, compared):
    compare(*pair, cache=True)
    chunk = next(path for path in sorted((pair[0] / "run-0/values").rglob("0*")) if path.is_file())
    os.utime(chunk, (1, 1))
    compare(*pair, cache=True)
    assert len(compared) == 2


def test_a_trace_that_grows_meanwhile_is_not_kept(pair, compared, monkeypatch, folder):
    original = comparing._examined

    def growing(*arguments):
        (pair[1] / "run-0/values/later").write_text("more")
        return original(*arguments)

    monkeypatch.setattr(comparing, "_examined", growing)
    compare(*pair, cache=True)
    assert not list(folder.glob("*"))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_file_is_made_again(pair, compared, folder, damage):
    compare(*pair, cache=True)
    (file,) = folder.glob("*.comparison")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(
        {"cut": content[:-40], "flip": content, "empty": b"", "other": b"hello" * 100}[damage]
    )
    compare(*pair, cache=True)
    compare(*pair, cache=True)
    assert len(compared) == 2


def test_what_was_not_asked_for_longest_goes_first(pair, tmp_path, monkeypatch, folder):
    third = make_trace(tmp_path / "c.zarr", train(changed(ADAM, steps=5)))
    compare(*pair, cache=True)
    (first,) = folder.glob("*.comparison")
    os.utime(first, (1, 1))
    monkeypatch.setattr(cache, "CACHE_LIMIT", int(first.stat().st_size * 2.1))
    compare(pair[0], third, cache=True)
    compare(pair[1], third, cache=True)
    assert not first.exists()
    assert list(folder.glob("*.comparison"))


def test_a_folder_that_cannot_be_written_is_no_trouble(pair, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRACEDIFF_CACHE", str(tmp_path / "file" / "cache"))
    assert compare(*pair, cache=True).verdict == "diverged"


def test_the_command_keeps_shows_and_clears(pair, capsys, folder):
    paths = [str(path) for path in pair]
    assert main(["compare", "--no-cache", *paths]) == 1
    without = capsys.readouterr().out
    assert not folder.exists()
    assert [main(["compare", *paths]) for _ in range(2)] == [1, 1]
    assert capsys.readouterr().out == 2 * without
    assert main(["cache"]) == 0
    assert "1 comparison, " in capsys.readouterr().out
    assert main(["cache", "clear"]) == 0
    assert not list(folder.glob("*"))
    capsys.readouterr()
    assert main(["cache", "show"]) == 0
    assert "0 comparisons" in capsys.readouterr().out


@dataclass
class Stranger:
    """A dataclass that is none of tracediff's."""

    value: int


def test_only_our_own_dataclasses_are_written():
    with pytest.raises(NotCacheable):
        encode(Stranger(1), preface=(), known={})
    with pytest.raises(NotCacheable):
        encode({"function": len}, preface=(), known={})
