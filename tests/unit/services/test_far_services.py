"""Real nodes in a row: services and nodes that are found beyond the neighbours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barrel_p2p.core.peers import PeerUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    CallTimeout,
    InvalidValue,
    NoProc,
    Overloaded,
    PeerUnreachable,
    ServiceNotFound,
)
from barrel_p2p.node.node import Node
from barrel_p2p.services.router import Router
from barrel_p2p.services.service_events import ServiceEntry
from tests.endpoints import eventually, within
from tests.far_nodes import A, B, C, answering, far_nodes, parts_of
from tests.unit.node.nodes import node, nodes

NAME = ("greeter", 1)


def router_of(node: Node) -> Router:
    return parts_of(node).router


def hold_back(node: Node) -> None:
    """Let the registry of ``node`` learn nothing: it has stopped listening."""
    parts = parts_of(node)
    assert parts.registry._handle is not None
    parts.registry._handle.stop()


async def test_a_node_that_nobody_told_of_is_found_and_called(tmp_path: Path) -> None:
    """The owner is no neighbour, and discovery does not know it: peers do."""
    async with far_nodes(tmp_path) as (a, _, c):
        pid = c.spawn(answering, "c")
        assert parts_of(a).whereabouts.of(C) is None
        assert await within(a.call(pid, "hello")) == ("c", "hello", A)
        assert a.nodes() == [B, C]
        assert a.active_view() == [B]
        assert parts_of(a).whereabouts.of(C) == c.address[1:]
        # Now it knows by itself, also when the channel is gone.
        assert a.disconnect(C)
        searches = router_of(a).stats().searches
        assert await within(a.call(pid, "again")) == ("c", "again", A)
        assert router_of(a).stats().searches == searches


async def test_a_node_that_starts_anew_elsewhere_is_found_there(tmp_path: Path) -> None:
    async with far_nodes(tmp_path, member_ttl_ms=4_000) as (a, b, c):
        await within(a.connect(C))
        old = c.address
        await within(c.stop(), 30)
        await eventually(lambda: C not in a.members())
        assert parts_of(a).whereabouts.of(C) is None, "the old place is forgotten"
        again = node(tmp_path, C, active_size=2, discovery_backends=("static",))
        async with again:
            again.block_peers([A])
            await within(again.join(b.address))
            pid = again.spawn(answering, "again")
            assert again.address != old
            assert await within(a.call(pid, 1)) == ("again", 1, A)


async def test_a_node_that_nobody_knows_is_unreachable_and_told_why(
    tmp_path: Path,
) -> None:
    async with far_nodes(tmp_path) as (a, _, _):
        with pytest.raises(PeerUnreachable, match="peers: no entry"):
            await within(a.connect("z@127.0.0.1"))


async def test_a_service_is_found_where_the_registry_does_not_know_it(
    tmp_path: Path,
) -> None:
    """REG-14: found by asking alone, and what is found can be called."""
    async with far_nodes(tmp_path) as (a, b, c):
        hold_back(a)
        pid = c.spawn(answering, "c")
        await c.register_service(NAME, pid, {"load": 3})
        await eventually(lambda: b.lookup(NAME) != [])
        assert a.lookup(NAME) == []
        found = await within(a.find_service(NAME))
        assert found == ServiceEntry(NAME, pid, C, {"load": 3})
        assert await within(a.whereis_service(NAME)) == pid
        assert a.whereis_name(NAME) == pid
        assert router_of(a).stats().searches == 1, "the second time it is cached"
        assert await within(a.call(NAME, "hello")) == ("c", "hello", A)
        router_of(a).invalidate_route(NAME)
        assert a.whereis_name(NAME) is None


async def test_a_search_leaves_no_message_in_anybody_s_mailbox(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, b, c):
        hold_back(a)
        await c.register_service(NAME, c.spawn(answering, "c"))
        await eventually(lambda: b.lookup(NAME) != [])
        async with a.mailbox() as me:
            await within(a.find_service(NAME))
            with pytest.raises(ServiceNotFound):
                await within(a.find_service("nobody"))
            with pytest.raises(TimeoutError):
                await me.receive(timeout=0)


async def test_all_who_look_for_a_name_share_one_search(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, _, _):
        looking = [a.find_service("nobody") for _ in range(50)]
        failed = await within(asyncio.gather(*looking, return_exceptions=True))
        assert {type(one) for one in failed} == {ServiceNotFound}
        assert router_of(a).stats().searches == 1
        assert router_of(a).searches == 0


async def test_an_unknown_name_is_told_apart_from_a_late_answer(tmp_path: Path) -> None:
    async with nodes(tmp_path, A, discovery_backends=("file",)) as (a,):
        with pytest.raises(ServiceNotFound):
            await a.find_service("nobody")
        # A peer that never answers, because there is none.
        router_of(a).peer_changed(PeerUp("z@127.0.0.1"))
        with pytest.raises(CallTimeout):
            await within(a.find_service("nobody", timeout=0.05))
        soon = asyncio.create_task(a.find_service("nobody", timeout=0.05))
        late = asyncio.create_task(a.find_service("nobody", timeout=0.3))
        with pytest.raises(CallTimeout):
            await within(soon)
        assert not late.done(), "whoever has more time is not ended with the others"
        with pytest.raises(CallTimeout):
            await within(late)
        assert router_of(a).searches == 0


async def test_a_search_that_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    async with nodes(tmp_path, A, discovery_backends=("file",)) as (a,):
        router_of(a).peer_changed(PeerUp("z@127.0.0.1"))
        looking = asyncio.create_task(a.find_service("nobody"))
        await eventually(lambda: router_of(a).searches == 1)
        looking.cancel()
        await asyncio.wait({looking})
        assert router_of(a).searches == 0


async def test_too_many_searches_are_overloaded(tmp_path: Path) -> None:
    async with nodes(tmp_path, A, router_max_in_flight=2) as (a,):
        router_of(a).peer_changed(PeerUp("z@127.0.0.1"))
        looking = [asyncio.create_task(a.find_service(n)) for n in ("one", "two")]
        await eventually(lambda: router_of(a).searches == 2)
        with pytest.raises(Overloaded, match="router_max_in_flight"):
            await a.find_service("three")
        for one in looking:
            one.cancel()


@pytest.mark.parametrize("timeout", [0, -1, 10.1])
async def test_a_timeout_out_of_range_is_refused(
    tmp_path: Path, timeout: float
) -> None:
    async with nodes(tmp_path, A) as (a,):
        with pytest.raises(InvalidValue, match="timeout"):
            await a.find_service("nobody", timeout=timeout)


async def test_whereis_answers_at_once_either_way(tmp_path: Path) -> None:
    """REG-10, REG-11: unknown without retries, and known with them, within 50 ms."""
    async with far_nodes(tmp_path) as (a, _, _):
        now = asyncio.get_running_loop().time
        began = now()
        with pytest.raises(ServiceNotFound):
            await a.whereis_service("nobody", retries=0)
        assert now() - began < 0.05
        pid = a.spawn(answering, "a")
        await a.register_service(NAME, pid)
        began = now()
        assert await a.whereis_service(NAME, retries=3) == pid
        assert now() - began < 0.05


async def test_the_way_to_a_node_is_direct_or_to_be_opened(tmp_path: Path) -> None:
    """RTR-01, RTR-02, RTR-03: to itself it is direct, to strangers there is none."""
    async with node(tmp_path, "lonely@127.0.0.1") as alone:
        assert router_of(alone).find_route(alone.name) == "direct"
        assert router_of(alone).find_route("z@127.0.0.1") == "no_route"
    async with far_nodes(tmp_path) as (a, _, c):
        assert router_of(a).find_route(B) == "direct"
        assert router_of(a).find_route(C) == "no_route"
        await within(a.connect(C))
        assert router_of(a).find_route(C) == "direct"
        a.disconnect(C)
        assert router_of(a).find_route(C) == "dial"
        assert c.active_view() == [B]


async def test_a_route_that_leads_nowhere_is_forgotten_by_the_call_that_says_so(
    tmp_path: Path,
) -> None:
    async with far_nodes(tmp_path) as (a, b, _):
        dead = Pid(B, 1 << 30, b.creation)
        router_of(a).cache_route(ServiceEntry(NAME, dead, B, {}))
        assert a.whereis_name(NAME) == dead
        with pytest.raises(NoProc):
            await within(a.call(NAME, 1))
        assert a.whereis_name(NAME) is None


async def test_a_cached_route_stays_until_it_is_invalidated(tmp_path: Path) -> None:
    """RTR-04, RTR-05, RTR-06."""
    async with nodes(tmp_path, A) as (a,):
        router = router_of(a)
        known = [ServiceEntry(n, Pid(C, n, 1), C, {}) for n in (1, 2, 3)]
        for one in known:
            router.cache_route(one)
        assert [router.cached_route(n) for n in (1, 2, 3)] == known
        assert await a.find_service(2) == known[1]
        router.invalidate_route(2)
        assert [router.cached_route(n) for n in (1, 2, 3)] == [known[0], None, known[2]]
        router.invalidate_all()
        assert router.routes == 0
