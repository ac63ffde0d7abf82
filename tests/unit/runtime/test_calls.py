"""Calls: an answer, an error, a deadline, or the word that nobody waits any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    CallTimeout,
    NoProc,
    NotEncodable,
    PeerUnreachable,
    RemoteError,
)
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.switch import Call, Switch
from tests.endpoints import eventually, within
from tests.runtime_nodes import RuntimeNode, lose, two_nodes

pytestmark = pytest.mark.every_loop


async def echo(process: Process) -> None:
    async for call in process:
        call.reply(call.request)


async def receive_call(me: Process) -> Call:
    call = await within(me.receive())
    assert isinstance(call, Call)
    return call


async def test_a_call_gets_its_answer_from_here_and_there() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox():
        for node in (a, b):
            pid = node.processes.spawn(echo).pid
            for value in (None, 1, "x" * 100_000, {"k": [1, (2,)]}):
                assert await pid.call(value) == value
            got = await asyncio.gather(*(pid.call(i) for i in range(500)))
            assert got == list(range(500))


async def test_an_error_names_its_class_only_from_a_fixed_list() -> None:
    async def fails(process: Process) -> None:
        async for call in process:
            call.fail(call.request, "why", "SomeError", "a trace")

    async with two_nodes() as (a, b), a.processes.mailbox():
        for node in (a, b):
            pid = node.processes.spawn(fails).pid
            with pytest.raises(NoProc, match="why"):
                await pid.call("noproc")
            with pytest.raises(RemoteError, match="SomeError") as info:
                await pid.call("storage")
            assert info.value.remote_type == "SomeError"


async def test_calls_of_a_process_that_ends_fail_with_noproc() -> None:
    async def ends(process: Process) -> None:
        await process.receive()
        await process.receive(lambda message: False, timeout=0.05)

    async with two_nodes() as (a, b), a.processes.mailbox():
        for node in (a, b):
            pid = node.processes.spawn(ends).pid
            await pid.send("go")
            with pytest.raises(NoProc):
                await within(pid.call("in the queue when it ends"))
            with pytest.raises(NoProc):
                await within(pid.call("when it is gone"))
        with pytest.raises(NoProc):
            await Pid("b@h", 1, 9).call("of another life")


async def test_a_call_that_was_taken_and_not_answered_fails_with_its_process() -> None:
    async def takes(process: Process) -> None:
        await process.receive()
        raise ProcessExit("without a word")

    async with two_nodes() as (a, b), a.processes.mailbox():
        for node in (a, b):
            pid = node.processes.spawn(takes).pid
            with pytest.raises(NoProc):
                await within(pid.call("a question", timeout=None))
        await no_calls_left(a)
        line = b.switch.lines["a@h"]
        await eventually(lambda: line.calls_open == 0)


async def test_an_answer_that_is_no_term_leaves_the_call_open() -> None:
    async with two_nodes() as (a, b), b.processes.mailbox() as me:
        asking = a.processes.spawn(asks, me.pid, "q")
        call = await receive_call(me)
        with pytest.raises(NotEncodable):
            call.reply(object())
        assert not call.answered
        call.reply("term")
        call.reply("again: dropped")
        call.fail("code", "dropped too")
        assert asking._task is not None
        await within(asking._task)


async def asks(process: Process, pid: Pid, request: object) -> None:
    assert await pid.call(request) == "term"


async def test_a_cancelled_call_is_withdrawn_in_every_state() -> None:
    async with two_nodes() as (a, b), b.processes.mailbox() as me:
        for node in (a, b):  # From there and from here.
            cancelled: list[int] = []
            tasks = [asyncio.create_task(ask(node, me.pid, i)) for i in range(4)]
            await eventually(lambda: len(me._box) == 4)
            running = await receive_call(me)
            running.on_cancel = lambda seen=cancelled: seen.append(1)
            answered = await receive_call(me)
            queued, racing = me._box.drain()
            assert isinstance(queued, Call)
            assert isinstance(racing, Call)
            answered.reply("done")
            await within(asyncio.wait([tasks[1]]))
            for i in (0, 1, 2):
                tasks[i].cancel()
            racing.reply("while it is cancelled")
            tasks[3].cancel()
            await within(asyncio.wait(tasks))
            assert tasks[1].result() == "done"
            assert all(tasks[i].cancelled() for i in (0, 2))
            await eventually(lambda c=running: c.cancelled)  # type: ignore[misc]
            await eventually(lambda c=queued: c.cancelled)  # type: ignore[misc]
            assert cancelled == [1]
            assert running.over
            assert queued.over
            assert not answered.cancelled
            running.reply("nobody waits")
            running.reply("nor now")
        await no_calls_left(a)
        await no_calls_left(b)


async def ask(
    node: RuntimeNode, pid: Pid, request: object, timeout: float | None = None
) -> Any:
    async with node.processes.mailbox():
        return await pid.call(request, timeout=timeout)


async def no_calls_left(node: RuntimeNode) -> None:
    await eventually(lambda: node.switch.calls_waiting == 0)


async def test_a_call_that_times_out_is_withdrawn() -> None:
    async with two_nodes() as (a, b), b.processes.mailbox() as me:

        async def gives_up(process: Process) -> None:
            with pytest.raises(CallTimeout, match=r"0\.05 s"):
                await me.pid.call("slow", timeout=0.05)

        task = a.processes.spawn(gives_up)._task
        call = await receive_call(me)
        assert task is not None
        await within(task)
        await eventually(lambda: call.cancelled)
        assert call.over


class CountingLoop:
    """The running loop, which counts the timers that are set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.timers = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_at(self, *args: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return self._loop.call_at(*args)


async def test_a_hundred_thousand_timeouts_cost_few_timers() -> None:
    loop, count = CountingLoop(), 99_999
    switch = Switch("c@h", 1, cast("asyncio.AbstractEventLoop", loop))
    try:
        pid = switch.pid(switch.open_box(1 << 20, None).id)
        replies = []
        for i in range(count):
            reply = switch.ask(0, pid, i, (0.5, 1.0, 30.0)[i % 3])
            assert reply is not None
            replies.append(reply)
        assert loop.timers == 1
        assert switch.calls_waiting == count
        await eventually(lambda: switch.calls_waiting == count // 3)
        assert loop.timers < 2_000
        assert [r.done for r in replies] == [i % 3 < 2 for i in range(count)]
        with pytest.raises(CallTimeout):
            replies[0].outcome()
        for reply in replies:
            reply.abandon()
        assert switch.calls_waiting == 0
    finally:
        switch.close()


async def test_calls_fail_when_the_channel_is_lost() -> None:
    async with two_nodes() as (a, b), b.processes.mailbox() as me:
        tasks = [asyncio.create_task(ask(a, me.pid, i)) for i in range(10)]
        await eventually(lambda: len(me._box) == 10)
        await lose(a, b)
        await within(asyncio.wait(tasks))
        assert all(isinstance(t.exception(), PeerUnreachable) for t in tasks)
        for call in me._box.drain():
            assert isinstance(call, Call)
            assert call.over
            call.reply("to nobody")


async def test_a_call_waits_for_room_as_long_as_its_timeout() -> None:
    async with two_nodes(mailbox_limit=2) as (a, b), b.processes.mailbox() as me:
        for node in (a, b):
            for i in range(2):
                await me.pid.send(i)
            b.switch.lines["a@h"].tell_paused(me.pid.id, True)
            await eventually(lambda: len(a.channel("b@h").control) > 0)
            with pytest.raises(CallTimeout):
                await ask(node, me.pid, "no room", timeout=0.05)
            task = asyncio.create_task(ask(node, me.pid, "later"))
            await asyncio.sleep(0)
            assert me._box.drain() == [0, 1]
            b.switch.lines["a@h"].tell_paused(me.pid.id, False)
            call = await receive_call(me)
            assert call.request == "later"
            call.reply("room")
            assert await within(task) == "room"
            a.channel("b@h").control.clear()
