"""The clock issues growing stamps, follows its peers, and packs what it issued."""

from __future__ import annotations

import copy
import datetime as dt
import time

import pytest

from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.hlc import (
    FENCE_EPOCH_MS,
    FENCE_WALL_MS_MAX,
    HLC,
    ISSUED_COUNTER_MAX,
    MAX_DRIFT_MS_DEFAULT,
    WALL_MS_MAX,
    Timestamp,
    node_tag,
)
from barrel_p2p.errors import ClockDrift, InvalidValue
from tests.models.clock import HandClock

NOON_MS = FENCE_EPOCH_MS + 12 * 3_600_000


@pytest.fixture
def hands() -> HandClock:
    return HandClock(NOON_MS)


@pytest.fixture
def clock(hands: HandClock) -> HLC:
    return HLC(hands, node="a@host")


@pytest.mark.parametrize("source", [None, SystemClock()])
def test_now_shows_the_time_of_day(source: SystemClock | None) -> None:
    """HLC-01: a positive integer wall and an integer counter."""
    before_ms = time.time_ns() // 1_000_000
    stamp = HLC(source).now()
    assert before_ms <= stamp.wall_ms <= time.time_ns() // 1_000_000
    assert type(stamp.wall_ms) is int
    assert type(stamp.counter) is int


def test_the_second_stamp_is_greater() -> None:
    """HLC-02: two stamps in a row differ, and the second compares greater."""
    clock = HLC()
    first, second = clock.now(), clock.now()
    assert first != second
    assert HLC.compare(first, second) == -1


def test_equal_parts_make_equal_stamps() -> None:
    """HLC-04: the same wall and counter compare equal, and hash alike."""
    a, b = Timestamp(7, 1), Timestamp(7, 1)
    assert HLC.compare(a, b) == 0
    assert a == b
    assert a <= b
    assert a >= b
    assert len({a, b}) == 1


def test_the_wall_orders_first_and_the_counter_second() -> None:
    """HLC-05: a smaller wall is less; of equal walls the smaller counter is."""
    assert HLC.compare(Timestamp(6, 9), Timestamp(7, 0)) == -1
    assert HLC.compare(Timestamp(7, 0), Timestamp(7, 1)) == -1
    assert HLC.compare(Timestamp(7, 1), Timestamp(7, 0)) == 1
    assert Timestamp(6, 9) < Timestamp(7, 0) < Timestamp(7, 1)
    assert Timestamp(7, 1) > Timestamp(7, 0) != Timestamp(6, 0)


def test_the_binary_form_is_twelve_bytes_big_endian() -> None:
    """HLC-07: 8 bytes of wall, 4 of counter, and the way back."""
    stamp = Timestamp(0x0102030405, 0xA0B0C0D0)
    data = bytes.fromhex("000000010203 0405 a0b0c0d0")
    assert HLC.to_binary(stamp) == stamp.to_binary() == data
    assert HLC.from_binary(data) == stamp
    assert HLC.from_binary(bytearray(data)) == stamp
    assert HLC.from_binary(memoryview(data)) == stamp


def test_wall_time_is_the_wall_part() -> None:
    """HLC-08: in milliseconds, and as an aware datetime without rounding."""
    stamp = Timestamp(1_704_067_200_001, 5)
    assert HLC.wall_time(stamp) == 1_704_067_200_001
    assert HLC.wall_datetime(stamp) == dt.datetime(
        2024, 1, 1, 0, 0, 0, 1_000, tzinfo=dt.UTC
    )


def test_every_valid_wall_has_a_datetime() -> None:
    last = HLC.wall_datetime(Timestamp(WALL_MS_MAX, 0))
    assert last == dt.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=dt.UTC)


def test_logical_is_the_counter() -> None:
    """HLC-09: the accessor returns the counter."""
    assert HLC.logical(Timestamp(7, 5)) == 5


def test_a_stamp_unpacks_matches_and_copies_but_does_not_change() -> None:
    stamp = Timestamp(7, 5)
    wall_ms, counter = stamp
    assert (wall_ms, counter) == (7, 5)
    match stamp:
        case Timestamp(seven, five):
            assert (seven, five) == (7, 5)
    assert copy.deepcopy(stamp) == stamp
    assert repr(stamp) == "Timestamp(wall_ms=7, counter=5)"
    with pytest.raises(AttributeError):
        stamp.wall_ms = 8  # type: ignore[misc]
    stamp.__init__(8, 5)  # type: ignore[call-arg]
    assert stamp == Timestamp(7, 5)


def test_a_stamp_is_no_tuple() -> None:
    assert Timestamp(7, 5) != (7, 5)
    with pytest.raises(TypeError):
        Timestamp(7, 5) < (8, 0)  # type: ignore[operator] # noqa: B015


def test_ties_break_by_the_counter(clock: HLC, hands: HandClock) -> None:
    assert clock.now() == Timestamp(NOON_MS, 0)
    assert clock.now() == Timestamp(NOON_MS, 1)
    hands.shown = NOON_MS + 1
    assert clock.now() == Timestamp(NOON_MS + 1, 0)


def test_a_backward_step_of_the_wall_repeats_no_stamp(
    clock: HLC, hands: HandClock
) -> None:
    assert clock.now() == Timestamp(NOON_MS, 0)
    hands.shown = NOON_MS - 3_600_000
    assert clock.now() == Timestamp(NOON_MS, 1)
    hands.shown = -1
    assert clock.now() == Timestamp(NOON_MS, 2)


