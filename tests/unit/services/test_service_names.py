"""Names for processes, cluster-wide, on real nodes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barrel_p2p.errors import AlreadyRegistered, NoProc, ServiceNotFound
from tests.endpoints import eventually, within
from tests.far_nodes import A, answering, far_nodes, keeping, parts_of
from tests.unit.node.nodes import nodes

NAME = "printer"


async def test_a_free_name_is_given_at_once_and_only_once(tmp_path: Path) -> None:
    """REG-15, REG-16, REG-18: yes, then no, also to the one that has it."""
    async with nodes(tmp_path, A) as (a,):
        pid, other = a.spawn(answering, 1), a.spawn(answering, 2)
        assert a.whereis_name(NAME) is None
        began = asyncio.get_running_loop().time()
        assert await a.register_name(NAME, pid) is True
        assert asyncio.get_running_loop().time() - began < 0.05, "a free name waits"
        assert a.whereis_name(NAME) == pid
        assert await a.register_name(NAME, pid) is False
        assert await a.register_name(NAME, other) is False
        assert a.whereis_name(NAME) == pid


async def test_a_name_that_is_taken_back_is_free(tmp_path: Path) -> None:
    """REG-17."""
    async with nodes(tmp_path, A) as (a,):
        pid, other = a.spawn(answering, 1), a.spawn(answering, 2)
        assert await a.register_name(NAME, pid)
        await a.unregister_name(NAME)
        await a.unregister_name(NAME)
        assert a.whereis_name(NAME) is None
        assert await a.register_name(NAME, other)
        await other.exit("shutdown")
        await eventually(lambda: a.whereis_name(NAME) is None)
        assert await a.register_name(NAME, pid)


async def test_a_name_is_one_in_the_whole_cluster(tmp_path: Path) -> None:
    async with far_nodes(tmp_path) as (a, _, c):
        pid = c.spawn(answering, "c")
        assert await c.register_name(NAME, pid)
        await eventually(lambda: a.whereis_name(NAME) == pid)
        assert not await a.register_name(NAME, a.spawn(answering, "a"))
        assert await within(a.call(NAME, "hello")) == ("c", "hello", A)


async def test_a_dead_process_gets_no_name(tmp_path: Path) -> None:
    async with nodes(tmp_path, A) as (a,):
        pid = a.spawn(answering, 1)
        await pid.exit("kill")
        await eventually(lambda: parts_of(a).switch.box_of(pid.id) is None)
        with pytest.raises(NoProc):
            await a.register_name(NAME, pid)
        assert a.whereis_name(NAME) is None


async def test_send_delivers_and_tells_to_whom(tmp_path: Path) -> None:
    """REG-19: from anywhere, and nobody to send to is an error."""
    async with far_nodes(tmp_path) as (a, _, c):
        kept: list[object] = []
        pid = c.spawn(keeping, kept)
        assert await c.register_name(NAME, pid)
        assert await c.send(NAME, 1) == pid
        await eventually(lambda: a.whereis_name(NAME) == pid)
        assert await a.send(NAME, 2) == pid
        assert await parts_of(a).names.send(NAME, 3) == pid
        await a.cast(NAME, 4)
        await eventually(lambda: kept == [1, 2, 3, ("cast", 4)])
        with pytest.raises(ServiceNotFound, match="nobody has the name 'nothing'"):
            await parts_of(a).names.send("nothing", 1)
        with pytest.raises(NoProc):
            await a.send("nothing", 1)


async def test_a_process_of_this_node_goes_before_a_service_of_that_name(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, A) as (a,):
        near = a.spawn(answering, "near", name=NAME)
        assert await a.register_name(NAME, a.spawn(answering, "service"))
        assert await a.send(NAME, 1) == near
        assert (await a.call(NAME, 1))[0] == "near"


async def test_a_service_of_this_node_has_its_name_here_without_a_proxy(
    tmp_path: Path,
) -> None:
    """REG-24."""
    async with nodes(tmp_path, A) as (a,):
        pid = a.spawn(answering, "a")
        await a.register_service(NAME, pid)
        assert await a.global_register(NAME) == pid
        assert a.whereis(NAME) == pid
        assert a.get_proxy(NAME) is None
        assert await a.global_register(NAME) == pid


async def test_a_service_of_another_node_has_its_name_here_by_a_proxy(
    tmp_path: Path,
) -> None:
    async with far_nodes(tmp_path) as (a, _, c):
        pid = c.spawn(answering, "c")
        await c.register_service(NAME, pid)
        await eventually(lambda: a.lookup(NAME) != [])
        proxy = await within(a.global_register(NAME))
        assert proxy == a.whereis(NAME) == a.get_proxy(NAME)
        assert a.whereis_name(NAME) == pid, "a name is the process's own pid"
        assert await within(a.call(NAME, 1)) == ("c", 1, A)
        await pid.exit("shutdown")
        await eventually(lambda: a.whereis(NAME) is None)


async def test_what_is_not_there_or_taken_is_not_registered_here(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, A) as (a,):
        with pytest.raises(ServiceNotFound):
            await a.global_register(NAME)
        a.spawn(answering, "another", name=NAME)
        await a.register_service(NAME, a.spawn(answering, "a"))
        with pytest.raises(AlreadyRegistered):
            await a.global_register(NAME)
