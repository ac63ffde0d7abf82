"""Deltas of an enemy cost their sender, not the map: nothing raises or grows."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.errors import WireError
from barrel_p2p.ormap import BUCKETS, TOMBSTONE, Entry, OrMap
from barrel_p2p.wire.crdt_ingest import (
    accept,
    decode_delta,
    encode_delta,
    ingest,
)
from barrel_p2p.wire.limits import DELTA_BYTES_MAX, DELTA_ENTRIES_MAX
from barrel_p2p.wire.terms import encode, key_bytes
from tests.models.clock import HandClock
from tests.term_values import VALUE
from tests.tools import rounds

NOW_MS = 1_800_000_000_000
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
FIELD = (
    SCALAR
    | st.sampled_from([NOW_MS, 0, 1, 2**32, 2**64, "k", "b@h", b"", (), [], {}])
    | st.lists(SCALAR, max_size=3).map(tuple)
)
ROW = st.lists(FIELD, max_size=6).map(tuple) | FIELD
NAMES = st.lists(FIELD | st.just("b@h"), max_size=4).map(tuple)


def a_map() -> OrMap:
    ormap = OrMap("a@h", HLC(HandClock(NOW_MS)))
    ormap.add("mine", 1)
    return ormap


def a_delta() -> bytes:
    names = ("b@h", "c@h")
    rows = [
        (("svc", i), NOW_MS + i, i, i % 2, {"meta": [i]})[: 4 + i % 2] for i in range(6)
    ]
    return encode((names, rows))


@given(st.tuples(NAMES, st.lists(ROW, max_size=6)) | VALUE)
def test_any_term_is_a_delta_or_a_wire_error_and_never_raises_further(
    payload: object,
) -> None:
    data = encode(payload)
    ormap = a_map()
    try:
        received = decode_delta(data)
    except WireError:
        assert ingest(ormap, data).refused == {"delta": 1}
        assert len(ormap.snapshot()) == 1
    else:
        rows = payload[1]  # type: ignore[index]
        assert len(received.delta) + sum(received.refused.values()) == len(rows)
        done = ingest(ormap, data)
        assert done.delta.keys() <= received.delta.keys()
    ingest(ormap, payload)
    assert ormap.get("mine") == 1 or ormap.entry("mine") is not None


def test_ten_thousand_damaged_deltas_are_read_or_refused() -> None:
    rng, good = random.Random(5), a_delta()
    ormap = a_map()
    for _ in range(rounds(10_000, whole=1_000_000)):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at:]
                    data += bytes([rng.randrange(256)])
                case _:
                    data[at:at] = rng.randbytes(rng.randrange(5))
        ingest(ormap, bytes(data))
    assert ormap.clock.now().wall_ms <= NOW_MS + 60_001
    sums = bytes(8 * BUCKETS)
    for key in ormap.snapshot().values():
        ormap.forget(key.key)
    assert ormap.digest() == sums


@pytest.mark.serial
@pytest.mark.parametrize(
    "data",
    [
        encode(((), [(0, 0, 0, 0)] * (DELTA_ENTRIES_MAX + 1))),
        b"\x83h\x02h\x00l\xff\xff\xff\xffj",
        b"\x83h\xffh\x00j",
        b"\x83" + b"l\x00\x00\x00\x01" * 100_000,
        encode(((), [b"x" * DELTA_BYTES_MAX])),
        encode((("b@h",), [("k", 10**2_000, 0, 0, 1)])),
    ],
    ids=["entries", "announced", "short", "nested", "long", "integer"],
)
def test_a_bomb_is_refused_quickly_and_from_little_memory(data: bytes) -> None:
    """It may take 20 ms a MB and 5 ms, and eight times its size."""
    best_s = 9.0
    for _ in range(3):
        started_s = time.perf_counter()
        done = accept(data)
        best_s = min(best_s, time.perf_counter() - started_s)
    assert done.delta == {}
    assert sum(done.refused.values()) >= 1
    assert best_s < 0.005 + 0.020 * len(data) / 2**20
    tracemalloc.start()
    accept(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 8 * len(data) + (1 << 20)


def test_a_member_that_rewrites_one_key_for_ever_takes_the_room_of_one() -> None:
    """The original's entry grows by one dot a write."""
    ormap = a_map()
    clock = HLC(HandClock(NOW_MS))
    name = key_bytes("k")
    before = encode_delta(ormap.snapshot())
    for i in range(5_000):
        value = TOMBSTONE if i % 2 else 0
        ingest(ormap, {name: Entry("k", clock.now(), "b@h", value)})
    assert len(ormap.snapshot()) == 2
    assert len(encode_delta(ormap.snapshot())[0]) < len(before[0]) + 40
    assert ormap.tombstones == 1
    assert ormap.gc_tombstones(2**60) == 1


def test_a_delta_cannot_push_the_clock_beyond_the_drift_bound() -> None:
    """One stamp years ahead would drag every later write with it."""
    ormap = a_map()
    ahead = [60_001, 86_400_000, 2**47]
    entries = [
        Entry(i, Timestamp(NOW_MS + ms, 2**32 - 1), "b@h", 0)
        for i, ms in enumerate(ahead)
    ]
    done = ingest(ormap, {key_bytes(e.key): e for e in entries})
    assert done.refused == {"drift": 3}
    assert ormap.clock.now().wall_ms == NOW_MS
