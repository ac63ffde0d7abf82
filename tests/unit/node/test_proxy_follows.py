"""A proxy for a service goes on with another instance, and repeats nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p import CallTimeout, GenServer, Node, Pid, call, cast
from barrel_p2p.errors import NoProc, PeerUnreachable, ServiceNotFound
from barrel_p2p.testing import cluster, eventually, partition
from tests.endpoints import within

PATIENT: dict[str, Any] = {"suspect_ms": 60_000, "member_ttl_ms": 60_000}


class Counter(GenServer):
    """Says where it is, counts what it was asked, and ends when it is told to."""

    async def init(self) -> None:
        self.asked: list[str] = []
        self.begun = asyncio.Event()

    @call
    async def where(self) -> str:
        node: Node = self.node
        return node.name

    @call
    async def history(self) -> list[str]:
        return self.asked

    @call(concurrent=True)
    async def hang(self, word: str) -> None:
        self.asked.append(word)
        await asyncio.Event().wait()

    @cast
    async def note(self, word: str) -> None:
        self.asked.append(word)


def _blind(node: Node) -> None:
    """Let the registry of ``node`` learn nothing more from others."""
    handle = node._running().registry._handle
    assert handle is not None
    handle.stop()


async def _has_heard(counter: Counter, words: list[str]) -> bool:
    return await counter.history() == words


async def _serve(*nodes: Node) -> dict[str, Pid]:
    """A counter on each of ``nodes``, known to all of them."""
    pids = {n.name: await n.start_server(Counter, service="counter") for n in nodes}
    for node in nodes:
        await _all_known(node, len(nodes))
    return pids


async def _all_known(node: Node, count: int) -> None:
    await eventually(lambda: len(node.lookup("counter")) == count)


async def test_the_next_call_goes_to_another_instance_without_an_error(
    tmp_path: Path,
) -> None:
    async with cluster(3, directory=tmp_path) as (a, b, c):
        pids = await _serve(a, b)
        await _all_known(c, 2)
        proxy = await c.proxy(Counter, "counter")
        first = await within(proxy.where())
        assert [await within(proxy.where()) for _ in range(20)] == [first] * 20
        await pids[first].exit("kill")
        await _all_known(c, 1)
        second = await within(proxy.where())
        assert {first, second} == {a.name, b.name}
        assert [await within(proxy.where()) for _ in range(20)] == [second] * 20


async def test_a_proxy_follows_a_service_that_was_unregistered(tmp_path: Path) -> None:
    async with cluster(3, directory=tmp_path) as (a, b, c):
        await _serve(a, b)
        await _all_known(c, 2)
        proxy = await c.proxy(Counter, "counter")
        first = await within(proxy.where())
        owner = a if first == a.name else b
        await owner.unregister_service("counter")
        await _all_known(c, 1)
        assert await within(proxy.where()) != first


async def test_a_call_under_way_fails_and_is_asked_of_nobody_else(
    tmp_path: Path,
) -> None:
    async with cluster(3, directory=tmp_path) as (a, b, c):
        pids = await _serve(a, b)
        await _all_known(c, 2)
        proxy = await c.proxy(Counter, "counter")
        first = await within(proxy.where())
        under_way = asyncio.create_task(proxy.hang("once"))
        watched = await c.proxy(Counter, pids[first])
        await eventually(lambda: _has_heard(watched, ["once"]))
        await pids[first].exit("kill")
        with pytest.raises(NoProc):
            await within(under_way)
        assert await within(proxy.where()) != first
        assert await within(proxy.history()) == []


async def test_a_call_before_the_registry_knows_fails_once(tmp_path: Path) -> None:
    async with cluster(3, directory=tmp_path) as (a, b, c):
        pids = await _serve(a, b)
        await _all_known(c, 2)
        proxy = await c.proxy(Counter, "counter")
        first = await within(proxy.where())
        _blind(c)
        await pids[first].exit("kill")
        await eventually(lambda: len(a.lookup("counter")) == 1)
        assert len(c.lookup("counter")) == 2
        with pytest.raises(NoProc):
            await within(proxy.where())
        for _ in range(20):
            assert await within(proxy.where()) != first


async def test_the_next_call_waits_for_a_server_that_is_started_again(
    tmp_path: Path,
) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        pids = await _serve(a)
        proxy = await b.proxy(Counter, "counter", timeout=10)
        assert await within(proxy.where()) == a.name
        await pids[a.name].exit("kill")
        await _all_known(b, 0)
        waiting = [asyncio.create_task(proxy.where()) for _ in range(3)]
        told = asyncio.create_task(proxy.note("told"))
        await asyncio.sleep(0.05)  # not synchronisation: none of them may end meanwhile
        assert not any(task.done() for task in (*waiting, told))
        await a.start_server(Counter, service="counter")
        assert await within(asyncio.gather(*waiting)) == [a.name] * 3
        await within(told)
        assert await within(proxy.history()) == ["told"]


async def test_whoever_waits_in_vain_is_told_so_and_finds_it_later(
    tmp_path: Path,
) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        pids = await _serve(a)
        proxy = await b.proxy(Counter, "counter", timeout=0.2)
        assert await within(proxy.where()) == a.name
        await pids[a.name].exit("kill")
        await _all_known(b, 0)
        with pytest.raises(ServiceNotFound, match="'counter'"):
            await within(proxy.where())
        with pytest.raises(ServiceNotFound):
            await within(proxy.note("nobody hears"))
        await b.start_server(Counter, service="counter")
        assert await within(proxy.where()) == b.name


async def test_a_node_that_cannot_be_reached_is_left_for_another(
    tmp_path: Path,
) -> None:
    """At once, and not only when it is dead: nobody here suspects it for a minute."""
    async with cluster(3, directory=tmp_path, **PATIENT) as (a, b, c):
        await _serve(a, b)
        await _all_known(c, 2)
        proxy = await c.proxy(Counter, "counter", timeout=1)
        first = await within(proxy.where())
        lost = a if first == a.name else b
        with partition(c, lost, noticed=True):
            with pytest.raises((PeerUnreachable, CallTimeout)):
                await within(proxy.where())
            assert lost.name in c.members()
            for _ in range(5):
                assert await within(proxy.where()) not in (first, lost.name)


async def test_the_only_instance_is_asked_again_when_it_can_be_reached(
    tmp_path: Path,
) -> None:
    async with cluster(2, directory=tmp_path, **PATIENT) as (a, b):
        await _serve(a)
        proxy = await b.proxy(Counter, "counter", timeout=1)
        assert await within(proxy.where()) == a.name
        with (
            partition(a, b, noticed=True),
            pytest.raises((PeerUnreachable, CallTimeout)),
        ):
            await within(proxy.where())

        async def reached() -> bool:
            try:
                return await proxy.where() == a.name
            except (PeerUnreachable, CallTimeout):
                return False

        await eventually(reached)


async def test_a_slow_server_is_not_left(tmp_path: Path) -> None:
    async with cluster(3, directory=tmp_path) as (a, b, c):
        await _serve(a, b)
        await _all_known(c, 2)
        proxy = await c.proxy(Counter, "counter", timeout=0.2)
        first = await within(proxy.where())
        with pytest.raises(CallTimeout):
            await within(proxy.hang("slow"))
        assert await within(proxy.where()) == first


async def test_a_name_on_this_node_goes_before_the_service(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        await a.start_server(Counter, service="counter")
        await b.whereis_service("counter", timeout=5)
        pid = await b.start_server(Counter, name="counter")
        proxy = await b.proxy(Counter, "counter")
        assert await within(proxy.where()) == b.name
        await pid.exit("kill")
        await eventually(lambda: b.whereis("counter") is None)
        assert await within(proxy.where()) == a.name
        await b.start_server(Counter, name="counter")
        assert await within(proxy.where()) == b.name


async def test_a_name_that_was_never_a_service_is_not_waited_for(
    tmp_path: Path,
) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        pid = await a.start_server(Counter, name="counter")
        proxy = await a.proxy(Counter, "counter", timeout=30)
        assert await within(proxy.where()) == a.name
        await pid.exit("kill")
        await eventually(lambda: a.whereis("counter") is None)
        with pytest.raises(NoProc, match="nobody has the name 'counter'"):
            await within(proxy.where())
        with pytest.raises(NoProc):
            await within(proxy.note("nobody hears"))
        await a.start_server(Counter, name="counter")
        assert await within(proxy.where()) == a.name


async def test_a_service_found_elsewhere_is_followed_too(tmp_path: Path) -> None:
    """The registry here never knew it, so only a call can tell that it has ended."""
    async with cluster(2, directory=tmp_path) as (a, b):
        _blind(b)
        pids = await _serve(a)
        proxy = await b.proxy(Counter, "counter")
        assert b.lookup("counter") == []
        assert await within(proxy.where()) == a.name
        # Other services come and go meanwhile.
        await b.start_service_holder("something else")
        assert await within(proxy.where()) == a.name
        await pids[a.name].exit("kill")
        await _all_known(a, 0)
        with pytest.raises(NoProc):
            await within(proxy.where())
        await a.start_server(Counter, service="counter")
        assert await within(proxy.where()) == a.name
