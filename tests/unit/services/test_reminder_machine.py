"""A reminder machine fires what is its own and due, and nothing that nobody hears."""

from __future__ import annotations

import random
from typing import Any

import pytest

from barrel_p2p.core.effects import SetTimer
from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberUp
from barrel_p2p.core.ormap import Entry
from barrel_p2p.core.rendezvous import partition_of
from barrel_p2p.services.reminder_inputs import (
    Consume,
    Deliver,
    Fired,
    Learned,
    Listening,
    NotFired,
    Removed,
    Synced,
    Unsure,
)
from barrel_p2p.services.reminder_machine import (
    CATCH_UP_BATCH,
    CATCH_UP_GAP_MS,
    FIRING_MAX,
    LOOK,
    ReminderMachine,
)
from barrel_p2p.services.shard_events import Acquired, Released

SIZE = 8
WALL = 1_800_000_000_000
ROOM = 1_000


class Bench:
    """One machine, both its clocks, and its timer."""

    def __init__(self, *, owns: bool = True, hears: bool = True) -> None:
        self.now = 5_000
        self.offset = WALL
        self.machine = ReminderMachine("me@h", SIZE, wall=self)
        self.timer: int | None = None
        self.stamps = 0
        for partition in range(SIZE) if owns else ():
            self.tell(Acquired(partition))
        if hears:
            self.listen()

    def wall_ms(self) -> int:
        return self.now + self.offset

    def tell(self, *events: object) -> list[Any]:
        """What is to be fired."""
        found = []
        for event in events:
            for effect in self.machine.handle(event, now_ms=self.now):
                if isinstance(effect, SetTimer):
                    assert effect.key == LOOK
                    self.timer = self.now + effect.delay_ms
                else:
                    found.append(effect)
        return found

    def listen(self, room: int = ROOM, *, acknowledging: bool = False) -> None:
        assert self.tell(Listening(1, room, acknowledging)) == []

    def set(self, name: bytes, in_ms: int) -> Entry:
        self.stamps += 1
        at_ms = self.wall_ms() + in_ms
        entry = Entry(name, Timestamp(WALL, self.stamps), "a@h", (at_ms, None))
        assert self.tell(Learned(name, at_ms, entry)) == []
        return entry

    def run(self, for_ms: int) -> list[tuple[int, Any]]:
        """When what is fired, from now; what is consumed is gone at once."""
        start, found = self.now, []
        while self.timer is not None and self.timer <= start + for_ms:
            self.now, self.timer = max(self.timer, self.now), None
            for effect in self.tell(TimerFired(LOOK)):
                found.append((self.now - start, effect))
                if isinstance(effect, Consume):
                    self.tell(Removed(effect.name), Fired(effect.name))
                    self.listen()
        self.now = start + for_ms
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_fires_at_its_time_whatever_the_order_in_which_they_are_set(
    bench: Bench,
) -> None:
    times = list(range(0, 5_000, 7))
    random.Random(1).shuffle(times)
    entries = {ms: bench.set(b"%d" % ms, ms) for ms in times}
    fired = bench.run(6_000)
    assert fired == [(ms, Consume(b"%d" % ms, entries[ms])) for ms in sorted(times)]
    assert len(bench.machine) == 0


def test_what_is_set_anew_or_cancelled_fires_not_at_the_old_time(bench: Bench) -> None:
    bench.set(b"moved", 100)
    later = bench.set(b"moved", 900)
    bench.set(b"cancelled", 100)
    bench.tell(Removed(b"cancelled"))
    assert bench.run(2_000) == [(900, Consume(b"moved", later))]


def test_only_the_partitions_that_are_ours_fire_and_others_when_they_come() -> None:
    bench = Bench(owns=False)
    entries = {b"%d" % i: bench.set(b"%d" % i, 100) for i in range(64)}
    assert bench.timer is None
    partition = partition_of(b"0", SIZE)
    bench.tell(Acquired(partition))
    ours = [n for n in entries if partition_of(n, SIZE) == partition]
    assert [e.name for _, e in bench.run(500)] == ours
    bench.tell(Released(partition))
    bench.set(b"0", 0)
    assert bench.run(2_000) == []
    bench.tell(Acquired(partition))
    assert [e.name for _, e in bench.run(100)] == [b"0"]


def test_nothing_is_consumed_while_nobody_listens() -> None:
    """21 of the notes."""
    bench = Bench(hears=False)
    entry = bench.set(b"k", 100)
    assert bench.run(60_000) == []
    bench.listen(room=0)
    assert bench.run(2_000) == []
    bench.listen()
    assert bench.run(100) == [(0, Consume(b"k", entry))]


def test_no_more_are_under_way_than_there_is_room_for(bench: Bench) -> None:
    bench.listen(room=3)
    for i in range(5):
        bench.set(b"%d" % i, 0)
    fired = bench.tell(TimerFired(LOOK))
    assert [e.name for e in fired] == [b"0", b"1", b"2"]
    bench.listen(room=3)
    assert bench.tell(TimerFired(LOOK)) == []
    bench.tell(Fired(b"0"), Removed(b"0"))
    bench.listen(room=3)
    assert [e.name for e in bench.tell(TimerFired(LOOK))] == [b"3"]
    bench.listen(room=1 << 30)
    for i in range(FIRING_MAX + 9):
        bench.set(b"x%d" % i, 0)
    bench.tell(TimerFired(LOOK))
    assert bench.machine.firing <= FIRING_MAX


def test_what_could_not_be_made_durable_is_tried_again(bench: Bench) -> None:
    entry = bench.set(b"k", 0)
    assert bench.tell(TimerFired(LOOK)) == [Consume(b"k", entry)]
    bench.tell(NotFired(b"k", entry))
    bench.listen()
    assert bench.run(3_000) == [(1_000, Consume(b"k", entry))]


