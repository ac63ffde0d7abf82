"""A call to a server of the same node, and what its parts cost.

Run with ``pytest bench/micro --benchmark-group-by=group``. No socket is involved: the
figures are those of the loop, the proxy and the check of the arguments alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime.checks import Arguments
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.proxy import proxy
from barrel_p2p.runtime.server import GenServer, start_server
from barrel_p2p.runtime.switch import Call, Switch
from barrel_p2p.runtime.verbs import call

CALLS = 6_400
AT_ONCE = 64
JOB = ("job", 12345, bytes(83))


class Echo(GenServer):
    @call
    async def echo(self, name: str, number: int, data: bytes) -> tuple[Any, ...]:
        return name, number, data

    async def handle_call(self, request: Any, caller: Pid) -> Any:
        return request


async def echo(process: Process) -> None:
    async for message in process:
        if type(message) is Call:
            message.reply(message.request)


@dataclass(frozen=True, slots=True)
class Local:
    """A node without a socket: its loop, and three ways to call on it."""

    loop: asyncio.AbstractEventLoop
    function: Pid
    server: Pid
    typed: Echo

    def run(self, one: Callable[[], Awaitable[object]]) -> None:
        async def some() -> None:
            for _ in range(CALLS // AT_ONCE):
                await one()

        async def all_at_once() -> None:
            await asyncio.gather(*[some() for _ in range(AT_ONCE)])

        self.loop.run_until_complete(all_at_once())


@pytest.fixture
def local() -> Iterator[Local]:
    loop = uvloop.new_event_loop()
    switch = Switch("a@h", 1, loop)
    processes = Processes(switch, node="a@h")

    async def start() -> tuple[Pid, Pid]:
        function = processes.spawn(echo).pid
        return function, await start_server(processes, Echo)

    function, server = loop.run_until_complete(start())
    yield Local(loop, function, server, proxy(switch.origin, Echo, server))
    loop.run_until_complete(processes.stop(timeout=5))
    switch.close()
    loop.close()


@pytest.mark.benchmark(group=f"{CALLS} calls, {AT_ONCE} at once")
def test_calls_to_a_function(benchmark: BenchmarkFixture, local: Local) -> None:
    benchmark(local.run, lambda: local.function.call(JOB))


@pytest.mark.benchmark(group=f"{CALLS} calls, {AT_ONCE} at once")
def test_calls_to_a_server(benchmark: BenchmarkFixture, local: Local) -> None:
    benchmark(local.run, lambda: local.server.call(JOB))


@pytest.mark.benchmark(group=f"{CALLS} calls, {AT_ONCE} at once")
def test_calls_through_a_proxy(benchmark: BenchmarkFixture, local: Local) -> None:
    benchmark(local.run, lambda: local.typed.echo(*JOB))


@pytest.mark.benchmark(group="arguments")
def test_the_check_of_arguments(benchmark: BenchmarkFixture) -> None:
    arguments = Arguments(Echo.echo, skip=1, title="echo")
    assert benchmark(arguments.check, JOB, {}) == (JOB, {})
