"""Nodes that join see each other, hear each other and find each other's services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p import (
    Broadcasted,
    GenServer,
    Joined,
    MemberDead,
    Node,
    PeerDown,
    PeerUp,
    Pid,
    ServiceDown,
    ServiceRegistered,
    call,
    message,
)
from barrel_p2p.errors import Conflict, InvalidValue, PeerUnreachable, ServiceNotFound
from tests.endpoints import eventually, within


class Greeter(GenServer):
    @call
    async def greet(self, name: str) -> str:
        return f"hello {name}"


@message
class Weather:
    city: str
    degrees: int


@asynccontextmanager
async def _nodes(
    tmp_path: Path, count: int, *, join: bool = True, **settings: Any
) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(count):
            node = Node(
                f"n{number}@127.0.0.1",
                data_dir=str(tmp_path / str(number)),
                discovery_backends=(),
                **settings,
            )
            nodes.append(await stack.enter_async_context(node))
        if join:
            for node in nodes[1:]:
                await within(node.join(nodes[0]))
            await eventually(lambda: all(len(n.members()) == count for n in nodes))
        yield nodes


async def test_peers_are_each_other_s(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 5, active_size=3) as nodes:
        by_name = {node.name: node for node in nodes}

        def symmetric() -> bool:
            return all(
                node.name in by_name[peer].active_view()
                for node in nodes
                for peer in node.active_view()
            )

        await eventually(symmetric)
        for node in nodes:
            assert 1 <= len(node.active_view()) <= 3
            assert not set(node.active_view()) & set(node.passive_view())


async def test_whoever_joins_is_told_and_told_of(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 2, join=False) as (a, b):
        async with a.events() as at_a, b.events() as at_b:
            await within(b.join(a))
            assert b.active_view() == [a.name]
            await at_b.until(lambda event: event == Joined(), timeout=5)
            await at_a.until(lambda event: event == PeerUp(b.name), timeout=5)
        async with a.events() as at_a:
            await b.leave()
            await at_a.until(lambda event: isinstance(event, PeerDown), timeout=5)
            await eventually(lambda: b.name not in a.members())
            assert b.active_view() == []


async def test_a_join_that_fails_says_so(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 1) as (a,):
        with pytest.raises(PeerUnreachable):
            await a.join("nobody@127.0.0.1:1", timeout=5)
        with pytest.raises(Conflict, match="this node itself"):
            await a.join(a)


async def test_a_hidden_node_is_no_part_of_a_cluster(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 2) as (a, b):
        settings: dict[str, Any] = {
            "data_dir": str(tmp_path / "h"),
            "discovery_backends": (),
        }
        async with Node("h@127.0.0.1", hidden=True, **settings) as hidden:
            await within(hidden.connect(a))
            with pytest.raises(Conflict, match="hidden"):
                await hidden.join(a)
            with pytest.raises(Conflict, match="hidden"):
                hidden.members()
            assert a.members() == b.members() == [a.name, b.name]


async def test_a_broadcast_reaches_every_node_once(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 4, active_size=2) as nodes:
        told = [node.broadcasts("weather") for node in nodes]
        other = nodes[0].broadcasts("other")
        sent = Weather("Oslo", -3)
        message_id = await within(nodes[1].broadcast("weather", sent))
        for node, stream in zip(nodes, told, strict=True):
            event = await stream.next(timeout=5)
            assert isinstance(event, Broadcasted)
            assert event.payload == sent
            assert event.message_id == message_id
            assert event.own == (node is nodes[1])
        await within(nodes[2].broadcast("weather", "end"))
        for stream in told:
            event = await stream.next(timeout=5)
            assert isinstance(event, Broadcasted)
            assert event.payload == "end"
        with pytest.raises(TimeoutError):
            await other.next(timeout=0.01)


async def test_a_process_hears_broadcasts(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 2) as (a, b), b.mailbox() as me:
        await b.subscribe_broadcasts("t", me.pid)
        await a.broadcast("t", 1)
        assert (await within(me.receive())).payload == 1
        await b.unsubscribe_broadcasts("t", me.pid)
        await b.broadcast("t", 2)
        with pytest.raises(TimeoutError):
            await me.receive(timeout=0.05)
        with pytest.raises(InvalidValue):
            await a.subscribe_broadcasts("t", me.pid)


async def test_a_service_is_found_and_called_from_everywhere(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 4, active_size=2) as nodes:
        pid = await nodes[0].start_server(Greeter, service=("greeter", 1))
        for node in nodes:
            found = await within(node.whereis_service(("greeter", 1), timeout=5))
            assert found == pid
            greeter = await node.proxy(Greeter, found)
            assert await within(greeter.greet(node.name)) == f"hello {node.name}"
            assert node.list_services() == [("greeter", 1)]


async def test_the_end_of_a_process_takes_its_service_everywhere(
    tmp_path: Path,
) -> None:
    async with _nodes(tmp_path, 3) as (a, b, c):
        async with c.service_events() as told:
            pid = await a.start_service_holder("s")
            assert await told.next(timeout=5) == ServiceRegistered("s", a.name)
            await a.stop_service_holder(pid)
            assert await told.next(timeout=5) == ServiceDown("s", a.name, "shutdown")
        with pytest.raises(ServiceNotFound):
            await b.whereis_service("s")


async def test_a_node_that_stops_takes_its_services_along(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 3) as (a, b, c):
        await b.start_service_holder("s")
        await within(c.whereis_service("s", timeout=5))
        async with c.events() as told:
            await b.stop()
            dead = await told.until(lambda e: isinstance(e, MemberDead), timeout=5)
            assert isinstance(dead, MemberDead)
            assert (dead.node, dead.reason) == (b.name, "left")
        await eventually(lambda: not a.lookup("s") and not c.lookup("s"))


async def test_a_revoked_node_is_dead_until_it_is_revoked_no_more(
    tmp_path: Path,
) -> None:
    async with _nodes(tmp_path, 3) as (a, b, c):
        await c.start_service_holder("s")
        await within(a.whereis_service("s", timeout=5))
        async with a.events() as told:
            a.keys.revoke(c.name)
            dead = await told.until(lambda e: isinstance(e, MemberDead), timeout=5)
            assert dead == MemberDead(c.name, c.creation, "revoked")
        assert a.members() == [a.name, b.name]
        assert a.lookup("s") == []
        assert c.name in b.members()
        a.keys.unrevoke(c.name)
        await within(a.connect(c))
        await eventually(lambda: c.name in a.members())
        await eventually(lambda: len(a.lookup("s")) == 1)


async def test_a_process_registers_itself(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 2) as (a, b):

        async def serve(process: Any) -> None:
            await process.node.register_service("mine", meta={"load": 3})
            await process.receive()

        pid: Pid = a.spawn(serve)
        await within(b.whereis_service("mine", timeout=5))
        (entry,) = b.lookup("mine")
        assert entry.pid == pid
        assert entry.meta == {"load": 3}
        assert a.lookup_local("mine") == pid
        with pytest.raises(ServiceNotFound):
            b.lookup_local("mine")


async def test_twenty_nodes_that_join_one_at_once_become_one(tmp_path: Path) -> None:
    async with _nodes(tmp_path, 20, join=False) as nodes:
        first, *others = nodes
        await within(asyncio.gather(*(node.join(first) for node in others)))
        await eventually(lambda: all(len(node.members()) == 20 for node in nodes))
        await eventually(lambda: all(len(node.active_view()) >= 4 for node in nodes))
