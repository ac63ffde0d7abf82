"""Replicas between real nodes: QUIC on loopback and real gossip, in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import pytest

from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.core.members import MemberDead, MemberGone
from barrel_p2p.core.ormap import TOMBSTONE, Entry, OrMap
from barrel_p2p.errors import Busy, Conflict, InvalidValue, NotEncodable, NotStarted
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.replica.driver import topic_of
from barrel_p2p.replica.limits import PENDING_ENTRIES_MAX
from barrel_p2p.wire.terms import key_bytes
from tests.channel_nodes import connected
from tests.endpoints import DEADLINE_S, eventually, within
from tests.replica_nodes import NAME, ReplicaNode, replica_node, replica_nodes

NARROW = EngineSettings(send_high=65_536, send_low=8_192, stream_window=65_536)

# One chunk does not block the queue, and a second one does not fit.
SHORT = EngineSettings(
    send_high=99_000, send_low=8_192, send_max=100_000, stream_window=65_536
)


def all_hold(nodes: list[ReplicaNode], key: object, value: object) -> bool:
    return all(node.entries.get(key) == value for node in nodes)


def alike(nodes: list[ReplicaNode]) -> bool:
    return len({node.entries.digest() for node in nodes}) == 1


class PlainOwner:
    """What a user would write who wants to do everything himself."""

    def __init__(self, node: str) -> None:
        self.entries = OrMap(node, HLC())
        self.customs: list[object] = []
        self.gone: list[str] = []
        self.parts = 0

    def replica_merge_delta(self, name: str, delta: Mapping[Any, Any]) -> None:
        self.entries.absorb_clock(dict(delta))
        self.entries.merge(dict(delta))

    def replica_apply_full_sync(self, name: str, snapshot: Mapping[Any, Any]) -> None:
        self.parts += 1
        self.replica_merge_delta(name, snapshot)

    def replica_full_sync_snapshot(self, name: str) -> Mapping[Any, Any] | None:
        return self.entries.snapshot() or None

    def replica_remove_node(self, name: str, node: str) -> None:
        self.gone.append(node)

    def replica_merge_custom(self, name: str, payload: object) -> None:
        self.customs.append(payload)


class BrokenOwner(PlainOwner):
    def replica_merge_delta(self, name: str, delta: Mapping[Any, Any]) -> None:
        raise RuntimeError("merge_delta is broken")

    def replica_full_sync_snapshot(self, name: str) -> Mapping[Any, Any] | None:
        raise RuntimeError("snapshot is broken")

    def replica_remove_node(self, name: str, node: str) -> None:
        raise RuntimeError("remove_node is broken")

    def replica_merge_custom(self, name: str, payload: object) -> None:
        raise RuntimeError("merge_custom is broken")


async def test_a_write_is_merged_once_by_the_others_and_never_by_its_writer() -> None:
    """E8."""
    async with replica_nodes(3) as nodes:
        raw: list[Delivery] = []
        nodes[0].broadcast.subscribe(topic_of(NAME), raw.append)
        await nodes[0].add("k", [1])
        await eventually(lambda: all_hold(nodes, "k", [1]))
        entry = nodes[0].entries.entry("k")
        assert [node.entries.entry("k") for node in nodes] == [entry] * 3
        for node in nodes[1:]:
            assert [(c.before, c.after, s) for c, s in node.changes] == [
                (None, entry, "delta")
            ]
        assert nodes[0].changes == []
        assert [delivery.own for delivery in raw] == [True]


async def test_an_echo_of_this_life_is_dropped_and_one_of_another_is_not() -> None:
    async with replica_nodes(2) as (first, second):
        await first.add("k", 1)
        await eventually(lambda: second.entries.get("k") == 1)
        heard: list[Delivery] = []
        second.broadcast.subscribe(topic_of(NAME), heard.append)
        await first.add("k", 2)
        await eventually(lambda: bool(heard))
        # Somebody gossips it again under another id.
        await second.broadcast.broadcast(topic_of(NAME), heard[0].payload)
        await eventually(lambda: first.replicas.stats()["echoes"] == 1)
        assert first.changes == []
    async with (
        replica_node("n0@h", creation=8) as later,
        replica_node("n1@h") as other,
    ):
        await connected(later.node, other.node)
        await other.broadcast.broadcast(topic_of(NAME), heard[0].payload)
        await eventually(lambda: later.entries.get("k") == 2)


async def test_the_writes_of_one_turn_travel_in_one_broadcast() -> None:
    async with replica_nodes(2) as (first, second):
        heard: list[Delivery] = []
        second.broadcast.subscribe(topic_of(NAME), heard.append)
        for number in range(100):
            first.running.publish(first.entries.add(number, number))
        first.running.publish(first.entries.add(0, "newer"))
        await eventually(lambda: second.entries.get(0) == "newer")
        assert len(heard) == 1
        assert len(second.entries) == 100
        assert first.replicas.stats()["deltas_sent"] == 1


async def test_a_replica_that_starts_late_gets_what_its_neighbours_have() -> None:
    """INF-02, MAP-20: the same way in which a restarted owner catches up."""
    async with replica_nodes(2, started=False) as nodes:
        for node in nodes:
            await eventually(lambda n=node: n.node.ups == 1)  # type: ignore[misc]
        first, second = nodes
        for late, early in ((first, second), (second, first)):
            early.start()
            early.entries.add(early.name, "before")
            late.start()
            await eventually(lambda: alike(nodes))
            assert late.entries.get(early.name) == "before"
            late.running.stop()
            early.running.stop()


async def test_what_was_missed_while_gossip_did_not_arrive_is_caught_up_on() -> None:
    async with replica_nodes(2) as (first, second):
        await eventually(lambda: bool(first.synced) and bool(second.synced))
        first.entries.add("unheard", 1)
        second.running.catch_up()
        await eventually(lambda: second.entries.get("unheard") == 1)
        second.entries.add("of second", 2)
        second.running.catch_up(first.name)
        await eventually(lambda: first.entries.get("of second") == 2)


async def test_a_store_of_nothing_but_tombstones_removes_elsewhere() -> None:
    """E12."""
    async with replica_node("a@h") as first, replica_node("b@h") as second:
        delta = first.entries.add("k", 1)
        second.store.replica_merge_delta(NAME, delta)
        first.entries.remove("k")
        assert first.entries.is_empty()
        await connected(first.node, second.node)
        await eventually(lambda: "k" not in second.entries)
        assert second.entries.tombstones == 1
        assert second.changes[-1][0].after.value is TOMBSTONE


async def test_both_sides_of_a_new_channel_end_with_what_either_had() -> None:
    async with replica_node("a@h") as first, replica_node("b@h") as second:
        for number in range(500):
            first.entries.add(("a", number), number)
            second.entries.add(("b", number), number)
        await connected(second.node, first.node)
        await eventually(lambda: alike([first, second]))
        assert len(first.entries) == 1_000
        assert {source for _, source in first.changes} == {"sync"}
        await eventually(lambda: bool(first.synced) and bool(second.synced))
        asked = [n.replicas.stats()["rounds_asked"] for n in (first, second)]
        assert asked == [1, 0]


@pytest.mark.parametrize("settings", [NARROW, SHORT], ids=["blocked", "busy"])
async def test_a_large_store_waits_for_a_narrow_channel_and_goes_on(
    settings: EngineSettings,
) -> None:
    async with (
        replica_node("a@h", settings=settings) as first,
        replica_node("b@h", settings=settings) as second,
    ):
        for number in range(4_000):
            first.entries.add(number, bytes(300))
        await connected(first.node, second.node)
        async with asyncio.timeout(DEADLINE_S):
            while first.replicas.stats()["rounds_chunks_held"] == 0:
                with contextlib.suppress(Busy):
                    first.broadcast.broadcast_nowait("noise", bytes(90_000))
                await asyncio.sleep(0)
        assert len(second.entries) < 4_000
        await eventually(lambda: alike([first, second]))
        assert second.replicas.stats()["rounds_chunks_received"] >= 15
        assert len(second.entries) == 4_000


async def test_a_channel_that_goes_down_ends_the_sync_and_the_next_completes_it() -> (
    None
):
    async with replica_node("a@h") as first, replica_node("b@h") as second:
        for number in range(6_000):
            first.entries.add(number, bytes(300))
        await connected(first.node, second.node)
        await eventually(lambda: len(second.entries) > 0)
        assert len(second.entries) < 6_000
        first.node.channels.disconnect(second.name)
        await eventually(lambda: second.node.downs != [])
        assert first.replicas.stats()["rounds_completed"] == 0
        held = len(second.entries)
        await asyncio.sleep(0)
        assert held <= len(second.entries) < 6_000
        await connected(second.node, first.node)
        await within(eventually(lambda: alike([first, second])))


async def test_a_neighbour_that_goes_down_takes_nothing_with_it() -> None:
    async with replica_nodes(2) as (first, second):
        await first.add("k", 1)
        await eventually(lambda: second.entries.get("k") == 1)
        second.node.channels.disconnect(first.name)
        await eventually(lambda: first.node.downs != [] and second.node.downs != [])
        assert second.entries.get("k") == 1
        assert first.entries.get("k") == 1


async def test_without_anti_entropy_what_was_not_gossiped_stays_where_it_is() -> None:
    """AEN-01."""
    async with replica_nodes(2, anti_entropy_ms=0) as (first, second):
        await eventually(lambda: bool(first.synced) and bool(second.synced))
        first.entries.add("unheard", 1)
        # Everything that could still happen does so before a later write arrives.
        for number in range(20):
            await first.add(number, number)
            await eventually(lambda n=number: second.entries.get(n) == n)  # type: ignore[misc]
        assert "unheard" not in second.entries


async def test_with_anti_entropy_it_reaches_everyone_both_ways() -> None:
    async with replica_nodes(3, anti_entropy_ms=200) as nodes:
        await eventually(lambda: all(node.synced for node in nodes))
        nodes[0].entries.add("of first", 1)
        nodes[2].entries.add("of last", 2)
        await eventually(lambda: alike(nodes))
        assert all_hold(nodes, "of first", 1)
        assert all_hold(nodes, "of last", 2)


@pytest.mark.parametrize("plain", [False, True], ids=["store", "plain"])
async def test_old_news_that_a_sync_brought_goes_on_to_the_other_neighbours(
    plain: bool,
) -> None:
    async with (
        replica_node("a@h", started=False) as first,
        replica_node("b@h", started=False) as middle,
        replica_node("c@h", started=False) as last,
    ):
        nodes = [first, middle, last]
        await connected(first.node, middle.node)
        await connected(middle.node, last.node)
        owners = [PlainOwner(n.name) if plain else n.store for n in nodes]
        handles = [
            n.replicas.start(NAME, owner)
            for n, owner in zip(nodes, owners, strict=True)
        ]
        await eventually(lambda: len(middle.synced) >= 2)
        stamp = Timestamp(first.clock.now().wall_ms - 10_000, 0)
        owners[0].entries.merge({key_bytes("k"): Entry("k", stamp, "x@h", 1)})
        handles[0].catch_up()
        await eventually(lambda: owners[2].entries.get("k") == 1)


async def test_only_a_member_that_is_gone_is_told_to_owners() -> None:
    async with replica_node("a@h") as one:
        owner = PlainOwner("a@h")
        one.replicas.start("plain", owner)
        one.replicas.member_changed(MemberDead("b@h", 7, "unreachable"))
        assert owner.gone == []
        one.replicas.member_changed(MemberGone("b@h", 7))
        assert owner.gone == ["b@h"]


async def test_a_plain_owner_is_kept_alike_too() -> None:
    async with replica_nodes(2) as (first, second):
        owners = [PlainOwner("n0@h"), PlainOwner("n1@h")]
        for number in range(300):
            owners[0].entries.add(number, "x" * 500)
        handle = first.replicas.start("plain", owners[0])
        other = second.replicas.start("plain", owners[1])
        await eventually(lambda: len(owners[1].entries) == 300)
        assert owners[1].parts > 1
        await handle.broadcast_update(("add", "k", 1))
        assert owners[0].entries.get("k") == 1
        await eventually(lambda: owners[1].entries.get("k") == 1)
        assert owners[0].entries.entry("k") == owners[1].entries.entry("k")
        await other.broadcast_update(("remove", "k"))
        await eventually(lambda: "k" not in owners[0].entries)
        await handle.broadcast_custom({"fence": 7})
        await eventually(lambda: owners[1].customs == [{"fence": 7}])
        assert owners[0].customs == []


async def test_what_a_callback_raises_stays_with_it() -> None:
    """E14."""
    async with replica_nodes(2) as (first, second):
        good = first.replicas.start("other", PlainOwner("n0@h"))
        second.replicas.start("other", BrokenOwner("n1@h"))
        await good.broadcast_update(("add", "k", 1))
        await good.broadcast_custom(1)
        second.replicas.member_changed(MemberGone("x@h", 1))
        await eventually(lambda: second.replicas.stats()["callbacks_failed"] >= 4)
        await first.add("k", 1)
        await eventually(lambda: second.entries.get("k") == 1)
        assert first.node.downs == []


async def test_an_update_goes_through_its_store_and_is_stamped_once() -> None:
    async with replica_nodes(2) as (first, second):
        await first.running.broadcast_update(("add", ("a", 1), [1]))
        await eventually(lambda: second.entries.get(("a", 1)) == [1])
        assert first.entries.entry(("a", 1)) == second.entries.entry(("a", 1))
        assert [source for _, source in first.changes] == ["update"]
        with pytest.raises(InvalidValue, match="an update is"):
            await first.running.broadcast_update(("set", 1))  # type: ignore[arg-type]
        with pytest.raises(NotEncodable):
            await first.running.broadcast_update(("add", 1.5, 1))
        with pytest.raises(NotEncodable):
            await first.running.broadcast_update(("add", "k", object()))
        assert len(first.entries) == 1


async def test_names_and_owners_are_checked_when_a_replica_starts() -> None:
    async with replica_node("a@h") as one:
        with pytest.raises(Conflict, match="runs on this node already"):
            one.replicas.start(NAME, one.store)
        for name in ("", "x" * 201, "a\0b"):
            with pytest.raises(InvalidValue, match="a replica's name"):
                one.replicas.start(name, one.store)
        with pytest.raises(InvalidValue, match="replica_merge_delta"):
            one.replicas.start("x", object())  # type: ignore[arg-type]
        assert one.replicas.names() == [NAME]
        assert one.replicas.get(NAME) is one.handle


async def test_a_replica_that_was_stopped_says_so() -> None:
    async with replica_node("a@h") as one:
        one.running.stop()
        one.running.stop()
        with pytest.raises(NotStarted):
            one.running.publish(one.entries.add("k", 1))
        with pytest.raises(NotStarted):
            await one.running.broadcast_custom(1)
        with pytest.raises(NotStarted):
            await one.running.broadcast_update(("remove", "k"))
        with pytest.raises(NotStarted):
            one.running.catch_up()
        await one.replicas.close()
        await one.replicas.close()
        with pytest.raises(NotStarted):
            one.replicas.start("again", one.store)


async def test_writes_that_cannot_leave_are_bounded() -> None:
    async with replica_node("a@h") as one:
        for number in range(PENDING_ENTRIES_MAX):
            one.running.publish(one.entries.add(number, 0))
        with pytest.raises(Busy, match="keys wait for gossip"):
            one.running.publish(one.entries.add("more", 0))
        await within(one.running.broadcast_delta(one.entries.add("more", 0)))
        await within(one.running.flush())
        assert one.replicas.stats()["deltas_sent"] > 1
