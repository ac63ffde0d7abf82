"""Functions of the package are the current node's methods, and of no other node's."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import barrel_p2p
from barrel_p2p import Node, NotStarted, Pid, Process, ServiceNotFound
from barrel_p2p.node import here
from barrel_p2p.testing import cluster, eventually
from tests.endpoints import within


@pytest.mark.parametrize("name", here.__all__)
def test_a_function_takes_and_returns_what_the_method_does(name: str) -> None:
    function, method = getattr(barrel_p2p, name), getattr(Node, name)
    assert function is getattr(here, name)
    assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(method)
    taken = inspect.signature(method)
    _, *parameters = taken.parameters.values()
    assert inspect.signature(function) == taken.replace(parameters=parameters)


async def test_without_a_node_they_say_so() -> None:
    with pytest.raises(NotStarted):
        barrel_p2p.members()
    with pytest.raises(NotStarted):
        await barrel_p2p.join("a@127.0.0.1")


async def test_of_several_nodes_the_running_process_s_is_meant(tmp_path: Path) -> None:
    seen: list[str] = []

    async def look(me: Process, other: Node) -> None:
        seen.extend(barrel_p2p.active_view())
        await barrel_p2p.register_service("mine", me.pid, {"by": "look"})
        await barrel_p2p.subscribe()
        await me.receive()

    async with cluster(2, directory=tmp_path) as (a, b):
        with pytest.raises(NotStarted):
            barrel_p2p.members()
        pid = a.spawn(look, b)
        await eventually(lambda: a.lookup("mine") != [])
        assert seen == [b.name]
        assert a.lookup_local("mine") == pid
        with pytest.raises(ServiceNotFound):
            b.lookup_local("mine")


async def test_the_only_node_is_meant_by_plain_code(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (node,):
        assert barrel_p2p.members() == [node.name]
        assert barrel_p2p.active_view() == barrel_p2p.passive_view() == []
        pid = await barrel_p2p.start_service_holder("held")
        assert await barrel_p2p.whereis_service("held") == pid
        assert barrel_p2p.list_services() == ["held"]
        assert [entry.pid for entry in barrel_p2p.lookup("held")] == [pid]
        await barrel_p2p.stop_service_holder(pid)
        await eventually(lambda: barrel_p2p.list_services() == [])
        async with node.mailbox() as me:
            await _names(me)
            await _events(me)
        await barrel_p2p.leave()
        assert barrel_p2p.members() == [node.name]


async def _names(me: Process) -> None:
    assert await barrel_p2p.register_name("me", me.pid)
    assert barrel_p2p.whereis_name("me") == me.pid
    assert await barrel_p2p.send("me", "hello") == me.pid
    assert await within(me.receive()) == "hello"
    assert barrel_p2p.get_proxy("me") is None
    assert await barrel_p2p.global_register("me") == me.pid
    await barrel_p2p.unregister_name("me")


async def _events(me: Process) -> None:
    await barrel_p2p.subscribe_services(name="watched")
    await barrel_p2p.subscribe()
    await barrel_p2p.unsubscribe()
    pid: Pid = await barrel_p2p.start_service_holder("watched")
    event = await within(me.receive())
    assert event == barrel_p2p.ServiceRegistered("watched", pid.node)
    await barrel_p2p.unsubscribe_services()
    await barrel_p2p.unregister_service("watched")


async def test_a_node_joins_and_leaves_by_function(tmp_path: Path) -> None:
    async def joins(me: Process, other: Node) -> None:
        await barrel_p2p.join(other)
        await me.receive()
        await barrel_p2p.leave()

    async with cluster(2, directory=tmp_path, join=False) as (a, b):
        pid = a.spawn(joins, b)
        await eventually(lambda: a.active_view() == [b.name])
        await pid.send("go on")
        await eventually(lambda: a.active_view() == [])
