"""Processes: how they start, are named, receive and end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from barrel_p2p.core.events import Down
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import Busy, Conflict, InvalidValue, NoProc, NotStarted
from barrel_p2p.runtime import timers
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.switch import origin
from tests.endpoints import eventually, within
from tests.runtime_nodes import lone_node

pytestmark = pytest.mark.every_loop


async def idle(process: Process) -> None:
    await process.receive(lambda message: False)


async def returns(process: Process) -> str:
    return "ignored"


async def raises(process: Process) -> None:
    raise ValueError("bad input")


async def exits(process: Process) -> None:
    process.exit(("gone", 1))


async def cleans_up(process: Process) -> None:
    try:
        await idle(process)
    except asyncio.CancelledError:
        return


async def fails_to_clean_up(process: Process) -> None:
    try:
        await idle(process)
    finally:
        raise KeyError("x")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (returns, "normal"),
        (raises, ("error", "ValueError", "bad input")),
        (exits, ("gone", 1)),
        (cleans_up, "told"),
        (fails_to_clean_up, ("error", "KeyError", "'x'")),
        (idle, "told"),
    ],
)
async def test_a_process_ends_with_the_reason_of_its_end(
    function: Any, reason: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "barrel_p2p.runtime")
    async with lone_node() as node, node.processes.mailbox() as me:
        pid, ref = node.processes.spawn_monitor(function)
        await asyncio.sleep(0)
        if node.switch.box_of(pid.id) is not None:
            await pid.exit("told")
        assert await within(me.receive()) == Down(ref, pid, reason)
        assert len(node.processes) == 1


async def test_a_crash_is_logged_with_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lone_node() as node:
        process = node.processes.spawn(raises, name="worker")
        assert process._task is not None
        await within(process._task)
    assert "process 'worker' of a@h crashed" in caplog.text
    assert "ValueError: bad input" in caplog.text


async def test_the_tasks_of_a_process_end_with_it() -> None:
    started = asyncio.Event()
    ended = asyncio.Event()

    async def child(process: Process) -> None:
        started.set()
        try:
            await process.receive(lambda message: False)
        finally:
            ended.set()

    async def parent(process: Process) -> None:
        process.create_task(child(process))
        await started.wait()

    async with lone_node() as node:
        node.processes.spawn(parent)
        await within(ended.wait())


async def test_what_a_process_sends_comes_from_it_in_its_tasks_too() -> None:
    seen: list[Pid] = []

    async def asks(process: Process, to: Pid) -> None:
        assert origin().process is process
        await process.create_task(to.call("from a task"))

    async with lone_node() as node, node.processes.mailbox() as me:
        pid = node.processes.spawn(asks, me.pid).pid
        call = await within(me.receive())
        seen.append(call.caller)
        call.reply(None)
        assert seen == [pid]


async def test_a_name_belongs_to_one_process_until_it_ends() -> None:
    async with lone_node() as node:
        processes = node.processes
        first = processes.spawn(idle, name=("cart", 1))
        with pytest.raises(Conflict, match="cart"):
            processes.spawn(idle, name=("cart", 1))
        second = processes.spawn(idle)
        with pytest.raises(Conflict):
            processes.register(("cart", 1), second.pid)
        processes.register("also", first.pid)
        processes.register("also", first.pid)
        assert processes.whereis("also") == processes.whereis(("cart", 1)) == first.pid
        assert len(processes.registered()[first.pid]) == 2
        processes.unregister("also")
        processes.unregister("also")
        processes.register("also", second.pid)
        await first.pid.exit("kill")
        assert processes.whereis(("cart", 1)) is None
        assert processes.whereis("also") == second.pid
        with pytest.raises(NoProc):
            processes.register("late", first.pid)
        with pytest.raises(NoProc):
            processes.register("far", Pid("b@h", 1, 1))


async def test_an_id_is_never_used_twice() -> None:
    async with lone_node() as node:
        seen = set()
        for _ in range(2_000):
            process = node.processes.spawn(returns)
            assert process.pid.id not in seen
            seen.add(process.pid.id)
            assert process._task is not None
            await process._task
        await process.pid.send("to nobody")
        assert node.switch.dropped == 1


async def test_a_node_that_stops_ends_its_processes_and_takes_no_new_ones() -> None:
    async def stubborn(process: Process) -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(60)  # not synchronisation: it never ends
            except asyncio.CancelledError:
                continue

    async with lone_node() as node:
        ended = [node.processes.spawn(idle) for _ in range(100)]
        clings = node.processes.spawn(stubborn)
        await asyncio.sleep(0)
        await within(node.processes.stop(timeout=0.1))
        assert all(p._task is not None and p._task.done() for p in ended)
        assert clings._task is not None
        assert not clings._task.done()
        with pytest.raises(NotStarted):
            node.processes.spawn(idle)
        for _ in range(3):
            clings._task.cancel()
            await asyncio.sleep(0)
        await within(asyncio.wait([clings._task]))


async def test_nothing_is_left_of_processes_that_ended() -> None:
    async def busy(process: Process, other: Pid) -> None:
        process.link(other)
        process.monitor(other)
        process.send_after(60, other, "x")

    async with lone_node() as node:
        hub = node.processes.spawn(idle)
        for i in range(3_000):
            node.processes.spawn(busy, hub.pid, name=i)
        await eventually(lambda: len(node.processes) == 1)
        ties = node.processes.ties._machine
        assert (len(ties.links), len(ties.monitors)) == (0, 0)
        assert len(node.processes._timers) == 0
        assert node.switch.names == {}


async def test_a_process_may_have_so_many_timers_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timers, "TIMERS_PER_PROCESS_MAX", 3)
    async with lone_node() as node, node.processes.mailbox() as me:
        refs = [me.send_after(60, me.pid, i) for i in range(3)]
        with pytest.raises(Busy, match="TIMERS_PER_PROCESS_MAX"):
            me.send_after(60, me.pid, 3)
        assert me.cancel_timer(refs[0])
        me.send_after(60, me.pid, 3)


@pytest.mark.parametrize("limit", [0, -1, 1 << 40])
async def test_a_mailbox_limit_out_of_range_is_refused(limit: int) -> None:
    async with lone_node() as node:
        with pytest.raises(InvalidValue, match=str(limit)):
            node.processes.spawn(idle, mailbox_limit=limit)
        assert len(node.processes) == 0


async def test_receive_takes_the_oldest_that_matches_and_keeps_the_rest() -> None:
    async with lone_node() as node, node.processes.mailbox() as me:
        for message in (1, ("b", 1), "text", ("a", 1), ("a", 2), 2.5):
            await me.pid.send(message)
        assert await me.receive("a") == ("a", 1)
        assert await me.receive(str) == "text"
        assert await me.receive(lambda m: m == 2.5) == 2.5
        with pytest.raises(TimeoutError):
            await me.receive("c", timeout=0)
        with pytest.raises(TimeoutError):
            await me.receive("c", timeout=0.01)
        with pytest.raises(ZeroDivisionError):
            await me.receive(lambda m: bool(1 / 0))
        assert await me.receive() == 1
        assert await me.receive_many() == [("b", 1), ("a", 2)]


def test_an_exit_passes_except_exception() -> None:
    assert not issubclass(ProcessExit, Exception)
