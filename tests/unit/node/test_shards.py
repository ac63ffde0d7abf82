"""Nodes agree on whose a key is, and tell, and hand over, what changes hands."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import barrel_p2p
from barrel_p2p import Acquired, Node, Process, Released
from barrel_p2p.core.rendezvous import Ring
from barrel_p2p.errors import InvalidValue, NotEncodable, NotStarted, RingSizeMismatch
from barrel_p2p.node.shards import pause_ms
from tests.endpoints import eventually, within
from tests.unit.node.nodes import config, node, nodes

KEYS: list[object] = ["user:42", b"\x00\xff", 7, -(1 << 70), ("room", ("a", 1)), "é"]
EVERYTHING = list(range(64))


@asynccontextmanager
async def cluster(
    tmp_path: Path, count: int, **settings: Any
) -> AsyncIterator[list[Node]]:
    """Nodes that are members of one cluster, as each of them knows."""
    async with AsyncExitStack() as stack:
        made: list[Node] = []
        for number in range(count):
            one = node(tmp_path, f"n{number}@127.0.0.1", **settings)
            made.append(await stack.enter_async_context(one))
            if number:
                await within(one.join(made[0]))
        await eventually(lambda: all(len(n.members()) == count for n in made))
        yield made


async def settled(made: list[Node]) -> None:
    """Wait until each partition has one owner, as each owner knows."""

    def one_owner_each() -> bool:
        owned = [p for n in made for p in n.owned_partitions()]
        return sorted(owned) == EVERYTHING

    await eventually(one_owner_each)


# Whose a key is.


async def test_a_lone_node_owns_everything(tmp_path: Path) -> None:
    """SHD-01: it is the only member, and every key and partition is its own."""
    async with node(tmp_path, "a@127.0.0.1") as a:
        assert a.members() == [a.name]
        assert a.owned_partitions() == EVERYTHING
        assert [a.place(key) for key in KEYS] == [a.name] * len(KEYS)
        assert all(a.is_owner(key) for key in KEYS)
        assert a.owners("k", 3) == [a.name]


async def test_three_nodes_agree_on_every_key(tmp_path: Path) -> None:
    """SHD-02, SHD-09: and it is what the ring of these members says."""
    async with cluster(tmp_path, 3) as made:
        await settled(made)
        names = [n.name for n in made]
        ring = Ring(64, names)
        for n in made:
            assert n.members() == names
            owned = [p for p in EVERYTHING if ring.owners[p] == n.name]
            assert n.owned_partitions() == owned
            for key in KEYS:
                partition = n.partition(key)
                assert partition == made[0].partition(key)
                assert n.place(key) == ring.owners[partition]
                assert n.is_owner(key) == (n.place(key) == n.name)
                assert n.owners(key, 2) == ring.ranking(partition, 2)
                assert sorted(n.owners(key, 9)) == names


async def test_the_functions_of_the_current_node_are_its_methods(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        assert barrel_p2p.place("k") == a.name
        assert barrel_p2p.owners("k", 1) == [a.name]
        assert barrel_p2p.is_owner("k")
        assert barrel_p2p.partition("k") == a.partition("k")
        assert barrel_p2p.owned_partitions() == EVERYTHING


async def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        for wrong in (1.5, None, True, ["a"]):
            for ask in (a.place, a.is_owner, a.partition):
                with pytest.raises(NotEncodable):
                    ask(wrong)
        with pytest.raises(InvalidValue, match="1 at least"):
            a.owners("k", 0)
    with pytest.raises(NotStarted):
        a.place("k")


async def test_another_ring_size_is_refused_and_named(tmp_path: Path) -> None:
    """The two stay apart, each with a ring of its own, and both logs could say why."""
    async with (
        node(tmp_path, "a@127.0.0.1") as a,
        node(tmp_path, "b@127.0.0.1", ring_size=128) as b,
    ):
        with pytest.raises(
            RingSizeMismatch, match=r"ring_size=128, .* has 64"
        ) as caught:
            await within(b.join(a))
        assert "same ring_size" in str(caught.value.hint)
        assert (a.members(), b.members()) == ([a.name], [b.name])
        assert len(b.owned_partitions()) == 128


# Before the cluster is known.


async def test_a_node_with_contacts_places_nothing_before_it_hears_one(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        contact = f"{a.name}:{a.address.port}"
        later = node(tmp_path, "b@127.0.0.1", contact_nodes=(contact,))
        async with later as b, b.shard_events() as events:
            assert b.place("k") is None or len(b.members()) == 2
            first = await within(events.next())
            assert len(b.members()) == 2
            assert isinstance(first, Acquired)
            await settled([a, b])


async def test_a_node_that_hears_nobody_waits_for_a_lease(tmp_path: Path) -> None:
    nobody = ("nobody@127.0.0.1:9",)
    leases = {"member_heartbeat_ms": 100, "member_ttl_ms": 400}
    alone = node(tmp_path, "b@127.0.0.1", contact_nodes=nobody, **leases)
    started = time.monotonic()
    async with alone as b:
        assert b.place("k") is None
        assert b.owners("k", 2) == []
        assert not b.is_owner("k")
        assert b.owned_partitions() == []
        assert b.partition("k") < 64
        await eventually(lambda: b.place("k") == b.name)
        assert time.monotonic() - started >= 0.4


async def test_a_node_that_had_peers_waits_for_them_too(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2):
        pass
    async with node(tmp_path, "n1@127.0.0.1") as again:
        assert again.place("k") is None


# What changes hands.


async def test_a_node_that_comes_and_goes_moves_only_its_own(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b):
        await settled([a, b])
        theirs = b.owned_partitions()
        async with a.shard_events() as events:
            await b.stop()
            told = [await within(events.next()) for _ in theirs]
            assert told == [Acquired(p) for p in theirs]
            assert a.owned_partitions() == EVERYTHING


async def test_a_process_is_told_until_it_unsubscribes(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a, node(tmp_path, "b@127.0.0.1") as b:
        heard: list[object] = []

        async def listen(me: Process) -> None:
            await a.subscribe_shard()
            await a.subscribe_shard()
            while len(heard) < 3:
                heard.append(await me.receive())
            await a.unsubscribe_shard()
            heard.append("done")

        a.spawn(listen)
        await within(b.join(a))
        await eventually(lambda: "done" in heard)
        kept = Ring(64, [a.name, b.name]).owners
        lost = [p for p in EVERYTHING if kept[p] == b.name]
        assert heard[:3] == [Released(p) for p in lost[:3]]


async def test_a_pause_takes_everything_away_before_anybody_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """20 of the notes: self never expires, but it doubts itself after a long stop."""
    leases = {"member_heartbeat_ms": 100, "member_ttl_ms": 400, "suspect_ms": 300}
    async with cluster(tmp_path, 2, **leases) as (a, b):
        await settled([a, b])
        mine = next(k for k in range(100) if a.is_owner(k))
        owned = a.owned_partitions()
        async with a.shard_events() as events:
            with caplog.at_level(logging.WARNING):
                time.sleep(1.0)  # not synchronisation: a pause  # noqa: ASYNC251
                assert not a.is_owner(mine)
            assert a.owned_partitions() == []
            told = [await within(events.next()) for _ in owned]
            assert told == [Released(p) for p in owned]
            await settled([a, b])
            assert a.owned_partitions() == owned
        assert "stood still" in caplog.text
        assert a.name in a.members()


def test_a_pause_that_others_may_act_on_is_long_enough(tmp_path: Path) -> None:
    """When a node stops, its lease may be a heartbeat old, its last packet a third of
    the idle timeout; and a suspect has time to answer.
    """
    assert pause_ms(config(tmp_path, "a@h")) == 5_000 - 1_666 + 1_000
    assert pause_ms(config(tmp_path, "a@h", idle_timeout_ms=3_000)) == 3_000
    assert pause_ms(config(tmp_path, "a@h", suspect_ms=9_000)) == 6_000


# Hand-off.


async def test_the_others_hear_of_a_stop_after_the_hooks(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b):
        await settled([a, b])
        theirs, go = b.owned_partitions(), asyncio.Event()
        handed: list[int] = []

        async def hand_off(partition: int) -> None:
            await go.wait()
            assert b.name in a.members()
            handed.append(partition)

        b.on_hand_off(released=hand_off)
        async with b.shard_events() as events:
            stopping = asyncio.ensure_future(b.stop(drain=20.0))
            await eventually(lambda: bool(b._overlay().shards._machine.awaiting))
            assert b.owned_partitions() == theirs
            go.set()
            await within(stopping)
            assert sorted(handed) == theirs
            told = [await within(events.next()) for _ in theirs]
        assert sorted(e.partition for e in told if isinstance(e, Released)) == theirs
        await settled([a])


async def test_a_partition_that_comes_is_prepared_first(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b):
        await settled([a, b])
        theirs = b.owned_partitions()
        prepared: list[int] = []

        async def prepare(partition: int) -> None:
            assert partition not in a.owned_partitions()
            prepared.append(partition)

        forget = a.on_hand_off(acquired=prepare)
        await b.stop()
        await settled([a])
        assert sorted(prepared) == theirs
        forget()
        forget()


async def test_hooks_that_fail_or_never_end_hold_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook has ``member_ttl_ms``, and is cancelled then."""
    leases: Any = {"member_heartbeat_ms": 200, "member_ttl_ms": 600}
    async with node(tmp_path, "a@127.0.0.1", **leases) as a:
        cancelled: list[int] = []

        async def raises(partition: int) -> None:
            raise RuntimeError("no")

        async def hangs(partition: int) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(partition)
                raise

        a.on_hand_off(released=raises)
        a.on_hand_off(released=hangs)
        async with nodes(tmp_path, "b@127.0.0.1", **leases) as [b]:
            with caplog.at_level(logging.WARNING):
                await within(b.join(a))
                await settled([a, b])
            assert sorted(cancelled) == b.owned_partitions()
        assert "RuntimeError('no')" in caplog.text
        assert "not over within 600 ms" in caplog.text


