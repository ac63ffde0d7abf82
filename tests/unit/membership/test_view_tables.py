"""Passive views, former peers and churn: who goes, who waits, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership.commands import Start
from barrel_p2p.membership.machine import HyParView, Settings
from barrel_p2p.membership.messages import Join
from barrel_p2p.membership.passive import BACKOFF_MS_MAX, PassiveView, backoff_ms
from barrel_p2p.membership.views import (
    NAMES_MAX,
    REMEMBERED_MAX,
    Churn,
    ExpiringNames,
    RememberedPeers,
    shuffle_period_ms,
)
from tests.overlay_nodes import address


def view(**changes: int) -> PassiveView:
    return PassiveView(Settings(**changes), SeededRng(1))  # type: ignore[arg-type]


def anybody(name: str) -> bool:
    return True


def test_the_backoff_doubles_from_twice_the_base() -> None:
    """HPV-08."""
    waits = [backoff_ms(count, 1_000) for count in (1, 2, 3, 4)]
    assert waits == [2_000, 4_000, 8_000, 16_000]


@given(st.integers(0, 10_000), st.integers(1, 10**9))
def test_the_backoff_is_positive_and_bounded(count: int, base_ms: int) -> None:
    """HPV-35."""
    assert 0 < backoff_ms(count, base_ms) <= BACKOFF_MS_MAX


def test_a_node_in_backoff_may_be_asked_exactly_when_it_is_over() -> None:
    """HPV-10, HPV-12, HPV-26."""
    passive = view()
    entry = passive.met(address("a@h"), 0)
    assert passive.eligible(0, ()) == [entry]
    assert not passive.failed("a@h", 0)
    assert 2_000 <= entry.backoff_until_ms <= 2_250
    assert passive.eligible(entry.backoff_until_ms - 1, ()) == []
    assert passive.eligible(entry.backoff_until_ms, ()) == [entry]


def test_each_failure_counts_and_the_last_one_drops() -> None:
    """HPV-11, HPV-16, HPV-24, HPV-32."""
    passive = view(max_fail_count=5)
    entry, other = (passive.met(address(name), 0) for name in ("a@h", "b@h"))
    dropped = [passive.failed("a@h", 0) for _ in range(5)]
    assert dropped == [False] * 4 + [True]
    assert entry.fail_count == 5
    assert passive.eligible(10**9, ()) == [other]
    assert not passive.failed("a@h", 0)


def test_the_failure_of_an_unknown_node_changes_nothing() -> None:
    """HPV-14."""
    passive = view()
    assert not passive.failed("a@h", 0)
    assert passive.names() == []


def test_hearsay_does_not_overrule_what_was_seen() -> None:
    """Neither the address nor the failures: the original took both from the wire."""
    passive = view()
    entry = passive.met(address("a@h"), 0)
    lie = Address("a@h", "192.0.2.1", 1)
    assert passive.add(lie, 5) is None
    assert entry.address == address("a@h")
    passive.failed("a@h", 6)
    passive.add(lie, 7)
    assert (entry.address, entry.fail_count, entry.last_seen_ms) == (lie, 1, 0)


def test_ages_are_of_the_clock_that_never_goes_back() -> None:
    """HPV-17: a recent entry stays; one that nobody has met for long goes."""
    passive = view(passive_max_age_ms=1_000)
    passive.met(address("a@h"), 0)
    passive.add(address("b@h"), 500)
    assert passive.drop_aged(1_000) == 0
    passive.met(address("a@h"), 1_200)
    assert passive.drop_aged(1_501) == 1
    assert passive.names() == ["a@h"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "met", "failed", "refused", "age", "pop"]),
            st.integers(0, 8),
            st.integers(0, 500),
        ),
        max_size=60,
    )
)
def test_a_view_keeps_to_its_size_whatever_happens(
    steps: list[tuple[str, int, int]],
) -> None:
    """HPV-36."""
    passive = view(passive_size=4, passive_max_age_ms=900, max_fail_count=3)
    now_ms = 0
    for what, number, wait_ms in steps:
        now_ms += wait_ms
        name = f"n{number}@h"
        if what in ("add", "met"):
            getattr(passive, what)(address(name), now_ms)
        elif what == "age":
            passive.drop_aged(now_ms)
        elif what == "pop":
            passive.pop(name)
        else:
            getattr(passive, what)(name, now_ms)
        assert len(passive) <= 4
        for entry, known in zip(passive.entries(), passive.names(), strict=True):
            assert entry.address.name == known
            assert 0 <= entry.fail_count < 3
            assert entry.last_seen_ms <= now_ms


def test_comings_and_goings_of_one_instant_are_all_counted() -> None:
    """HPV-19, HPV-20, HPV-22, HPV-34."""
    churn = Churn(30_000)
    for _ in range(2):
        churn.join(5)
        churn.leave(5)
    assert churn.stats(5) == (2, 2)
    assert churn.stats(30_006) == (0, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40_000)), max_size=50))
def test_churn_is_never_negative(events: list[tuple[bool, int]]) -> None:
    """HPV-37."""
    churn, now_ms = Churn(30_000), 0
    for is_join, wait_ms in events:
        now_ms += wait_ms
        (churn.join if is_join else churn.leave)(now_ms)
        joins, leaves = churn.stats(now_ms)
        assert 0 <= joins <= len(events)
        assert 0 <= leaves <= len(events)
        assert joins + leaves > 0


@pytest.mark.parametrize(
    ("events", "base_ms", "period_ms"),
    [
        (11, 10_000, 2_000),
        (15, 60_000, 2_000),
        (6, 10_000, 5_000),
        (10, 3_000, 2_000),
        (5, 10_000, 10_000),
        (0, 60_000, 30_000),
        (0, 500, 500),
        (11, 500, 500),
    ],
)
def test_the_shuffle_period_follows_churn(
    events: int, base_ms: int, period_ms: int
) -> None:
    """HPV-28, HPV-29, HPV-30."""
    assert shuffle_period_ms(events, base_ms) == period_ms


def test_fifteen_joins_make_the_next_shuffle_come_in_two_seconds() -> None:
    """HPV-27."""
    machine = HyParView(address("me@h"), Settings(), SeededRng(1))
    machine.handle(Start(), now_ms=0)
    assert machine.shuffle_period_ms == 10_000
    for i in range(15):
        machine.handle(NodeUp(f"n{i}@h"), now_ms=i)
        join = Received(f"n{i}@h", Join(1, soft=False, place=("", 0)))
        machine.handle(join, now_ms=i)
    assert machine.churn_stats() == (15, 0)
    assert machine.shuffle_period_ms == 2_000
    machine.handle(NodeDown(machine.active_view()[0], "idle_timeout"), now_ms=20)
    assert machine.churn_stats() == (15, 1)
    machine.handle(TimerFired("shuffle"), now_ms=60_000)
    assert machine.shuffle_period_ms == 10_000


def test_former_peers_that_fail_are_kept_and_reachable_ones_make_room() -> None:
    remembered = RememberedPeers(SeededRng(1))
    for i in range(REMEMBERED_MAX):
        remembered.met(address(f"n{i}@h"), i)
    for i in range(10):
        remembered.failed(f"n{i}@h")
    for i in range(500):
        remembered.met(address(f"new{i}@h"), 1_000 + i)
        assert len(remembered) == REMEMBERED_MAX
    assert all(f"n{i}@h" in remembered for i in range(10))
    due = [peer.address.name for peer in remembered.due(0, anybody)]
    assert due == [f"n{i}@h" for i in range(10)]


def test_failing_former_peers_keep_half_of_the_places_at_most() -> None:
    remembered = RememberedPeers(SeededRng(1))
    for i in range(REMEMBERED_MAX):
        remembered.met(address(f"n{i}@h"), 0)
        remembered.failed(f"n{i}@h")
    for i in range(2 * REMEMBERED_MAX):
        remembered.met(address(f"new{i}@h"), 0)
    failing = [peer for peer in remembered.due(0, anybody) if peer.failing]
    assert len(failing) == REMEMBERED_MAX // 2


def test_names_expire_and_are_bounded() -> None:
    names = ExpiringNames()
    names.add("a@h", 10)
    assert names.has("a@h", 9)
    assert not names.has("a@h", 10)
    names.prune(10)
    assert len(names) == 0
    for i in range(NAMES_MAX + 5):
        names.add(f"n{i}@h", 10**9)
    assert len(names) == NAMES_MAX
    assert not names.has("n0@h", 0)
