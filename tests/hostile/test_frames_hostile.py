"""X4: an announced length costs its sender bytes, and us nothing."""

from __future__ import annotations

import tracemalloc

import psutil
import pytest

from barrel_p2p.errors import WireError
from barrel_p2p.wire.frames import Splitter, encode
from barrel_p2p.wire.limits import FRAME_BYTES_MAX, FRAME_BYTES_MAX_PREAUTH

WRONG = [
    pytest.param(0, id="zero"),
    pytest.param(1, id="no-room-for-flags"),
    pytest.param(FRAME_BYTES_MAX + 1, id="one-too-many"),
    pytest.param(2**31 - 1, id="greatest-int32"),
    pytest.param(2**31, id="negative-looking"),
    pytest.param(2**32 - 2, id="overflows-with-its-own-header"),
    pytest.param(2**32 - 1, id="minus-one-looking"),
]


@pytest.mark.parametrize("length", WRONG)
@pytest.mark.parametrize("torn_at", range(4))
def test_a_wrong_length_is_refused_from_its_four_bytes(
    length: int, torn_at: int
) -> None:
    header = length.to_bytes(4, "big")
    splitter = Splitter()
    assert splitter.feed(header[:torn_at]) == []
    with pytest.raises(WireError, match=f"frame of {length} bytes"):
        splitter.feed(header[torn_at:])
    assert splitter.held_bytes == 0


def test_a_length_of_64_bits_is_read_as_its_first_32() -> None:
    splitter = Splitter()
    with pytest.raises(WireError, match="frame of 2147483647 bytes"):
        splitter.feed((2**63 - 1).to_bytes(8, "big"))


def test_a_frame_inside_a_frame_is_only_bytes() -> None:
    inner = (2**32 - 1).to_bytes(4, "big") + b"\x02\x00"
    frames = Splitter().feed(encode(2, 0, inner) + encode(3, 0, inner * 3))
    assert [frame.body for frame in frames] == [inner, inner * 3]


@pytest.mark.parametrize("limit", [FRAME_BYTES_MAX_PREAUTH, FRAME_BYTES_MAX])
def test_a_header_alone_allocates_under_64_kib(limit: int) -> None:
    tracemalloc.start()
    try:
        splitter = Splitter(limit)
        assert splitter.feed(limit.to_bytes(4, "big") + b"\x02\x00") == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 65_536
    assert splitter.held_bytes <= 256


def test_a_thousand_headers_of_the_greatest_length_stay_small() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    header = FRAME_BYTES_MAX.to_bytes(4, "big") + b"\x02\x00"
    splitters = [Splitter() for _ in range(1_000)]
    for splitter in splitters:
        splitter.feed(header)
    assert sum(s.held_bytes for s in splitters) <= 1_000 * 256
    assert process.memory_info().rss - before <= 8 << 20


def test_dripped_bytes_hold_at_most_twice_their_number() -> None:
    splitter = Splitter()
    stream = encode(2, 0, bytes(20_000))
    for received in range(1, len(stream)):
        splitter.feed(stream[received - 1 : received])
        assert splitter.held_bytes <= max(256, 2 * received)


def test_after_a_large_torn_frame_its_memory_is_given_back() -> None:
    splitter = Splitter()
    stream = encode(2, 0, bytes(FRAME_BYTES_MAX - 2))
    splitter.feed(stream[:-1])
    assert splitter.held_bytes <= FRAME_BYTES_MAX + 4
    assert len(splitter.feed(stream[-1:])) == 1
    assert splitter.feed(b"\x00") == []
    assert splitter.held_bytes <= 256


def test_refused_bytes_are_not_kept() -> None:
    splitter = Splitter(1_000_000)
    splitter.feed(encode(2, 0, bytes(900_000))[:500_000])
    rest = encode(2, 0, bytes(900_000))[500_000:]
    with pytest.raises(WireError):
        splitter.feed(rest + b"\xff\xff\xff\xff")
    assert splitter.held_bytes == 0
