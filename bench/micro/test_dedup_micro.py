"""The table of seen ids, one operation at a time, beside an OrderedDict.

Run with ``pytest bench/micro --benchmark-group-by=group``.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.broadcast.dedup import ID_BYTES, SeenIds

COUNT = 10_000
IDS = [secrets.token_bytes(ID_BYTES) for _ in range(COUNT)]


def full() -> SeenIds:
    seen = SeenIds(COUNT, ttl_ms=1_000, key=secrets.randbits(128))
    for one in IDS:
        seen.add(one, 0)
    return seen


@pytest.mark.benchmark(group="10,000 new ids")
def test_add_new(benchmark: BenchmarkFixture) -> None:
    def fill() -> int:
        seen = SeenIds(COUNT, ttl_ms=1_000, key=1)
        for one in IDS:
            seen.add(one, 0)
        return len(seen)

    assert benchmark(fill) == COUNT


@pytest.mark.benchmark(group="10,000 new ids")
def test_add_new_to_an_ordered_dict(benchmark: BenchmarkFixture) -> None:
    def fill() -> int:
        seen: OrderedDict[bytes, int] = OrderedDict()
        for one in IDS:
            if one not in seen:
                seen[one] = 0
                if len(seen) > COUNT:
                    seen.popitem(last=False)
        return len(seen)

    assert benchmark(fill) == COUNT


@pytest.mark.benchmark(group="one known id")
def test_add_known(benchmark: BenchmarkFixture) -> None:
    assert benchmark(full().add, IDS[0], 0) is False


@pytest.mark.benchmark(group="256 known ids")
def test_unknown_of_a_batch(benchmark: BenchmarkFixture) -> None:
    assert benchmark(full().unknown, b"".join(IDS[:256]), 0) == []
