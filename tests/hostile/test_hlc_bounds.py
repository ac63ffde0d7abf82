"""No stamp from a peer, no clock and no argument breaks the clock or its order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.hlc import (
    COUNTER_MAX,
    HLC,
    ISSUED_COUNTER_MAX,
    TIMESTAMP_BYTES,
    WALL_MS_MAX,
    Timestamp,
)
from barrel_p2p.errors import ClockDrift, InvalidValue, WireError
from tests.models.clock import HandClock

WALL_MS = 1_800_000_000_000


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_raise_wire_error(data: bytes) -> None:
    try:
        stamp = Timestamp.from_binary(data)
    except WireError:
        wall_ms = int.from_bytes(data[:8], "big")
        assert len(data) != TIMESTAMP_BYTES or wall_ms > WALL_MS_MAX
    else:
        assert stamp.to_binary() == data


@pytest.mark.parametrize("length", [0, 11, 13, 4096])
def test_another_length_is_named(length: int) -> None:
    with pytest.raises(WireError, match=f"of {length} bytes; TIMESTAMP_BYTES=12"):
        Timestamp.from_binary(bytes(length))


@pytest.mark.parametrize("wall_ms", [WALL_MS_MAX + 1, 2**63, 2**64 - 1])
def test_a_wall_beyond_the_limit_is_named(wall_ms: int) -> None:
    data = wall_ms.to_bytes(8, "big") + bytes(4)
    with pytest.raises(WireError, match=f"{wall_ms} ms exceeds WALL_MS_MAX"):
        HLC.from_binary(data)


def test_a_buffer_that_is_not_contiguous_still_decodes() -> None:
    spread = bytes(24)
    assert Timestamp.from_binary(memoryview(spread)[::2]) == Timestamp(0, 0)


@pytest.mark.parametrize("data", [12, "x" * 12, None, [0] * 12])
def test_what_is_not_a_buffer_is_a_type_error(data: bytes) -> None:
    with pytest.raises(TypeError):
        Timestamp.from_binary(data)


@pytest.mark.parametrize(
    "parts",
    [
        (-1, 0),
        (0, -1),
        (WALL_MS_MAX + 1, 0),
        (0, COUNTER_MAX + 1),
        (1.0, 0),
        (True, 0),
        ("7", 0),
        (1 << 999_999, 0),
    ],
)
def test_parts_out_of_range_are_refused(parts: tuple[int, int]) -> None:
    with pytest.raises(InvalidValue, match="is not an integer from 0 to"):
        Timestamp(*parts)


def test_a_flood_from_the_future_moves_nothing() -> None:
    clock = HLC(HandClock(WALL_MS))
    first = clock.now()
    for ahead_ms in range(60_001, 70_001):
        with pytest.raises(ClockDrift):
            clock.update(Timestamp(WALL_MS + ahead_ms, COUNTER_MAX))
    with pytest.raises(ClockDrift):
        clock.update(Timestamp(WALL_MS_MAX, COUNTER_MAX))
    assert clock.drift_refused == 10_001
    assert clock.now() == Timestamp(first.wall_ms, first.counter + 1)


def test_full_counters_at_the_edge_do_not_creep_past_it() -> None:
    hands = HandClock(WALL_MS)
    clock = HLC(hands, max_drift_ms=10)
    edge = Timestamp(WALL_MS + 10, ISSUED_COUNTER_MAX)
    with pytest.raises(ClockDrift):
        clock.update(edge)
    below = Timestamp(WALL_MS + 10, ISSUED_COUNTER_MAX - 1)
    assert clock.update(below) == Timestamp(WALL_MS + 10, ISSUED_COUNTER_MAX)


def test_a_full_32_bit_counter_never_raises_near_the_wall() -> None:
    clock = HLC(HandClock(WALL_MS))
    for _ in range(1_000):
        stamp = clock.update(Timestamp(WALL_MS, COUNTER_MAX))
    assert stamp == Timestamp(WALL_MS + 1, 999)


@pytest.mark.parametrize("peer", [None, (7, 0), b"x" * 12])
def test_what_is_not_a_stamp_is_a_type_error(peer: Timestamp) -> None:
    clock = HLC(HandClock(WALL_MS))
    with pytest.raises(TypeError):
        clock.update(peer)
    assert clock.now() == Timestamp(WALL_MS, 0)


@pytest.mark.parametrize(
    "shown",
    [
        WALL_MS_MAX + 1,
        2**64,
        pytest.param(1 << 999_999, id="million bits"),
        1.5,
        None,
        "7",
    ],
)
def test_a_wall_clock_that_shows_nonsense_leaves_the_clock_as_it_was(
    shown: object,
) -> None:
    hands = HandClock(WALL_MS)
    clock = HLC(hands)
    clock.now()
    hands.shown = shown
    with pytest.raises(InvalidValue, match=r"wall_ms\(\)="):
        clock.now()
    with pytest.raises(InvalidValue, match=r"wall_ms\(\)="):
        clock.update(Timestamp(WALL_MS + 5, 0))
    hands.shown = WALL_MS
    assert clock.now() == Timestamp(WALL_MS, 1)


def test_a_wall_clock_that_raises_leaves_the_clock_as_it_was() -> None:
    class Broken:
        def wall_ms(self) -> int:
            raise OSError("no clock")

    clock = HLC(Broken(), floor=Timestamp(5, 0))
    for _ in range(3):
        with pytest.raises(OSError, match="no clock"):
            clock.now()


def test_the_end_of_time_is_an_error_not_a_wrap() -> None:
    clock = HLC(HandClock(0), floor=Timestamp(WALL_MS_MAX, ISSUED_COUNTER_MAX - 1))
    assert clock.now() == Timestamp(WALL_MS_MAX, ISSUED_COUNTER_MAX)
    for _ in range(2):
        with pytest.raises(InvalidValue, match="at its end"):
            clock.now()


def test_stamps_do_not_leak_between_calls() -> None:
    """Freed stamps are reused; none that is still held may change."""
    clock = HLC(HandClock(WALL_MS))
    held = [clock.now() for _ in range(300)]
    del held[::2]
    more = [clock.now() for _ in range(300)]
    assert [s.counter for s in held] == list(range(1, 300, 2))
    assert [s.counter for s in more] == list(range(300, 600))
