"""The memory of decoded blocks is bounded, and threads share what is being loaded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracediff.trace._cache import BlockCache


@given(st.lists(st.integers(0, 9)), st.integers(0, 200))
def test_the_bound_holds_and_values_are_right(keys, limit):
    cache = BlockCache(limit=limit)
    for key in keys:
        block = cache.get(key, lambda key=key: np.full(8 * key, key, np.uint8))
        assert block.tolist() == [key] * (8 * key)
        assert cache.nbytes <= limit


def test_a_block_is_loaded_once_while_it_is_kept():
    loads = []
    cache = BlockCache(limit=100)

    def load():
        loads.append(1)
        return np.zeros(10)

    assert cache.get("a", load) is cache.get("a", load)
    assert len(loads) == 1


def test_the_least_recently_used_goes_first():
    loads = []
    cache = BlockCache(limit=20)

    def get(key):
        cache.get(key, lambda: loads.append(key) or np.zeros(10, np.uint8))

    for key in "abaca":
        get(key)
    assert loads == ["a", "b", "c"]
    get("b")
    assert loads == ["a", "b", "c", "b"]


def test_threads_that_want_one_block_load_it_once():
    loads = []
    arrived = threading.Barrier(4)
    release = threading.Event()
    cache = BlockCache(limit=100)

    def load():
        loads.append(1)
        release.wait(10)
        return np.arange(3)

    def get(_):
        arrived.wait(10)
        if len(loads) == 0:
            threading.Timer(0.05, release.set).start()
        return cache.get("a", load)

    with ThreadPoolExecutor(4) as executor:
        results = list(executor.map(get, range(4)))
    assert len(loads) == 1
    assert all(result.tolist() == [0, 1, 2] for result in results)


def test_a_failed_load_is_told_and_tried_again():
    cache = BlockCache()

    def fail():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get("a", fail)
    assert cache.get("a", lambda: np.arange(2)).tolist() == [0, 1]


def test_shared_blocks_cannot_be_written():
    block = BlockCache().get("a", lambda: np.zeros(2))
    with pytest.raises(ValueError, match="read-only"):
        block[0] = 1
