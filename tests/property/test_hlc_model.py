"""The compiled clock agrees with its model, and both keep the laws of the paper."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.hlc import (
    COUNTER_MAX,
    FENCE_EPOCH_MS,
    FENCE_WALL_MS_MAX,
    HLC,
    ISSUED_COUNTER_MAX,
    WALL_MS_MAX,
    Timestamp,
)
from barrel_p2p.errors import ClockDrift
from tests.models import hlc as model
from tests.models.clock import HandClock

DRIFT_MS = 4
NODE = "a@host"
# A small range, because ties are the point; the middle of time for the rest.
WALL = st.integers(0, 8) | st.integers(0, 2**47)
COUNTER = st.sampled_from([0, 1, 8_190, 8_191, 8_192, 2**32 - 1]) | st.integers(0, 9)
STAMP = st.tuples(WALL, COUNTER)
STEP = st.tuples(WALL, STAMP | st.none())
FENCED = st.tuples(
    st.integers(FENCE_EPOCH_MS, FENCE_EPOCH_MS + 3)
    | st.integers(FENCE_EPOCH_MS, FENCE_WALL_MS_MAX),
    st.integers(0, ISSUED_COUNTER_MAX),
)


def pair(stamp: Timestamp) -> model.Stamp:
    return stamp.wall_ms, stamp.counter


def agree(steps: list[tuple[int, model.Stamp | None]], floor: model.Stamp) -> None:
    """Drive both clocks: each step is a wall reading and a peer's stamp, if any."""
    hands = HandClock(0)
    clock = HLC(hands, max_drift_ms=DRIFT_MS, floor=Timestamp(*floor))
    plain = model.HlcModel(hands.wall_ms, max_drift_ms=DRIFT_MS, floor=floor)
    last, refused = floor, 0
    for wall_ms, peer in steps:
        hands.shown = wall_ms
        try:
            expected = plain.now() if peer is None else plain.update(peer)
        except model.Refused as refusal:
            with pytest.raises(ClockDrift):
                clock.update(Timestamp(*refusal.args[0]))
            refused += 1
        else:
            got = clock.now() if peer is None else clock.update(Timestamp(*peer))
            assert pair(got) == expected
            assert expected > last
            assert peer is None or expected > peer
            assert got.counter <= ISSUED_COUNTER_MAX
            last = expected
    assert clock.drift_refused == refused


@given(st.lists(STEP, max_size=40), STAMP)
def test_the_clock_agrees_with_its_model(
    steps: list[tuple[int, model.Stamp | None]], floor: model.Stamp
) -> None:
    agree(steps, floor)


def test_twenty_thousand_events_agree_with_the_model() -> None:
    agree(_walk(random.Random(1), 20_000), (0, 0))


@pytest.mark.deep
def test_a_million_events_agree_with_the_model() -> None:
    agree(_walk(random.Random(2), 1_000_000), (0, 0))


def _walk(rng: random.Random, n: int) -> list[tuple[int, model.Stamp | None]]:
    """A wall that creeps, stands and steps both ways, with peers on either side."""
    wall_ms, steps = 10_000, list[tuple[int, model.Stamp | None]]()
    for _ in range(n):
        wall_ms = max(0, wall_ms + rng.choice([0, 0, 0, 1, 1, 2, -3, 50, -50]))
        peer = (max(0, wall_ms + rng.randint(-6, 6)), rng.choice([0, 8_191, 2**32 - 1]))
        steps.append((wall_ms, peer if rng.random() < 0.5 else None))
    return steps


@given(STAMP, WALL)
def test_no_peer_puts_the_clock_beyond_the_drift(
    peer: model.Stamp, wall_ms: int
) -> None:
    clock = HLC(HandClock(wall_ms), max_drift_ms=DRIFT_MS)
    with contextlib.suppress(ClockDrift):
        assert clock.update(Timestamp(*peer)).wall_ms <= wall_ms + DRIFT_MS


@given(st.lists(STAMP | st.none(), max_size=60), WALL)
def test_a_carry_at_the_limit_adds_one_millisecond_and_does_not_creep(
    peers: list[model.Stamp | None], wall_ms: int
) -> None:
    clock = HLC(HandClock(wall_ms), max_drift_ms=DRIFT_MS)
    for peer in peers:
        with contextlib.suppress(ClockDrift):
            stamp = clock.now() if peer is None else clock.update(Timestamp(*peer))
            assert stamp.wall_ms <= wall_ms + DRIFT_MS + 1


@given(st.lists(st.integers(0, WALL_MS_MAX - 1), max_size=40))
def test_now_never_goes_back(readings: list[int]) -> None:
    """HLC-13: whatever the wall shows, stamps grow."""
    hands = HandClock(0)
    clock = HLC(hands)
    last = Timestamp(0, 0)
    for hands.shown in readings:
        stamp = clock.now()
        assert last < stamp
        last = stamp


@given(STAMP, STAMP)
def test_compare_is_the_order_of_tuples(a: model.Stamp, b: model.Stamp) -> None:
    """HLC-10: exactly one of less, equal and greater, for counters of 32 bits."""
    left, right = Timestamp(*a), Timestamp(*b)
    assert HLC.compare(left, right) == (a > b) - (a < b)
    assert (left < right, left == right, left > right) == (a < b, a == b, a > b)
    assert (left <= right, left != right, left >= right) == (a <= b, a != b, a >= b)
    assert a != b or hash(left) == hash(right)


@given(
    st.integers(0, WALL_MS_MAX) | st.sampled_from([0, WALL_MS_MAX]),
    st.integers(0, COUNTER_MAX) | st.sampled_from([0, COUNTER_MAX]),
)
def test_the_binary_form_returns_the_same_stamp(wall_ms: int, counter: int) -> None:
    """HLC-12: decoding what was encoded is the identity; the model gives the bytes."""
    stamp = Timestamp(wall_ms, counter)
    assert stamp.to_binary() == model.to_binary((wall_ms, counter))
    assert Timestamp.from_binary(stamp.to_binary()) == stamp


@given(STAMP, STAMP)
def test_binary_forms_order_like_stamps(a: model.Stamp, b: model.Stamp) -> None:
    assert (Timestamp(*a).to_binary() < Timestamp(*b).to_binary()) == (a < b)


@given(FENCED, FENCED)
def test_fences_are_unique_and_keep_the_order(a: model.Stamp, b: model.Stamp) -> None:
    left, right = Timestamp(*a).pack(NODE), Timestamp(*b).pack(NODE)
    assert (left < right, left == right) == (a < b, a == b)
    assert 0 <= left < 2**63


@given(FENCED, st.text(max_size=20))
def test_a_fence_agrees_with_its_model(stamp: model.Stamp, node: str) -> None:
    fence = Timestamp(*stamp).pack(node)
    assert fence == model.pack(stamp, fence % 256)
    assert HLC(node=node).pack(Timestamp(*stamp)) == fence


@given(st.lists(STEP, max_size=30))
def test_whatever_the_clock_issues_packs(
    steps: list[tuple[int, model.Stamp | None]],
) -> None:
    hands = HandClock(FENCE_EPOCH_MS)
    clock = HLC(hands, node=NODE)
    fences = []
    for ahead_ms, peer in steps:
        hands.shown = FENCE_EPOCH_MS + ahead_ms % 2**20
        if peer is not None:
            try:
                clock.update(Timestamp(hands.shown + peer[0] % 9, peer[1]))
            except ClockDrift:
                continue
        fences.append(clock.pack(clock.now()))
    assert fences == sorted(set(fences))
