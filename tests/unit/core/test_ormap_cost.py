"""A merge costs what has come, not what is there."""

from __future__ import annotations

import time

import pytest

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.ormap import Entry
from bench.ormap import NODE, a_map, delta_of

US_MAX = 20.0
KEYS = 100_000


def merge_us(keys: int) -> float:
    """What it takes to merge a delta of one key, in the best of 20 rounds."""
    delta = delta_of(keys)
    ormap = a_map(delta)
    names = list(delta)[:: keys // 100]
    best = float("inf")
    for turn in range(20):
        news = [
            {name: Entry(delta[name].key, Timestamp(1 << 42, turn), NODE, turn)}
            for name in names
        ]
        begun = time.perf_counter()
        changed = [ormap.merge(one) for one in news]
        best = min(best, time.perf_counter() - begun)
        assert len(changed[0]) == 1
    return best / len(news) * 1e6


@pytest.mark.serial
def test_a_delta_of_one_key_costs_the_same_in_a_map_a_hundred_times_larger() -> None:
    """E10: at most 20 us with 100,000 keys; the original takes 105 ms."""
    small, large = merge_us(KEYS // 100), merge_us(KEYS)
    assert large <= US_MAX
    assert large <= 4 * small
