"""A node that leaves is alone at once, for itself and all others; and comes back."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p import (
    Conflict,
    EventStream,
    MemberDead,
    MemberUp,
    Node,
    PeerUnreachable,
    ServiceDown,
    ServiceNotFound,
    ServiceRegistered,
)
from barrel_p2p.core.inputs import Received
from barrel_p2p.node.cluster_operations import perform_on_cluster
from barrel_p2p.node.requests import Leave, Members
from barrel_p2p.services.member_messages import Leases
from barrel_p2p.testing import cluster, eventually

PATIENT: dict[str, Any] = {"member_ttl_ms": 60_000}  # No lease runs out in these tests.


def _knows(node: Node, members: int) -> bool:
    return len(node.members()) == members


def _lists(node: Node, services: int) -> bool:
    return len(node.list_services()) == services


def _are_peers(one: Node, other: Node) -> bool:
    return other.name in one.active_view() and one.name in other.active_view()


async def _next_of(stream: EventStream[Any], kind: type[Any]) -> Any:
    return await stream.until(lambda event: isinstance(event, kind), timeout=5)


async def _with_services(nodes: list[Node]) -> None:
    for node in nodes:
        await node.start_service_holder(f"of {node.name}")
    for node in nodes:
        await eventually(partial(_lists, node, len(nodes)))


async def test_whoever_left_knows_nobody_and_no_service_but_its_own(
    tmp_path: Path,
) -> None:
    async with cluster(4, directory=tmp_path, **PATIENT) as nodes:
        *others, leaver = nodes
        await _with_services(nodes)
        names = {node.name for node in others}
        async with leaver.events() as told, leaver.service_events() as services:
            await leaver.leave()
            assert leaver.members() == [leaver.name]
            assert leaver.suspects() == []
            assert leaver.list_services() == [f"of {leaver.name}"]
            for _ in others:
                dead = await _next_of(told, MemberDead)
                assert dead.reason == "left"
                names.remove(dead.node)
            down = [await services.next(timeout=5) for _ in others]
        assert sorted(down, key=str) == [
            ServiceDown(f"of {node.name}", node.name, "left") for node in others
        ]
        with pytest.raises(ServiceNotFound):
            await leaver.whereis_service(f"of {others[0].name}")


async def test_the_others_hold_it_for_dead_long_before_its_lease_ends(
    tmp_path: Path,
) -> None:
    async with cluster(4, directory=tmp_path, **PATIENT) as nodes:
        *others, leaver = nodes
        await _with_services(nodes)
        await leaver.leave()
        for node in others:
            await eventually(partial(_knows, node, 3), timeout=2)
            assert node.lookup(f"of {leaver.name}") == []


async def test_channels_and_pids_outlive_leaving(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path, **PATIENT) as (a, b):
        async with b.mailbox() as me:
            await a.leave()
            await a.send(me.pid, "still here")
            assert await me.receive(timeout=5) == "still here"
        assert a.members() == [a.name]


async def test_whoever_joins_again_finds_all_members_and_services(
    tmp_path: Path,
) -> None:
    """The services were registered once; nobody does so again."""
    async with cluster(4, directory=tmp_path, **PATIENT) as nodes:
        *others, leaver = nodes
        await _with_services(nodes)
        for contact in others[:2]:
            async with leaver.events() as told, leaver.service_events() as services:
                await leaver.leave()
                await leaver.join(contact)
                for stream, kind in ((told, MemberUp), (services, ServiceRegistered)):
                    found = [await _next_of(stream, kind) for _ in others]
                    assert {e.node for e in found} == {n.name for n in others}
            for node in nodes:
                await eventually(partial(_knows, node, 4))
                await eventually(partial(_lists, node, 4))


async def test_who_cannot_join_after_leaving_still_believes_no_old_lease(
    tmp_path: Path,
) -> None:
    """A peer may say it before it has heard that this node has left."""
    async with cluster(3, directory=tmp_path, **PATIENT) as (a, b, c):
        await eventually(partial(_are_peers, b, c))  # or nobody hears that c stops
        await a.leave()
        await c.stop()
        with pytest.raises(PeerUnreachable):
            await a.join(c.name, timeout=2)
        life = b._running().switch.creation
        old = Leases(0, ((b.name, life, 1 << 16, 0),))
        a._running().members._runner.feed(Received(b.name, old))
        assert a.members() == [a.name]
        await a.join(b)
        await eventually(partial(_knows, a, 2))


async def test_who_is_still_dialling_to_join_believes_no_old_lease_either(
    tmp_path: Path,
) -> None:
    """Nor loses members when one of two joins has failed: it has none yet."""
    async with cluster(3, directory=tmp_path, **PATIENT) as (a, b, c):
        await eventually(partial(_are_peers, b, c))  # or nobody hears that c stops
        await a.leave()
        await c.stop()
        life = b._running().switch.creation
        old = Leases(0, ((b.name, life, 1 << 16, 0),))
        async with a.events() as told:
            first = asyncio.ensure_future(a.join(c.name, timeout=2))
            await asyncio.sleep(0)
            await a.leave()
            second = asyncio.ensure_future(a.join(c.name, timeout=2))
            await asyncio.sleep(0)
            a._running().members._runner.feed(Received(b.name, old))
            assert a.members() == [a.name]
            for join in (first, second):
                with pytest.raises((Conflict, PeerUnreachable)):
                    await join
            await a.join(b)
            event = await told.until(
                lambda event: isinstance(event, MemberUp | MemberDead), timeout=5
            )
            assert isinstance(event, MemberUp)
            await eventually(partial(_knows, a, 2))


async def test_a_service_started_while_alone_is_found_after_joining(
    tmp_path: Path,
) -> None:
    async with cluster(3, directory=tmp_path, **PATIENT) as (a, b, c):
        await c.leave()
        pid = await c.start_service_holder("new")
        there = await a.start_service_holder("there")
        assert c.lookup("there") == []
        await c.join(b)
        assert await a.whereis_service("new", timeout=5) == pid
        assert await c.whereis_service("there", timeout=5) == there


async def test_the_command_leaves_a_node_alone_too(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path, **PATIENT) as (a, b):
        told = await perform_on_cluster(a, Leave(5_000))
        assert told == {"node": a.name, "left": True}
        listed = await perform_on_cluster(a, Members())
        assert isinstance(listed, dict)
        assert [each["node"] for each in listed["members"]] == [a.name]
        await eventually(lambda: b.members() == [b.name], timeout=2)