def test_a_full_counter_carries_into_the_wall(clock: HLC) -> None:
    for counter in range(ISSUED_COUNTER_MAX + 1):
        assert clock.now() == Timestamp(NOON_MS, counter)
    assert clock.now() == Timestamp(NOON_MS + 1, 0)


def test_update_is_greater_than_the_peer_and_than_ourselves(
    clock: HLC, hands: HandClock
) -> None:
    clock.now()
    assert clock.update(Timestamp(NOON_MS + 5, 3)) == Timestamp(NOON_MS + 5, 4)
    assert clock.update(Timestamp(NOON_MS + 5, 9)) == Timestamp(NOON_MS + 5, 10)
    assert clock.update(Timestamp(NOON_MS, 99)) == Timestamp(NOON_MS + 5, 11)
    hands.shown = NOON_MS + 6
    assert clock.update(Timestamp(NOON_MS + 5, 50)) == Timestamp(NOON_MS + 6, 0)


def test_a_peer_beyond_the_drift_is_refused_counted_and_forgotten(clock: HLC) -> None:
    near = Timestamp(NOON_MS + MAX_DRIFT_MS_DEFAULT, 0)
    far = Timestamp(NOON_MS + MAX_DRIFT_MS_DEFAULT + 1, 0)
    with pytest.raises(ClockDrift, match=r"60001 ms ahead .* hlc_max_drift_ms=60000"):
        clock.update(far)
    assert clock.drift_refused == 1
    assert clock.now() == Timestamp(NOON_MS, 0)
    assert clock.update(near) == Timestamp(near.wall_ms, 1)
    assert clock.drift_refused == 1


def test_the_drift_is_measured_from_the_wall_not_from_our_last_stamp(
    clock: HLC,
) -> None:
    clock.update(Timestamp(NOON_MS + MAX_DRIFT_MS_DEFAULT, 0))
    with pytest.raises(ClockDrift):
        clock.update(Timestamp(NOON_MS + MAX_DRIFT_MS_DEFAULT + 1, 0))


def test_every_stamp_is_above_the_floor(hands: HandClock) -> None:
    ahead = Timestamp(NOON_MS + 500, 7)
    assert HLC(hands, floor=ahead).now() == Timestamp(NOON_MS + 500, 8)
    assert HLC(hands, floor=Timestamp(NOON_MS - 1, 7)).now() == Timestamp(NOON_MS, 0)


@pytest.mark.parametrize("drift_ms", [0, -1, WALL_MS_MAX + 1, 1.5, True, "60"])
def test_a_drift_out_of_range_is_refused(drift_ms: int) -> None:
    with pytest.raises(InvalidValue, match="max_drift_ms"):
        HLC(max_drift_ms=drift_ms)
    assert HLC(max_drift_ms=1).max_drift_ms == 1


def test_a_fence_holds_wall_counter_and_node_tag(clock: HLC) -> None:
    tag = node_tag("a@host")
    first, last = Timestamp(FENCE_EPOCH_MS, 0), Timestamp(FENCE_WALL_MS_MAX, 8_191)
    assert clock.pack(first) == first.pack("a@host") == tag
    assert Timestamp(FENCE_EPOCH_MS + 1, 3).pack("a@host") == 1 << 21 | 3 << 8 | tag
    assert last.pack("a@host") == 2**63 - 256 + tag


def test_the_node_tag_is_the_low_byte_of_xxh3_of_the_name() -> None:
    assert [node_tag(name) for name in ("", "a@host", "b@host")] == [0xC2, 0x52, 0xCF]


@pytest.mark.parametrize(
    ("stamp", "limit"),
    [
        (Timestamp(FENCE_EPOCH_MS - 1, 0), f"FENCE_EPOCH_MS={FENCE_EPOCH_MS}"),
        (Timestamp(FENCE_WALL_MS_MAX + 1, 0), f"FENCE_WALL_MS_MAX={FENCE_WALL_MS_MAX}"),
        (Timestamp(FENCE_EPOCH_MS, ISSUED_COUNTER_MAX + 1), "ISSUED_COUNTER_MAX=8191"),
    ],
)
def test_a_stamp_that_does_not_fit_a_fence_is_refused(
    clock: HLC, stamp: Timestamp, limit: str
) -> None:
    with pytest.raises(InvalidValue, match=limit):
        clock.pack(stamp)
    with pytest.raises(InvalidValue, match=limit):
        stamp.pack("a@host")


def test_a_clock_without_a_name_does_not_pack() -> None:
    with pytest.raises(InvalidValue, match="without a node name"):
        HLC().pack(Timestamp(FENCE_EPOCH_MS, 0))


@pytest.mark.parametrize(("beyond_ms", "counter"), [(0, 8_190), (0, 8_191), (1, 0)])
def test_the_drift_limit_is_what_update_takes(beyond_ms: int, counter: int) -> None:
    clock = HLC(HandClock(1_000), max_drift_ms=5)
    limit_ms = clock.drift_limit_ms()
    assert limit_ms == 1_005
    stamp = Timestamp(limit_ms + beyond_ms, counter)
    if (beyond_ms, counter) == (0, 8_190):
        assert clock.update(stamp) > stamp
    else:
        with pytest.raises(ClockDrift):
            clock.update(stamp)
