"""A shard machine owns what the ring says, and nothing before it knows the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from barrel_p2p.core.effects import CancelTimer, Publish, SetTimer
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.core.rendezvous import Ring
from barrel_p2p.services.shard_events import Acquired, Released
from barrel_p2p.services.shard_inputs import (
    Abandon,
    Begin,
    End,
    HandedOff,
    HandOff,
    Heard,
    Hooks,
    Paused,
    Settle,
    ShardEffect,
    ShardSettings,
)
from barrel_p2p.services.shard_machine import ShardMachine

ME, OTHER, THIRD = "me@h", "other@h", "third@h"
SIZE = 16
SETTINGS = ShardSettings(ttl_ms=6_000, grace_ms=500, hand_off_ms=6_000)
ALL = list(range(SIZE))


def mine(*others: str) -> list[int]:
    owners = Ring(SIZE, [ME, *others]).owners
    return [p for p in ALL if owners[p] == ME]


KEPT, LOST = mine(OTHER), [p for p in ALL if p not in mine(OTHER)]


class Bench:
    """One machine, and a hand on its clock."""

    def __init__(self) -> None:
        self.machine = ShardMachine(ME, SIZE, settings=SETTINGS)
        self.now = 1_000
        self.handing: dict[int, HandOff] = {}

    def tell(self, *events: object) -> list[ShardEffect]:
        effects = []
        for event in events:
            effects += self.machine.handle(event, now_ms=self.now)
        for effect in effects:
            if isinstance(effect, HandOff):
                self.handing[effect.partition] = effect
        return effects

    def end_hook(self, partition: int) -> list[Any]:
        order = self.handing.pop(partition)
        return told(self.tell(HandedOff(partition, order.number)))

    @property
    def owned(self) -> list[int]:
        return self.machine.owned()


def told(effects: list[ShardEffect]) -> list[Any]:
    return [effect.event for effect in effects if isinstance(effect, Publish)]


def up(node: str) -> MemberUp:
    return MemberUp(node, 1)


def dead(node: str) -> MemberDead:
    return MemberDead(node, 1, "left")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def alone(bench: Bench) -> Bench:
    bench.tell(Begin((ME,), waits=False))
    return bench


@pytest.fixture
def hooked(alone: Bench) -> Bench:
    alone.tell(Hooks(acquired=True, released=True))
    return alone


# What is known.


def test_a_lone_node_owns_everything_at_once(bench: Bench) -> None:
    """SHD-01."""
    assert bench.machine.ring.owners == [None] * SIZE
    effects = bench.tell(Begin((ME,), waits=False))
    assert effects == [Publish(Acquired(p)) for p in ALL]
    assert bench.owned == ALL


def test_a_node_with_contacts_owns_nothing_until_a_member_is_heard(
    bench: Bench,
) -> None:
    assert bench.tell(Begin((ME,), waits=True)) == [SetTimer("seed", 6_000)]
    assert bench.tell(Settle()) == []
    assert bench.machine.ring.owners == [None] * SIZE
    assert not bench.machine.seeded
    assert bench.tell(up(OTHER)) == [CancelTimer("seed")]
    assert told(bench.tell(Settle())) == [Acquired(p) for p in KEPT]


def test_a_node_that_hears_nobody_for_a_lease_owns_everything(bench: Bench) -> None:
    bench.tell(Begin((ME,), waits=True))
    assert told(bench.tell(TimerFired("seed"))) == [Acquired(p) for p in ALL]


def test_who_knows_members_at_the_start_does_not_wait(bench: Bench) -> None:
    effects = bench.tell(Begin((ME, OTHER), waits=True))
    assert told(effects) == [Acquired(p) for p in KEPT]


def test_its_own_life_and_suspects_and_the_gone_change_nothing(alone: Bench) -> None:
    alone.tell(up(OTHER), Settle())
    before = list(alone.machine.ring.owners)
    events = up(ME), dead(ME), MemberSuspected(OTHER, 1, "x@h"), MemberGone("y@h", 1)
    assert alone.tell(*events, Settle()) == []
    assert alone.machine.ring.owners == before


def test_many_changes_at_once_are_told_as_what_they_lead_to(alone: Bench) -> None:
    assert alone.tell(up(OTHER), up(THIRD), dead(OTHER), up(OTHER)) == []
    assert alone.machine.unsettled
    left = mine(OTHER, THIRD)
    expected = [Released(p) for p in ALL if p not in left]
    assert told(alone.tell(Settle())) == expected
    assert alone.owned == left
    alone.tell(dead(OTHER))
    assert told(alone.tell(up(OTHER), Settle())) == []


def test_the_owner_is_known_before_it_is_told(alone: Bench) -> None:
    alone.tell(up(OTHER))
    assert alone.machine.ring.owners[LOST[0]] == OTHER
    assert LOST[0] in alone.owned


# Pauses.


def test_a_pause_releases_everything_before_anything_else(alone: Bench) -> None:
    alone.tell(up(OTHER), Settle())
    effects = alone.tell(Paused())
    assert effects == [
        *[Publish(Released(p)) for p in KEPT],
        SetTimer("seed", 6_000),
    ]
    assert alone.owned == []
    assert alone.machine.ring.owners == [None] * SIZE


def test_what_was_said_before_the_end_of_a_pause_does_not_count(alone: Bench) -> None:
    alone.tell(up(OTHER), Settle(), Paused())
    assert alone.tell(Heard(), up(THIRD), Settle()) == []
    alone.now += 500
    assert told(alone.tell(Heard(), Settle())) == [
        Acquired(p) for p in mine(OTHER, THIRD)
    ]


def test_members_that_die_while_nothing_is_owned_are_not_asked_again(
    alone: Bench,
) -> None:
    alone.tell(up(OTHER), Settle(), Paused(), dead(OTHER), Settle())
    assert alone.owned == []
    assert told(alone.tell(TimerFired("seed"))) == [Acquired(p) for p in ALL]


def test_a_lone_node_has_nobody_to_ask_after_a_pause(alone: Bench) -> None:
    effects = told(alone.tell(Paused()))
    assert effects == [Released(p) for p in ALL] + [Acquired(p) for p in ALL]


def test_hearing_somebody_is_nothing_new_to_who_knows(alone: Bench) -> None:
    assert alone.tell(Heard()) == []


# Hooks.


def test_a_partition_is_released_once_its_hook_is_over(hooked: Bench) -> None:
    effects = hooked.tell(up(OTHER), Settle())
    assert told(effects) == []
    assert sorted(hooked.handing) == LOST
    assert not any(order.acquired for order in hooked.handing.values())
    assert hooked.owned == ALL
    assert hooked.end_hook(LOST[0]) == [Released(LOST[0])]
    assert hooked.owned == [p for p in ALL if p != LOST[0]]
    assert hooked.machine.awaiting == len(LOST) - 1


def test_a_partition_is_acquired_once_its_hook_is_over(hooked: Bench) -> None:
    hooked.tell(up(OTHER), Settle())
    for partition in LOST:
        hooked.end_hook(partition)
    hooked.tell(dead(OTHER), Settle())
    assert sorted(hooked.handing) == LOST
    assert all(order.acquired for order in hooked.handing.values())
    assert hooked.owned == KEPT
    assert hooked.end_hook(LOST[0]) == [Acquired(LOST[0])]


def test_a_hook_that_does_not_end_is_left_behind(hooked: Bench) -> None:
    effects = hooked.tell(up(OTHER), Settle())
    partition = LOST[0]
    number = hooked.handing[partition].number
    assert SetTimer(partition, 6_000) in effects
    assert hooked.tell(TimerFired(partition)) == [
        Abandon(partition, number, overran=True),
        Publish(Released(partition)),
    ]
    assert hooked.machine.stats.overran == 1
    assert hooked.end_hook(partition) == []


def test_what_changes_back_during_a_hook_takes_both_hooks_in_turn(
    hooked: Bench,
) -> None:
    hooked.tell(up(OTHER), Settle(), dead(OTHER), Settle())
    partition = LOST[0]
    assert hooked.end_hook(partition) == [Released(partition)]
    assert hooked.handing[partition].acquired
    assert hooked.end_hook(partition) == [Acquired(partition)]


def test_a_pause_tells_first_and_hands_off_afterwards(hooked: Bench) -> None:
    hooked.tell(up(OTHER), Settle(), Paused())
    assert hooked.owned == []
    assert sorted(hooked.handing) == ALL
    assert [hooked.end_hook(p) for p in ALL] == [[]] * SIZE


def test_what_was_being_acquired_in_a_pause_is_handed_back_untold(
    bench: Bench,
) -> None:
    bench.tell(Hooks(acquired=True, released=True), Begin((OTHER,), waits=False))
    first = bench.handing[KEPT[0]]
    effects = bench.tell(Paused())
    assert told(effects) == []
    assert Abandon(KEPT[0], first.number, overran=False) in effects
    assert not bench.handing[KEPT[0]].acquired
    assert told(bench.tell(HandedOff(KEPT[0], first.number))) == []
    assert bench.end_hook(KEPT[0]) == []


def test_the_end_hands_everything_back(hooked: Bench) -> None:
    hooked.tell(End())
    assert sorted(hooked.handing) == ALL
    assert hooked.end_hook(0) == [Released(0)]
    hooked.tell(up(OTHER), Heard(), TimerFired("seed"), Settle())
    for partition in ALL[1:]:
        hooked.end_hook(partition)
    assert hooked.handing == {}
    assert hooked.owned == []
    assert hooked.machine.awaiting == 0
