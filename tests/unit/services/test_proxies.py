"""Proxies of real nodes: the right process, at the same time, and until the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.carrier.dialer import ConnectOptions
from barrel_p2p.core.events import Down
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    BarrelError,
    Busy,
    CallTimeout,
    NoProc,
    PeerUnreachable,
    RemoteError,
    ServiceNotFound,
)
from barrel_p2p.node.node import Node
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.switch import Call
from barrel_p2p.runtime.verbs import call
from barrel_p2p.services import proxy as proxy_module
from barrel_p2p.services.proxy import Proxies
from barrel_p2p.services.service_events import ServiceEntry, ServiceUnregistered
from tests.endpoints import HOST, eventually, within
from tests.far_nodes import A, B, C, answering, far_nodes, keeping, parts_of

NAME = "greeter"
LOST = "z@127.0.0.1"


class Greeter(GenServer):
    """A typed server."""

    @call
    async def greet(self, who: str) -> str:
        return f"hello {who}"


def proxies_of(node: Node) -> Proxies:
    return parts_of(node).proxies


async def registered(at: Node, name: object, pid: Pid, *seen_by: Node) -> Pid:
    """``pid`` is registered on ``at``, and the other nodes know."""
    await at.register_service(name, pid)
    await eventually(
        lambda: all(any(e.pid == pid for e in n.lookup(name)) for n in seen_by)
    )
    return pid


async def until_error(ask: Callable[[], Awaitable[Any]]) -> BarrelError:
    with pytest.raises(BarrelError) as caught:
        await within(ask())
    return caught.value


async def test_a_proxy_is_a_local_process_for_a_remote_one(tmp_path: Path) -> None:
    """CLU-08: and there is one of it a name."""
    async with far_nodes(tmp_path) as (a, _, c):
        await registered(c, NAME, c.spawn(answering, "c"), a)
        assert a.get_proxy(NAME) is None
        proxy = await within(a.ensure_proxy(NAME, C))
        assert proxy.node == A
        assert proxy.is_local()
        assert a.get_proxy(NAME) == await a.ensure_proxy(NAME) == proxy
        assert proxies_of(a).list_proxies() == [(NAME, proxy)]
        assert await within(proxy.call("hello")) == ("c", "hello", A)
        assert proxies_of(a).stop_proxy(NAME)
        assert not proxies_of(a).stop_proxy(NAME)
        assert a.get_proxy(NAME) is None
        assert isinstance(await until_error(lambda: proxy.call("hello")), NoProc)


async def test_there_is_no_proxy_for_what_is_not_there(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, _, c):
        with pytest.raises(ServiceNotFound):
            await within(a.ensure_proxy("nobody"))
        await registered(c, NAME, c.spawn(answering, "c"), a)
        with pytest.raises(ServiceNotFound, match=B):
            await within(a.ensure_proxy(NAME, B))
        assert proxies_of(a).list_proxies() == []


async def test_calls_reach_the_registered_process_whatever_its_node_calls_it(
    tmp_path: Path,
) -> None:
    """E26: another process of the owner's node has the name as a local one."""
    async with far_nodes(tmp_path) as (a, _, c):
        c.spawn(answering, "the wrong one", name=NAME)
        await registered(c, NAME, c.spawn(answering, "the right one"), a)
        proxy = await within(a.ensure_proxy(NAME))
        assert await within(proxy.call(1)) == ("the right one", 1, A)


async def test_a_call_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    """E26: calls through a proxy run beside one another."""
    async with far_nodes(tmp_path) as (a, _, c):
        taken: list[object] = []
        await registered(c, NAME, c.spawn(in_reverse, 20, taken), a)
        proxy = await within(a.ensure_proxy(NAME))
        calls = [asyncio.create_task(proxy.call(i)) for i in range(20)]
        assert await within(asyncio.gather(*calls)) == list(range(20))
        assert taken == list(range(20))


async def in_reverse(me: Process, count: int, taken: list[object]) -> None:
    """Takes ``count`` calls and then answers them, the last one first."""
    waiting: list[Call] = []
    while len(waiting) < count:
        message = await me.receive()
        taken.append(message.request)
        waiting.append(message)
    for one in reversed(waiting):
        one.reply(one.request)
    await me.receive(lambda message: False)


async def test_a_typed_proxy_works_through_it(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, _, c):
        await registered(c, NAME, await c.start_server(Greeter), a)
        greeter = await a.proxy(Greeter, await within(a.ensure_proxy(NAME)))
        assert await within(greeter.greet("you")) == "hello you"


