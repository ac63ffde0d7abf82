"""The table of ids by itself: bounds, memory, and what it refuses."""

from __future__ import annotations

import random

import pytest

from barrel_p2p.broadcast.dedup import ID_BYTES, IDS_TOP, SeenIds
from barrel_p2p.errors import InvalidValue


def ids(count: int, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(ID_BYTES) for _ in range(count)]


def test_an_id_is_new_once_until_its_time_is_over() -> None:
    seen = SeenIds(10, ttl_ms=1_000, key=1)
    (one,) = ids(1)
    assert seen.add(one, 0)
    assert not seen.add(one, 999)
    assert seen.has(one, 999)
    assert not seen.has(one, 1_000)
    assert seen.add(one, 1_000)


def test_the_oldest_goes_when_there_are_too_many() -> None:
    seen = SeenIds(1_000, ttl_ms=1_000, key=1)
    made = ids(1_500)
    for one in made:
        seen.add(one, 0)
    assert len(seen) == 1_000
    assert seen.evicted == 500
    assert seen.unknown(b"".join(made), 1) == list(range(500))


def test_memory_is_bounded_and_given_back() -> None:
    seen = SeenIds(4_096, ttl_ms=1_000, key=1)
    assert seen.held_bytes == 0
    for one in ids(50_000):
        seen.add(one, 0)
    assert seen.held_bytes == 4_096 * 32
    while seen.expire(5_000, limit=100):
        pass
    assert len(seen) == 0
    assert seen.held_bytes <= 16 * 32


def test_ids_survive_growing_wrapping_and_shrinking() -> None:
    seen = SeenIds(100_000, ttl_ms=100, key=7)
    made = ids(20_000)
    for now_ms, one in enumerate(made):
        assert seen.add(one, now_ms)
        assert not seen.add(one, now_ms)
    assert seen.unknown(b"".join(made[-100:]), len(made) - 1) == []
    assert len(seen) <= 200


def test_the_key_changes_nothing_that_is_told() -> None:
    made = ids(3_000)
    told = []
    for key in (0, 1, (1 << 128) - 1):
        seen = SeenIds(500, ttl_ms=10, key=key)
        told.append([seen.add(one, i // 100) for i, one in enumerate(made + made)])
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(
    ("ids_max", "ttl_ms"),
    [(0, 1), (IDS_TOP + 1, 1), (1, 0), (1, -1), (True, 1), (1, 1 << 60)],
)
def test_a_size_or_time_out_of_range_is_refused(ids_max: int, ttl_ms: int) -> None:
    with pytest.raises(InvalidValue, match="is not an integer"):
        SeenIds(ids_max, ttl_ms=ttl_ms, key=1)


@pytest.mark.parametrize("bad", [b"", bytes(15), bytes(17), "x" * 16, bytearray(16)])
def test_what_is_no_id_is_refused(bad: bytes) -> None:
    seen = SeenIds(10, ttl_ms=10, key=1)
    with pytest.raises(InvalidValue, match="16 bytes"):
        seen.add(bad, 0)
    with pytest.raises(InvalidValue, match="16 bytes"):
        seen.has(bad, 0)
    if len(bad) % 16 or type(bad) is not bytes:
        with pytest.raises(InvalidValue, match="16 for each"):
            seen.unknown(bad, 0)