def test_a_failure_of_what_was_set_anew_meanwhile_fires_nothing_old(
    bench: Bench,
) -> None:
    entry = bench.set(b"k", 0)
    bench.tell(TimerFired(LOOK))
    later = bench.set(b"k", 5_000)
    bench.tell(NotFired(b"k", entry))
    bench.listen()
    assert bench.run(6_000) == [(5_000, Consume(b"k", later))]


def test_what_is_not_acknowledged_is_told_again_with_the_same_entry(
    bench: Bench,
) -> None:
    bench.listen(acknowledging=True)
    entry = bench.set(b"k", 100)
    fired = bench.run(70_000)
    assert fired == [(at, Deliver(b"k", entry)) for at in (100, 30_100, 60_100)]
    assert bench.machine.stats.redelivered == 2
    bench.tell(Removed(b"k"))
    assert bench.run(70_000) == []


def test_what_another_node_may_have_been_told_is_told_by_the_new_owner_at_once(
    bench: Bench,
) -> None:
    bench.listen(acknowledging=True)
    entry = bench.set(b"k", 0)
    assert bench.run(10) == [(0, Deliver(b"k", entry))]
    partition = partition_of(b"k", SIZE)
    bench.tell(Released(partition), Acquired(partition))
    assert bench.run(10) == [(0, Deliver(b"k", entry))]


# After this node was away.


def test_what_others_may_have_fired_waits_for_quiet_and_a_comparison(
    bench: Bench,
) -> None:
    bench.tell(Unsure(), MemberUp("a@h", 1))
    entry = bench.set(b"k", -5_000)
    assert bench.run(1_500) == []
    bench.tell(MemberUp("b@h", 1))
    assert bench.run(1_500) == []
    bench.tell(Synced())
    fired = bench.run(2_000)
    assert [e for _, e in fired] == [Consume(b"k", entry)]
    assert 500 <= fired[0][0] <= 501
    assert not bench.machine.held


def test_who_owns_nothing_yet_cannot_know_that_it_is_alone() -> None:
    bench = Bench(owns=False)
    bench.tell(Unsure())
    entry = bench.set(b"k", -5_000)
    bench.run(60_000)
    bench.tell(MemberUp("a@h", 1), Acquired(partition_of(b"k", SIZE)))
    assert bench.run(1_900) == []
    bench.tell(Synced())
    assert [e for _, e in bench.run(2_000)] == [Consume(b"k", entry)]


def test_without_a_neighbour_to_compare_with_patience_ends(bench: Bench) -> None:
    bench.tell(Unsure(), MemberUp("a@h", 1))
    bench.set(b"k", -5_000)
    assert [at for at, _ in bench.run(30_000)] == [18_000]


def test_members_that_come_and_go_for_ever_hold_nothing_up_beyond_patience(
    bench: Bench,
) -> None:
    bench.tell(Unsure(), MemberUp("a@h", 1))
    bench.set(b"k", -5_000)
    bench.tell(Synced())
    fired = []
    for _ in range(30):
        bench.tell(MemberUp("b@h", 1), MemberDead("b@h", 1, "left"))
        since = bench.now
        fired += [at + since - 5_000 for at, _ in bench.run(1_000)]
    assert fired == [18_000]


def test_alone_there_is_nobody_to_compare_with(bench: Bench) -> None:
    bench.tell(Unsure(), MemberUp("me@h", 1), MemberUp("a@h", 1))
    bench.tell(MemberDead("a@h", 1, "left"))
    bench.set(b"k", -5_000)
    assert [at for at, _ in bench.run(30_000)] == [2_000]


def test_the_late_are_caught_up_with_at_a_bounded_rate_and_the_rest_is_in_time(
    bench: Bench,
) -> None:
    bench.listen(room=1_000)
    for i in range(400):
        bench.set(b"late%d" % i, -10_000)
    bench.set(b"now", 120)
    fired = bench.run(1_000)
    assert [at for at, e in fired if e.name == b"now"] == [120]
    late = [at for at, e in fired if e.name != b"now"]
    assert len(late) == 400
    for at in range(1_000):
        in_span = [t for t in late if at <= t < at + CATCH_UP_GAP_MS]
        assert len(in_span) <= CATCH_UP_BATCH
    assert bench.machine.stats.late == 400


# The wall clock.


def test_a_clock_that_is_set_forward_is_noticed_within_a_scan(bench: Bench) -> None:
    bench.set(b"k", 3_600_000)
    assert bench.run(500) == []
    bench.offset += 3_600_000
    assert [e.name for _, e in bench.run(1_000)] == [b"k"]


def test_a_clock_that_is_set_back_fires_nothing_early(bench: Bench) -> None:
    bench.set(b"k", 500)
    bench.offset -= 10_000
    assert [at for at, _ in bench.run(20_000)] == [10_500]


# What it costs.


def test_time_passing_looks_at_nothing_that_is_not_due(bench: Bench) -> None:
    """21 of the notes: no scan of all keys, neither in time nor on another's churn."""
    for i in range(5_000):
        bench.set(b"%d" % i, 10**9 + i)
    looked = 0

    class Counting(dict[bytes, Any]):
        def values(self) -> Any:
            nonlocal looked
            looked += len(self)
            return super().values()

    machine = bench.machine
    index = machine._by_partition
    for partition in index:
        index[partition] = Counting(index[partition])
    machine._items = Counting(machine._items)
    bench.run(60_000)
    assert looked == 0
    bench.tell(Released(0))
    assert looked == len(index[0])


def test_a_queue_of_replaced_reminders_does_not_grow(bench: Bench) -> None:
    for i in range(20_000):
        bench.set(b"k", 10_000 + i)
    assert len(bench.machine._heap) < 3_000