async def test_messages_and_casts_arrive_in_order(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, _, c):
        kept: list[object] = []
        await registered(c, NAME, c.spawn(keeping, kept), a)
        proxy = await within(a.ensure_proxy(NAME))
        assert C not in a.nodes(), "the first ones wait for a channel"
        for i in range(5):
            await proxy.cast(i)
            await proxy.send(("plain", i))
        await eventually(lambda: len(kept) == 10)
        assert kept == [x for i in range(5) for x in (("cast", i), ("plain", i))]


async def test_beyond_the_cap_casts_are_dropped_and_counted(tmp_path: Path) -> None:
    """PRX-02: with room for two, five casts leave nothing in flight behind."""
    async with far_nodes(tmp_path, proxy_cast_max_in_flight=2) as (a, _, c):
        kept: list[object] = []
        await registered(c, NAME, c.spawn(keeping, kept), a)
        proxy = await within(a.ensure_proxy(NAME))
        for i in range(5):  # There is no channel yet.
            await proxy.cast(i)
        await eventually(lambda: proxies_of(a).stats().casts == 5)
        assert proxies_of(a).casts_in_flight(NAME) == 2
        await eventually(lambda: proxies_of(a).casts_in_flight(NAME) == 0)
        await eventually(lambda: len(kept) == 2)
        assert kept == [("cast", 0), ("cast", 1)]
        stats = proxies_of(a).stats()
        assert (stats.cast_dropped, stats.cast_failed) == (3, 0)
        await proxy.cast("later")
        await eventually(lambda: kept[-1] == ("cast", "later"))


async def test_errors_come_through_as_what_they_are(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, _, c):
        await registered(c, NAME, c.spawn(answering, "c"), a)
        proxy = await within(a.ensure_proxy(NAME))
        failed = await until_error(lambda: proxy.call("fail"))
        assert isinstance(failed, RemoteError)
        assert (failed.remote_type, failed.remote_traceback) == ("ValueError", "line 1")
        assert "as you wish" in str(failed)
        late = await until_error(lambda: proxy.call("wait", timeout=0.05))
        assert isinstance(late, CallTimeout)
        waiting = asyncio.create_task(proxy.call("wait"))
        await eventually(lambda: parts_of(a).switch.calls_waiting == 2)
        parts_of(c).channels.disconnect(A)
        with pytest.raises(PeerUnreachable):
            await within(waiting)
        assert a.get_proxy(NAME) == proxy, "a lost channel is no lost service"


