"""Messages between processes: order, room, waking, and what a slow one costs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    Busy,
    CallTimeout,
    NotConnected,
    NotEncodable,
    PeerUnreachable,
)
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.runtime import addresses
from barrel_p2p.runtime.limits import MAILBOX_SLACK
from barrel_p2p.runtime.process import Process
from barrel_p2p.wire.kinds import Kind
from tests.endpoints import eventually, within
from tests.runtime_nodes import (
    PlainChannel,
    RuntimeNode,
    lone_node,
    lose,
    two_nodes,
)

pytestmark = pytest.mark.every_loop

SENDERS = 6
SMALL = EngineSettings(
    stream_window=256 << 10,
    connection_window=1 << 20,
    send_high=64 << 10,
    send_low=16 << 10,
    send_max=16 << 20,
)


def size_of(i: int) -> int:
    return (0, 1, 37, 300, 4_095, 70_000)[i % 6] if i % 10 == 0 else i % 200


async def test_every_pair_keeps_its_order_whatever_the_size() -> None:
    count = 3_000

    async def sends(process: Process, to: Pid, me: int) -> None:
        for i in range(count):
            await to.send((me, i, bytes([i % 251]) * size_of(i)))

    async with two_nodes() as (a, b), b.processes.mailbox() as inbox:
        for i in range(SENDERS):
            a.processes.spawn(sends, inbox.pid, i)
        following = [0] * SENDERS
        for _ in range(SENDERS * count):
            sender, i, data = await within(inbox.receive())
            assert i == following[sender]
            assert data == bytes([i % 251]) * size_of(i)
            following[sender] += 1
        assert following == [count] * SENDERS


async def test_calls_casts_and_messages_of_one_pair_keep_their_order() -> None:
    async def mixes(process: Process, to: Pid) -> None:
        waiting = []
        for i in range(300):
            await to.send(("send", i, b"x" * size_of(i)))
            await to.cast(("cast", i))
            waiting.append(process.create_task(to.call(("call", i))))
            await asyncio.sleep(0)
            process.link(to)
            process.unlink(to)
        await asyncio.gather(*waiting)

    async with two_nodes() as (a, b), b.processes.mailbox() as inbox:
        a.processes.spawn(mixes, inbox.pid)
        for i in range(300):
            first = await within(inbox.receive())
            assert first[:2] == ("send", i)
            assert (await within(inbox.receive())).request == ("cast", i)
            call = await within(inbox.receive())
            assert call.request == ("call", i)
            call.reply(i)


@pytest.mark.parametrize("near", [True, False], ids=["local", "remote"])
async def test_a_sender_waits_at_the_bound_of_a_slow_receiver(near: bool) -> None:
    sent = 0

    async def pours(process: Process, to: Pid) -> None:
        nonlocal sent
        for i in range(20_000):
            await to.send((i, b"x" * 1_000))
            sent += 1

    async with (
        two_nodes(mailbox_limit=100, settings=SMALL) as (a, b),
        b.processes.mailbox() as inbox,
    ):
        (b if near else a).processes.spawn(pours, inbox.pid)
        await eventually(lambda: inbox._box.full)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)  # not synchronisation: the absence of more
        assert 100 <= sent < 20_000
        assert len(inbox._box) <= (100 if near else 3_000)
        for i in range(20_000):
            assert (await within(inbox.receive()))[0] == i
        await eventually(lambda: sent == 20_000)


async def test_a_full_mailbox_does_not_stall_other_pairs_of_its_stream() -> None:
    async def pours(process: Process, to: Pid) -> None:
        while True:
            await to.send(b"x" * 1_000)

    async with (
        two_nodes(mailbox_limit=50, settings=SMALL) as (a, b),
        b.processes.mailbox() as stuck,
        b.processes.mailbox(mailbox_limit=5_000) as quick,
    ):
        a.processes.spawn(pours, stuck.pid)
        await eventually(lambda: stuck._box.full)
        await eventually(lambda: any(f.kind == Kind.PAUSE for f in b_control(a)))
        for i in range(200):  # From 200 processes: every stream is used.
            a.processes.spawn(sends_once, quick.pid, i)
        got = {await within(quick.receive()) for _ in range(200)}
        assert got == set(range(200))


@pytest.mark.parametrize("verb", ["send", "cast"])
async def test_a_sender_to_a_name_waits_like_one_to_the_pid_behind_it(
    verb: str,
) -> None:
    sent = 0

    async def pours(process: Process) -> None:
        nonlocal sent
        say = getattr(addresses, verb)
        for i in range(20_000):
            await say(a.switch.origin_here(), At("full", b.name), (i, b"x" * 1_000))
            sent += 1

    async with (
        two_nodes(mailbox_limit=100, settings=SMALL) as (a, b),
        b.processes.mailbox() as stuck,
        b.processes.mailbox(mailbox_limit=5_000) as quick,
    ):
        b.processes.register("full", stuck.pid)
        a.processes.spawn(pours)
        await eventually(lambda: any(f.kind == Kind.PAUSE for f in b_control(a)))
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)  # not synchronisation: the absence of more
        assert 100 <= sent <= MAILBOX_SLACK, "its stream would have been stopped later"
        for i in range(200):  # From 200 processes: every stream is used.
            a.processes.spawn(sends_once, quick.pid, i)
        got = {await within(quick.receive()) for _ in range(200)}
        assert got == set(range(200))
        for i in range(20_000):
            message = await within(stuck.receive())
            assert (message.request if verb == "cast" else message)[0] == i
        await eventually(lambda: sent == 20_000)


async def test_a_call_to_a_name_waits_for_room_and_then_is_answered() -> None:
    async with (
        two_nodes(mailbox_limit=3) as (a, b),
        b.processes.mailbox() as inbox,
        a.processes.mailbox() as me,
    ):
        b.processes.register("full", inbox.pid)
        to, origin = At("full", b.name), a.switch.origin_here()
        for i in range(3):
            await addresses.send(origin, to, i)
        await eventually(lambda: any(f.kind == Kind.PAUSE for f in b_control(a)))
        with pytest.raises(CallTimeout, match="no way to b@h"):
            await addresses.call(origin, to, "late", timeout=0.1)
        call = me.create_task(addresses.call(origin, to, "asked", timeout=10.0))
        assert [await within(inbox.receive()) for _ in range(3)] == [0, 1, 2]
        asked = await within(inbox.receive())
        asked.reply(asked.request)
        assert await within(call) == "asked"


@pytest.mark.parametrize("how", ["unregistered", "ended"])
async def test_who_waits_for_room_under_a_name_goes_on_when_it_is_given_away(
    how: str,
) -> None:
    async def idles(process: Process) -> None:
        await asyncio.Event().wait()

    async with two_nodes(mailbox_limit=3) as (a, b), b.processes.mailbox() as heir:
        full = b.processes.spawn(idles, name="x")
        to, origin = At("x", b.name), a.switch.origin
        for i in range(3):
            await addresses.send(origin, to, i)
        await eventually(lambda: any(f.kind == Kind.PAUSE for f in b_control(a)))
        waits = asyncio.create_task(addresses.send(origin, to, "for the heir"))
        await asyncio.sleep(0.1)  # not synchronisation: it must not be done
        assert not waits.done()
        # The sender learns of it later, so the name has its new process by then.
        if how == "ended":
            b.processes.kill(full)
        else:
            b.processes.unregister("x")
        b.processes.register("x", heir.pid)
        await within(waits)
        assert await within(heir.receive()) == "for the heir"


async def test_a_lost_channel_tells_whoever_waits_for_room_under_a_name() -> None:
    async with two_nodes(mailbox_limit=3) as (a, b), b.processes.mailbox() as inbox:
        b.processes.register("x", inbox.pid)
        to = At("x", b.name)
        for i in range(3):
            await addresses.send(a.switch.origin, to, i)
        await eventually(lambda: any(f.kind == Kind.PAUSE for f in b_control(a)))
        waits = asyncio.create_task(addresses.send(a.switch.origin, to, 3))
        await asyncio.sleep(0)
        await lose(a, b)
        with pytest.raises(PeerUnreachable):
            await within(waits)


def b_control(node: RuntimeNode) -> list[Any]:
    return node.channel("b@h").control


async def sends_once(process: Process, to: Pid, value: object) -> None:
    await to.send(value)


async def test_a_resume_without_room_ends_the_channel_and_not_the_reader() -> None:
    async def pours(process: Process, to: Pid) -> None:
        with contextlib.suppress(PeerUnreachable):
            while True:
                await to.send(b"x")

    def fill(channel: PlainChannel) -> None:
        for _ in range(200_000):
            channel.send_control(Kind.PAUSE, bytes(8))

    settings = EngineSettings(
        send_high=64_000,
        send_low=16_000,
        send_max=128_000,
        connection_send_high=64_000,
        stream_window=64_000,
        connection_window=128_000,
    )
    async with (
        two_nodes(mailbox_limit=10, settings=settings) as (a, b),
        b.processes.mailbox() as inbox,
    ):
        a.processes.spawn(pours, inbox.pid)
        await eventually(lambda: inbox._box.full)
        channel = b.channel(a.name)
        with pytest.raises(Busy):
            fill(channel)
        while inbox._box.full:
            assert inbox._box.take() == b"x"
        assert channel.closed_for == ["busy"]
        await eventually(lambda: b.name not in a.switch.lines)


async def test_send_nowait_says_busy_or_not_connected() -> None:
    async with lone_node(mailbox_limit=3) as node, node.processes.mailbox() as me:
        for i in range(3):
            me.pid.send_nowait(i)
        with pytest.raises(Busy, match="no room"):
            me.pid.send_nowait(3)
        with pytest.raises(NotConnected):
            Pid("far@h", 1, 1).send_nowait("x")
        with pytest.raises(PeerUnreachable):
            await Pid("far@h", 1, 1).send("x")
        assert await me.receive_many() == [0, 1, 2]
        me.pid.send_nowait(3)


async def test_what_is_no_term_is_refused_and_nothing_is_sent() -> None:
    async with (
        two_nodes() as (a, b),
        b.processes.mailbox() as inbox,
        a.processes.mailbox(),
    ):
        for bad in (object(), [1, {"a": object()}], "x" * (9 << 20)):
            with pytest.raises(NotEncodable):
                await inbox.pid.send(bad)
            with pytest.raises(NotEncodable):
                await inbox.pid.call(bad)
        await inbox.pid.send("good")
        assert await within(inbox.receive()) == "good"
        assert len(inbox._box) == 0


async def test_strict_mode_copies_what_stays_on_the_node() -> None:
    for strict in (False, True):
        async with lone_node(strict=strict) as node, node.processes.mailbox() as me:
            sent = [1, [2]]
            await me.pid.send(sent)
            got = await me.receive()
            assert got == sent
            assert (got is sent) != strict
            if strict:
                with pytest.raises(NotEncodable):
                    await me.pid.send(object())


async def test_processes_wake_each_other_in_place_and_from_tasks() -> None:
    # Both ways of waking meet here; asyncio forbids to enter a task from another.
    async def relays(process: Process, to: Pid) -> None:
        async for message in process:
            await to.send(message)

    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        chain = me.pid
        for i in range(10):
            node = (a, b, b, a)[i % 4]
            chain = node.processes.spawn(relays, chain).pid
        for i in range(300):
            await chain.send(i)
        assert [await within(me.receive()) for _ in range(300)] == list(range(300))


async def test_receive_with_a_timeout_loses_nothing() -> None:
    async with two_nodes() as (a, b), a.processes.mailbox() as me:

        async def sends(process: Process) -> None:
            for i in range(500):
                await me.pid.send(i)
                await asyncio.sleep(0.0005)  # not synchronisation: to be in the way

        b.processes.spawn(sends)
        got: list[int] = []
        timeouts = 0
        while len(got) < 500:
            try:
                got.append(await me.receive(timeout=0.0005 * (len(got) % 3)))
            except TimeoutError:
                timeouts += 1
                await asyncio.sleep(0)
        assert got == list(range(500))
        assert timeouts > 0


async def test_senders_that_wait_fail_when_the_channel_is_lost() -> None:
    async def pours(process: Process, to: Pid, failed: asyncio.Future[Any]) -> None:
        try:
            while True:
                await to.send(b"x" * 1_000)
        except PeerUnreachable as error:
            failed.set_result(error)

    async with two_nodes(mailbox_limit=50, settings=SMALL) as (a, b):
        failed = asyncio.get_running_loop().create_future()
        async with b.processes.mailbox() as stuck:
            a.processes.spawn(pours, stuck.pid, failed)
            await eventually(lambda: stuck._box.full)
            await lose(a, b)
            assert isinstance(await within(failed), PeerUnreachable)


@pytest.mark.serial
async def test_a_process_that_holds_the_loop_is_named() -> None:
    async def hogs(process: Process) -> None:
        await process.receive()
        time.sleep(0.15)  # noqa: ASYNC251 # not synchronisation: the load
        await process.receive()

    async with two_nodes() as (a, b), a.processes.mailbox() as me:
        for sender in (a, b):
            process = a.processes.spawn(hogs)
            await asyncio.sleep(0)  # It starts, and waits for its message.
            sender.switch.tell(0, process.pid, "go")
            await eventually(
                lambda p=process: any(who is p for who, _ in a.slow)  # type: ignore[misc]
            )
            assert next(ms for who, ms in a.slow if who is process) >= 100
        assert all(who is not me for who, _ in a.slow)


async def test_a_name_may_be_as_long_as_the_wire_takes() -> None:
    """Its frames are made where they are sent from: there must be room for the name."""
    name = "x" * 1_018  # 1,024 bytes as a key
    async with (
        two_nodes() as (a, b),
        b.processes.mailbox() as inbox,
        a.processes.mailbox() as me,
    ):
        b.processes.register(name, inbox.pid)
        to, origin = At(name, b.name), a.switch.origin_here()
        for size in (0, 400, 600, 70_000):
            await addresses.send(origin, to, b"x" * size)
            assert await within(inbox.receive()) == b"x" * size
        call = me.create_task(addresses.call(origin, to, "asked"))
        asked = await within(inbox.receive())
        asked.reply(asked.request)
        assert await within(call) == "asked"
        with pytest.raises(NotEncodable, match="limit 1024"):
            await addresses.send(origin, At(name + "x", b.name), "too long a name")