async def test_a_stop_does_not_wait_for_a_hook_longer_than_it_may(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:

        async def hangs(partition: int) -> None:
            await asyncio.Event().wait()

        a.on_hand_off(released=hangs)
        async with a.shard_events() as events:
            await within(a.stop(drain=0.2))
            told = [await within(events.next()) for _ in EVERYTHING]
            assert told == [Released(p) for p in EVERYTHING]


async def test_a_hook_waits_for_the_cancelled_one_of_its_partition(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        live: dict[int, None] = {}
        met: list[int] = []
        released: list[int] = []
        go = asyncio.Event()

        async def take(partition: int) -> None:
            live[partition] = None
            try:
                await asyncio.Event().wait()
            finally:
                await go.wait()
                del live[partition]

        async def give(partition: int) -> None:
            released.append(partition)
            if partition in live:
                met.append(partition)

        a.on_hand_off(acquired=take, released=give)
        shards = a._overlay().shards
        shards._on_pause(9_000)
        await eventually(lambda: len(live) == len(EVERYTHING))
        shards._on_pause(9_000)
        for _ in range(5):
            await asyncio.sleep(0)
        # Those of the first pause are over; those that give back what was begun wait.
        assert sorted(released) == EVERYTHING
        go.set()
        await eventually(lambda: len(released) == 2 * len(EVERYTHING))
        assert met == []


async def test_a_hook_waits_for_one_that_takes_no_notice_half_of_its_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leases: Any = {"member_heartbeat_ms": 200, "member_ttl_ms": 600}
    async with node(tmp_path, "a@127.0.0.1", **leases) as a:
        go = asyncio.Event()
        begun: list[int] = []
        second: list[int] = []
        released: list[int] = []

        async def take(partition: int) -> None:
            begun.append(partition)
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue

        async def also_take(partition: int) -> None:
            second.append(partition)

        async def give(partition: int) -> None:
            released.append(partition)

        a.on_hand_off(acquired=take, released=give)
        a.on_hand_off(acquired=also_take)
        shards = a._overlay().shards
        shards._on_pause(9_000)
        await eventually(lambda: len(begun) == len(EVERYTHING))
        shards._on_pause(9_000)
        await eventually(lambda: len(released) >= 2 * len(EVERYTHING))
        go.set()
        await eventually(lambda: not shards._ending)
    assert "were not over within 0.3 s" in caplog.text


async def test_no_hook_outlives_its_node(tmp_path: Path) -> None:
    ended: list[int] = []
    async with node(tmp_path, "a@127.0.0.1") as a:

        async def hangs(partition: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)  # not synchronisation: it takes its time
                ended.append(partition)

        a.on_hand_off(released=hangs)
        shards = a._overlay().shards
        await within(shards.close(0.1))
        assert sorted(ended) == EVERYTHING
        assert not shards._running
        assert not shards._ending


async def test_a_timer_looks_for_a_pause_first(tmp_path: Path) -> None:
    leases = {"member_heartbeat_ms": 100, "member_ttl_ms": 400, "suspect_ms": 300}
    async with cluster(tmp_path, 2, **leases) as (a, b):
        await settled([a, b])
        owned = a.owned_partitions()
        shards = a._overlay().shards

        async def hangs(partition: int) -> None:
            await asyncio.Event().wait()

        a.on_hand_off(acquired=hangs)
        theirs = b.owned_partitions()
        await b.stop()
        await eventually(lambda: len(shards._running) == len(theirs))
        async with a.shard_events() as events:
            time.sleep(1.0)  # not synchronisation: a pause  # noqa: ASYNC251
            shards._fire(theirs[0])
            told = [await within(events.next()) for _ in owned]
        assert told == [Released(p) for p in owned]
        assert shards.stats().overran == 0
