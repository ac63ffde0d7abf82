"""A proxy by a service's name, wherever the service is and whenever it begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from barrel_p2p import GenServer, Node, call
from barrel_p2p.errors import NoProc, ServiceNotFound
from tests.endpoints import within


class Echo(GenServer):
    @call
    async def where(self) -> str:
        here: Node = self.node
        return here.name


def a_node(tmp_path: Path, name: str, *, hidden: bool = False) -> Node:
    return Node(
        f"{name}@127.0.0.1",
        data_dir=str(tmp_path / name),
        discovery_backends=(),
        dist_cookie="a cookie of the tests",
        hidden=hidden,
    )


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with a_node(tmp_path, "a") as a, a_node(tmp_path, "b") as b:
        await within(b.join(a))
        yield a, b


async def test_a_proxy_waits_for_a_service_of_another_node(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        made = asyncio.create_task(b.proxy(Echo, ("echo", 1)))
        await asyncio.sleep(0)
        assert not made.done()
        await a.start_server(Echo, service=("echo", 1))
        assert await within((await within(made)).where()) == a.name


async def test_a_name_on_this_node_is_taken_before_a_service(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        await a.start_server(Echo, service="echo")
        await b.whereis_service("echo", timeout=10)
        await b.start_server(Echo, name="echo")
        assert await within((await b.proxy(Echo, "echo")).where()) == b.name


async def test_a_service_that_nobody_registers_is_not_found(tmp_path: Path) -> None:
    async with pair(tmp_path) as (_, b):
        with pytest.raises(ServiceNotFound, match="'nobody'"):
            await within(b.proxy(Echo, "nobody", timeout=0.1))


async def test_a_hidden_node_has_the_names_of_its_own_and_no_services(
    tmp_path: Path,
) -> None:
    async with a_node(tmp_path, "probe", hidden=True) as probe:
        with pytest.raises(NoProc):
            await (await probe.proxy(Echo, "echo")).where()


async def test_a_server_s_class_is_given_by_the_name_of_its_parameter(
    tmp_path: Path,
) -> None:
    async with a_node(tmp_path, "a") as a:
        await a.start_server(server=Echo, service="echo")
        echo = await a.proxy(server=Echo, to="echo")
        assert await within(echo.where()) == a.name