async def test_a_caller_that_gives_up_ends_the_call_behind_the_proxy(
    tmp_path: Path,
) -> None:
    async with far_nodes(tmp_path) as (a, _, c):
        await registered(c, NAME, c.spawn(answering, "c"), a)
        proxy = await within(a.ensure_proxy(NAME))
        waiting = asyncio.create_task(proxy.call("wait"))
        line = parts_of(c).switch.lines
        await eventually(lambda: A in line and line[A].calls_open == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        await eventually(lambda: line[A].calls_open == 0)
        assert parts_of(a).switch.calls_waiting == 0


async def test_a_proxy_ends_with_its_service_everywhere(tmp_path: Path) -> None:
    """REG-22, E26: reaped when the name is gone, and its waiting calls fail."""
    async with far_nodes(tmp_path) as (a, _, c):
        pid = await registered(c, NAME, c.spawn(answering, "c"), a)
        await registered(c, "other", c.spawn(answering, "other"), a)
        proxy = await within(a.ensure_proxy(NAME))
        other = await within(a.ensure_proxy("other"))
        async with a.mailbox() as me:
            ref = me.monitor(proxy)
            waiting = asyncio.create_task(proxy.call("wait"))
            await eventually(lambda: parts_of(a).switch.calls_waiting == 2)
            await pid.exit("shutdown")
            assert await within(me.receive(Down)) == Down(ref, proxy, "normal")
        with pytest.raises(NoProc):
            await within(waiting)
        assert a.get_proxy(NAME) is None
        assert a.get_proxy("other") == other, "only the one whose service is gone"
        await c.unregister_service("other")
        await eventually(lambda: a.get_proxy("other") is None)
        assert len(proxies_of(a)) == 0


async def test_a_proxy_changes_over_to_another_instance(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, b, c):
        first = await registered(b, NAME, b.spawn(answering, "b"), a)
        proxy = await within(a.ensure_proxy(NAME))
        await registered(c, NAME, c.spawn(answering, "c"), a)
        assert await within(proxy.call(1)) == ("b", 1, A)
        await first.exit("shutdown")
        await eventually(lambda: [e.node for e in a.lookup(NAME)] == [C])
        assert a.get_proxy(NAME) == proxy
        assert await within(proxy.call(2)) == ("c", 2, A)
        assert proxies_of(a).stats().retargeted == 1


async def test_a_call_that_finds_nobody_sends_the_next_one_elsewhere(
    tmp_path: Path,
) -> None:
    """The registry here has not heard, and hears nothing any more."""
    async with far_nodes(tmp_path) as (a, b, c):
        pids = {
            node.name: await registered(node, NAME, node.spawn(answering, "it"), a)
            for node in (b, c)
        }
        proxy = await within(a.ensure_proxy(NAME, C))
        assert await within(proxy.call(1)) == ("it", 1, A)
        handle = parts_of(a).registry._handle
        assert handle is not None
        handle.stop()
        await pids[C].exit("kill")
        await eventually(lambda: len(b.lookup(NAME)) == 1)
        assert isinstance(await until_error(lambda: proxy.call(2)), NoProc)
        assert len(a.lookup(NAME)) == 2
        assert await within(proxy.call(3)) == ("it", 3, A)
        target = proxies_of(a).target_of(NAME)
        assert target is not None
        assert target.pid == pids[B]


async def test_a_proxy_follows_a_service_that_starts_anew(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, b, c):
        first = await registered(b, NAME, b.spawn(answering, "old"), a)
        await registered(c, NAME, c.spawn(answering, "c"), a)
        proxy = await within(a.ensure_proxy(NAME, B))
        await first.exit("shutdown")
        await eventually(lambda: [e.node for e in a.lookup(NAME)] == [C])
        await registered(b, NAME, b.spawn(answering, "new"), a)
        await c.unregister_service(NAME)
        await eventually(lambda: [e.node for e in a.lookup(NAME)] == [B])
        assert await within(proxy.call(1)) == ("new", 1, A)


async def test_what_waits_for_the_old_instance_goes_to_the_new_one(
    tmp_path: Path,
) -> None:
    async with far_nodes(tmp_path) as (a, b, _):
        kept: list[object] = []
        known = [ServiceEntry(NAME, Pid(LOST, 1, 1), LOST, {})]
        own = Proxies(parts_of(a).processes, lookup=lambda name: list(known))
        proxy = await own.ensure_proxy(NAME)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind((HOST, 0))
            remote = silent.getsockname()
            a.set_connect_options(LOST, ConnectOptions(remote=remote))
            await proxy.cast("first")
            await eventually(lambda: own.casts_in_flight(NAME) == 1)
            known[:] = [ServiceEntry(NAME, b.spawn(keeping, kept), B, {})]
            own.service_changed(ServiceUnregistered(NAME, LOST))
            await eventually(lambda: kept == [("cast", "first")])
        assert own.casts_in_flight(NAME) == 0
        own.close()
        assert len(own) == 0


async def test_a_proxy_for_what_was_only_found_elsewhere_ends_with_it(
    tmp_path: Path,
) -> None:
    """The registry here knows nothing of it, and so hears nothing of its end."""
    async with far_nodes(tmp_path) as (a, b, c):
        handle = parts_of(a).registry._handle
        assert handle is not None
        handle.stop()
        pid = await registered(c, NAME, c.spawn(answering, "c"), b)
        proxy = await within(a.ensure_proxy(NAME))
        assert await within(proxy.call(1)) == ("c", 1, A)
        await pid.exit("shutdown")
        await eventually(lambda: a.get_proxy(NAME) is None)
        assert a.whereis_name(NAME) is None, "the route is forgotten too"


async def test_there_are_so_many_proxies_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "PROXIES_MAX", 2)
    async with far_nodes(tmp_path) as (a, _, c):
        for name in (1, 2, 3):
            await registered(c, name, c.spawn(answering, "c"), a)
        await a.ensure_proxy(1)
        await a.ensure_proxy(2)
        with pytest.raises(Busy, match="PROXIES_MAX=2"):
            await a.ensure_proxy(3)
        proxies_of(a).stop_proxy(1)
        await a.ensure_proxy(3)
