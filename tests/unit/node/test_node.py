"""Two nodes in one process know each other, talk, part, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from barrel_p2p.core.names import At
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    CallTimeout,
    Conflict,
    InvalidValue,
    NoProc,
    NotStarted,
    PeerUnreachable,
)
from barrel_p2p.node.node import Node
from barrel_p2p.node.run import current_node, self_pid
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.rpc import expose
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.verbs import call, cast
from tests.endpoints import closed_ports, eventually, within
from tests.tools import rounds
from tests.unit.node.nodes import config, node, nodes


class Counter(GenServer):
    """Adds up what it is sent."""

    async def init(self, start: int = 0) -> None:
        self.total = start

    @call
    async def add(self, number: int) -> int:
        self.total += number
        return self.total

    @cast
    async def note(self, number: int) -> None:
        self.total += number

    @call
    async def blob(self, data: bytes) -> bytes:
        return data


async def echo(me: Process) -> None:
    async for message in me:
        sender, content = message
        await sender.send(("echo", content))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[list[Node]]:
    async with nodes(tmp_path, "a@127.0.0.1", "b@127.0.0.1") as both:
        yield both


@pytest.mark.every_loop
async def test_connected_nodes_see_each_other(two: list[Node]) -> None:
    """CLU-01, CAR-04."""
    a, b = two
    await eventually(lambda: a.nodes() == [b.name])
    assert b.nodes() == [a.name]


async def test_a_call_reaches_a_server_on_the_other_node(two: list[Node]) -> None:
    """CLU-02."""
    a, b = two
    pid = await a.start_server(Counter, 5, name="counter")
    remote = await b.proxy(Counter, pid)
    assert await remote.add(2) == 7
    assert await (await b.proxy(Counter, At("counter", a.name))).add(1) == 8
    local = await a.proxy(Counter, "counter")
    await local.note(10)
    assert await local.add(0) == 18


async def test_a_message_reaches_a_process_and_its_answer_comes_back(
    two: list[Node],
) -> None:
    a, b = two
    pid = a.spawn(echo)
    async with b.mailbox() as me:
        await b.send(pid, (me.pid, "hello"))
        assert await me.receive(timeout=5) == ("echo", "hello")


async def test_a_message_of_a_mebibyte_arrives_whole(two: list[Node]) -> None:
    """CLU-11, QUI-13."""
    a, b = two
    pid = await a.start_server(Counter)
    data = os.urandom(1 << 20)
    assert await (await b.proxy(Counter, pid)).blob(data) == data


async def test_both_sides_see_a_disconnect_and_the_next_send_dials_again(
    two: list[Node],
) -> None:
    """CLU-12, QUI-21."""
    a, b = two
    pid = await a.start_server(Counter)
    async with a.events() as at_a, b.events() as at_b:
        assert b.disconnect(a)
        assert await at_b.next(timeout=1) == NodeDown(a.name, "disconnect")
        assert await at_a.next(timeout=1) == NodeDown(b.name, "disconnect")
        assert a.nodes() == b.nodes() == []
        assert await (await b.proxy(Counter, pid)).add(1) == 1
        assert await at_b.next(timeout=1) == NodeUp(a.name)


@expose
async def add(left: int, right: int) -> int:
    return left + right


async def test_exposed_functions_run_where_they_are_asked_to(
    tmp_path: Path,
) -> None:
    """CLU-02, AUC-10: also over a channel that this very call opens."""
    names = ("a@127.0.0.1", "b@127.0.0.1")
    async with nodes(tmp_path, *names, joined=False) as (a, b):
        assert await a.rpc(b, add, 1, 2) == 3
        assert await b.rpc(str(a.address), "add", 3, 4) == 7
        assert await a.rpc(a, "add", 5, 6) == 11
        with closed_ports(1) as [(_, port)]:
            gone = f"c@127.0.0.1:{port}"
            found = await a.multi_rpc([a, b, gone], add, 1, 1, timeout=1)
        assert (found[a.name], found[b.name]) == (2, 2)
        assert isinstance(found["c@127.0.0.1"], PeerUnreachable | CallTimeout)


async def test_a_call_in_flight_fails_when_the_channel_goes(two: list[Node]) -> None:
    a, b = two

    async def never(me: Process) -> None:
        await asyncio.Event().wait()

    pid = a.spawn(never)
    asking = asyncio.create_task(b.call(pid, "anybody?", timeout=None))
    await eventually(lambda: b.stats().calls_waiting == 1)
    b.disconnect(a)
    with pytest.raises(PeerUnreachable, match="is down: disconnect"):
        await within(asking)


async def test_a_name_that_nobody_has_is_noproc(two: list[Node]) -> None:
    a, b = two
    for to in ("nobody", At("nobody", a.name)):
        with pytest.raises(NoProc):
            await b.call(to, "hello")


async def test_a_pid_of_an_earlier_life_is_noproc(tmp_path: Path) -> None:
    async with node(tmp_path, "b@127.0.0.1") as b:
        async with node(tmp_path, "a@127.0.0.1") as a:
            await b.connect(a)
            old = await a.start_server(Counter)
        async with node(tmp_path, "a@127.0.0.1") as a:
            await b.connect(a)
            assert a.creation > old.creation
            with pytest.raises(NoProc):
                await b.call(old, "hello")


async def test_a_node_that_is_not_there_says_so_step_by_step(tmp_path: Path) -> None:
    with closed_ports(1) as [(_, port)]:
        async with node(tmp_path, "a@127.0.0.1") as a:
            with pytest.raises(PeerUnreachable) as caught:
                await a.join(f"b@127.0.0.1:{port}", timeout=1)
    notes = "\n".join(caught.value.__notes__)
    assert "resolve" in notes
    assert "udp" in notes


async def test_a_node_does_not_dial_itself(two: list[Node]) -> None:
    with pytest.raises(Conflict, match="this node itself"):
        await two[0].connect(two[0])


async def test_a_process_can_still_send_while_its_node_stops(tmp_path: Path) -> None:
    class Polite(GenServer):
        async def init(self, to: Pid) -> None:
            self.to = to

        async def terminate(self, reason: object) -> None:
            await self.to.send(("goodbye", reason))

    async with node(tmp_path, "b@127.0.0.1") as b, b.mailbox() as me:
        async with node(tmp_path, "a@127.0.0.1") as a:
            await a.connect(b)
            await a.start_server(Polite, me.pid)
        assert await me.receive(timeout=5) == ("goodbye", "shutdown")


async def test_stopping_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def stubborn(me: Process) -> None:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    a = node(tmp_path, "a@127.0.0.1")
    await a.start()
    a.spawn(stubborn)
    await asyncio.sleep(0)  # not synchronisation: it must have begun to be stubborn
    await within(a.stop(drain=0.2))
    with pytest.raises(NotStarted):
        a.nodes()
    released.set()


async def test_ready_waits_for_peers(tmp_path: Path) -> None:
    async with nodes(tmp_path, "a@127.0.0.1", "b@127.0.0.1", joined=False) as (a, b):
        with pytest.raises(TimeoutError):
            await a.ready(timeout=0.05)
        waiting = asyncio.create_task(a.ready(timeout=5))
        await b.connect(a)
        await within(waiting)


async def test_a_process_knows_its_node_and_its_pid(two: list[Node]) -> None:
    found: asyncio.Future[tuple[object, object]] = (
        asyncio.get_running_loop().create_future()
    )

    async def who(me: Process) -> None:
        found.set_result((current_node(), self_pid()))

    pid = two[1].spawn(who)
    assert await within(found) == (two[1], pid)
    with pytest.raises(NotStarted, match="several nodes"):
        current_node()


async def test_only_one_node_at_a_time_has_a_data_directory(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        with pytest.raises(Conflict, match=str(os.getpid())):
            await node(tmp_path, "a@127.0.0.1").start()
        assert a.nodes() == []


async def test_what_is_not_running_says_so(tmp_path: Path) -> None:
    stopped = node(tmp_path, "a@127.0.0.1")
    with pytest.raises(NotStarted):
        stopped.nodes()
    async with stopped as running:
        with pytest.raises(Conflict, match="started already"):
            await running.start()
    with pytest.raises(NotStarted):
        stopped.spawn(echo)
    await stopped.stop()


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue):
        Node("no-host", config(tmp_path, "a@127.0.0.1"))


async def test_a_fork_of_a_running_node_is_refused(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                a.nodes()
                verdict = b"ran"
            except NotStarted as error:
                verdict = str(error).encode()
            os.write(writing, verdict)
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)  # noqa: ASYNC222 - the child ends at once
        with os.fdopen(reading, "rb") as verdict_pipe:
            assert b"this is a fork of it" in verdict_pipe.read()


@pytest.mark.every_loop
async def test_starting_and_stopping_leaks_nothing(tmp_path: Path) -> None:
    me = psutil.Process()

    async def cycle() -> None:
        async with nodes(tmp_path, "a@127.0.0.1", "b@127.0.0.1") as (a, b):
            pid = await a.start_server(Counter)
            assert await (await b.proxy(Counter, pid)).add(1) == 1

    await cycle()
    before = (me.num_fds(), threading.active_count(), len(asyncio.all_tasks()))
    for _ in range(rounds(5, whole=500)):
        await cycle()
    after = (me.num_fds(), threading.active_count(), len(asyncio.all_tasks()))
    assert after == before
