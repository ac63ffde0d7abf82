"""An admitted peer that breaks the rules of messages, calls, links and monitors."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.core.events import Down
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError, WireError
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.runtime import messages
from barrel_p2p.runtime.limits import MAILBOX_SLACK, PAUSED_NAMES_MAX
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.signals import Signals
from barrel_p2p.runtime.switch import Call, Reply
from barrel_p2p.runtime.tie_events import Received, SendTie
from barrel_p2p.wire import terms
from barrel_p2p.wire.frames import Frame, Splitter, encode
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.terms import key_bytes
from tests.endpoints import endpoint, eventually, within
from tests.runtime_nodes import PlainChannel, RuntimeNode, lone_node

HERE = "b@h"
PEER = "a@h"
TERM = terms.encode("hello")


def head(from_id: int, to_id: int, *, said: int = 1, creation: int = 1) -> bytes:
    return struct.pack(">QIQI", from_id, said, to_id, creation)


def call_body(to: Pid, ref: int, term: bytes = TERM, deadline: int = 0) -> bytes:
    return (
        head(9, to.id, creation=to.creation) + struct.pack(">QI", ref, deadline) + term
    )


@dataclass
class Enemy:
    """A peer of ``node`` that writes frames by hand."""

    node: RuntimeNode
    channel: PlainChannel
    connection: Connection
    stream: Stream
    answers: list[Frame]

    async def say(self, kind: int, body: bytes, flags: int = 0) -> None:
        await within(self.stream.write(encode(kind, flags, body)))

    async def answered(self, count: int = 1) -> list[Frame]:
        await eventually(lambda: len(self.answers) >= count)
        return self.answers

    async def thrown_out(self) -> None:
        await eventually(lambda: bool(self.channel.errors))
        assert isinstance(self.channel.errors[0], WireError)
        assert PEER not in self.node.switch.lines

    async def still_heard(self, me: Process) -> None:
        await self.say(Kind.SEND, head(9, me.pid.id) + terms.encode("still here"))
        assert await within(me.receive()) == "still here"
        assert not self.channel.errors


@asynccontextmanager
async def enemy(
    settings: EngineSettings | None = None, mailbox_limit: int = 10_000
) -> AsyncIterator[Enemy]:
    async with (
        lone_node(HERE, mailbox_limit=mailbox_limit, settings=settings) as node,
        endpoint(settings) as outside,
    ):
        near, far = await within(
            asyncio.gather(
                outside.connect(*node.endpoint.address), node.endpoint.accept()
            )
        )
        channel = node.meet(far, PEER)
        stream = near.open_stream(uni=True)
        stream.write_nowait(b"\x03")
        answers: list[Frame] = []
        reader = asyncio.create_task(read_all(near, answers))
        try:
            yield Enemy(node, channel, near, stream, answers)
        finally:
            reader.cancel()
            await asyncio.wait([reader])


async def read_all(connection: Any, answers: list[Frame]) -> None:
    async def read(stream: Stream) -> None:
        splitter = Splitter()
        await stream.readexactly(1)
        while chunk := await stream.read():
            answers.extend(splitter.feed(chunk))

    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(read(await connection.accept_stream()))


BAD_TIES = {
    "EXIT without how": (Kind.EXIT, head(9, 1)),
    "EXIT of another kind": (Kind.EXIT, head(9, 1) + b"\x02" + TERM),
    "EXIT without a reason": (Kind.EXIT, head(9, 1) + b"\x01"),
    "EXIT with more after it": (Kind.EXIT, head(9, 1) + b"\x01" + TERM + b"x"),
    "EXIT of a long reason": (
        Kind.EXIT,
        head(9, 1) + b"\x01" + terms.encode("x" * messages.REASON_BYTES_MAX),
    ),
    "LINK too short": (Kind.LINK, head(9, 1)[:-1]),
    "LINK without a tag": (Kind.LINK, head(9, 1)),
    "LINK with tag 0": (Kind.LINK, head(9, 1) + bytes(8)),
    "LINK too long": (Kind.LINK, head(9, 1) + bytes(9)),
    "LINK of another life": (Kind.LINK, head(9, 1, said=2) + b"\1" * 8),
    "UNLINK with one tag": (Kind.UNLINK, head(9, 1) + b"\1" * 8),
    "MONITOR without a ref": (Kind.MONITOR, head(9, 1)),
    "MONITOR with ref 0": (Kind.MONITOR, head(9, 1) + bytes(8)),
    "DEMONITOR too long": (Kind.DEMONITOR, head(9, 1) + b"\1" * 9),
    "DOWN without a ref": (Kind.DOWN, head(9, 1) + b"\1" * 7),
    "DOWN without a reason": (Kind.DOWN, head(9, 1) + b"\1" * 8),
    "DOWN of a bad term": (Kind.DOWN, head(9, 1) + b"\1" * 8 + b"\x83\x00"),
    "nothing at all": (Kind.LINK, b""),
}
BAD_NAMES = {
    "nothing": b"",
    "no length": bytes(12),
    "no name": bytes(14) + b"\1" * 8,
    "a name cut short": struct.pack(">QIH", 9, 1, 5) + b"abc" + b"\1" * 8,
    "no ref": struct.pack(">QIH", 9, 1, 2) + b"ab",
    "ref 0": struct.pack(">QIH", 9, 1, 2) + b"ab" + bytes(8),
    "a name too long": struct.pack(">QIH", 9, 1, 1025) + b"a" * 1025 + b"\1" * 8,
    "another life": struct.pack(">QIH", 9, 2, 2) + b"ab" + b"\1" * 8,
}
BAD_MESSAGES = {
    "SEND too short": (Kind.SEND, head(9, 1)[:-1], 0),
    "SEND_NAME too short": (Kind.SEND_NAME, bytes(13), 0),
    "SEND_NAME with a name cut short": (
        Kind.SEND_NAME,
        struct.pack(">QIH", 9, 1, 5) + b"abc",
        0,
    ),
    "SEND_NAME with a name too long": (
        Kind.SEND_NAME,
        struct.pack(">QIH", 9, 1, 1025) + b"a" * 1025 + TERM,
        0,
    ),
    "CALL without a ref": (Kind.CALL, head(9, 1), 0),
    "CALL without a deadline": (Kind.CALL, head(9, 1) + bytes(11), 0),
    "a named CALL without a name": (Kind.CALL, bytes(13), messages.FLAG_NAMED),
    "REPLY without a ref": (Kind.REPLY, bytes(7), 0),
    "ERROR without a ref": (Kind.ERROR, b"", 0),
    "CANCEL too short": (Kind.CANCEL, bytes(7), 0),
    "CANCEL too long": (Kind.CANCEL, bytes(9), 0),
}


@pytest.mark.parametrize("name", BAD_TIES)
async def test_a_malformed_tie_ends_the_channel(name: str) -> None:
    async with enemy() as bad:
        await bad.say(*BAD_TIES[name])
        await bad.thrown_out()


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_malformed_monitor_of_a_name_ends_the_channel(name: str) -> None:
    async with enemy() as bad:
        await bad.say(Kind.MONITOR, BAD_NAMES[name], messages.FLAG_NAMED)
        await bad.thrown_out()


@pytest.mark.parametrize("name", BAD_MESSAGES)
async def test_a_malformed_message_ends_the_channel(name: str) -> None:
    async with enemy() as bad:
        await bad.say(*BAD_MESSAGES[name])
        await bad.thrown_out()


async def test_a_bad_term_for_a_live_process_ends_the_channel() -> None:
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        await bad.say(Kind.SEND, head(9, me.pid.id) + b"\x83\x00")
        await bad.thrown_out()


@given(st.sampled_from(list(messages.TIE_KINDS)), st.integers(0, 255), st.binary())
def test_any_body_is_a_tie_or_refused(kind: int, flags: int, rest: bytes) -> None:
    for body in (rest, head(9, 1) + rest, struct.pack(">QIH", 9, 1, 2) + rest):
        try:
            found = messages.decode(
                Frame(kind, flags, body), peer=PEER, creation=1, here=HERE
            )
        except WireError:
            continue
        again, more, bytes_again = messages.encode(found)
        assert again == kind
        if not isinstance(found, messages.ExitFrame | messages.DownFrame):
            assert bytes_again == body  # One form for each, terms apart.
        assert (more == messages.FLAG_NAMED) <= bool(flags & messages.FLAG_NAMED)


async def test_words_about_strangers_do_nothing() -> None:
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        ref = me.monitor(bad.node.processes.spawn(forever).pid)
        mine = head(9, me.pid.id)
        number = struct.pack(">Q", ref.words[0] << 32 | ref.words[1])
        for kind, body in (
            (Kind.EXIT, mine + b"\1" + TERM),  # of a link that nobody made
            (Kind.EXIT, head(9, me.pid.id, creation=7) + b"\0" + TERM),
            (Kind.EXIT, head(9, 2**64 - 1) + b"\0" + TERM),
            (Kind.DOWN, mine + number + TERM),  # of a monitor on another node
            (Kind.DOWN, mine + b"\xff" * 8 + TERM),
            (Kind.UNLINK, mine + b"\1" * 16),
            (Kind.DEMONITOR, mine + number),
            (Kind.SEND, head(9, me.pid.id, creation=7) + TERM),
            (Kind.SEND, head(9, 2**64 - 1) + TERM),
            (Kind.REPLY, b"\xff" * 8 + TERM),
            (Kind.ERROR, bytes(8) + TERM),
            (Kind.CANCEL, bytes(8)),
        ):
            await bad.say(kind, body)
        await bad.still_heard(me)
        assert len(me._box) == 0


async def forever(process: Process) -> None:
    await process.receive(lambda message: False)


async def test_an_answer_that_another_peer_is_asked_for_is_dropped() -> None:
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        local = bad.node.processes.spawn(forever).pid
        reply = bad.node.switch.ask(me.pid.id, local, "a question", None)
        assert isinstance(reply, Reply)
        for slot, used in itertools.product(range(4), range(4)):
            ref = struct.pack(">Q", used << 24 | slot)
            await bad.say(Kind.REPLY, ref + TERM)
            await bad.say(Kind.ERROR, ref + TERM)
        await bad.still_heard(me)
        assert not reply.done
        reply.abandon()


async def test_a_call_with_a_ref_that_waits_ends_the_channel() -> None:
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        await bad.say(Kind.CALL, call_body(me.pid, 5))
        call = await within(me.receive())
        assert isinstance(call, Call)
        await bad.say(Kind.CALL, call_body(me.pid, 5))
        await bad.thrown_out()
        assert call.over
        call.reply("nobody hears it")


async def test_a_monitor_with_a_ref_that_waits_ends_the_channel() -> None:
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        for _ in range(2):
            await bad.say(Kind.MONITOR, head(9, me.pid.id) + b"\1" * 8)
        await bad.thrown_out()
        assert len(bad.node.processes.ties._machine.monitors) == 0


async def test_calls_beyond_the_limit_are_answered_overloaded() -> None:
    async with enemy() as bad, bad.node.processes.mailbox(mailbox_limit=1 << 20) as me:
        count = 65_536
        block = b"".join(
            encode(Kind.CALL, 0, call_body(me.pid, ref)) for ref in range(count + 3)
        )
        await within(bad.stream.write(block))
        answers = await bad.answered(3)
        assert [a.kind for a in answers] == [Kind.ERROR] * 3
        fault = terms.decode(answers[0].body[8:])
        assert isinstance(fault, tuple)
        assert fault[0] == "overloaded"
        assert len(me._box) == count


async def test_a_dead_pid_s_calls_are_answered_noproc() -> None:
    async with enemy() as bad:
        await bad.say(Kind.CALL, call_body(Pid(HERE, 2**64 - 1, 1), 1))
        await bad.say(Kind.CALL, call_body(Pid(HERE, 1, 7), 2))
        for frame in await bad.answered(2):
            fault = terms.decode(frame.body[8:])
            assert isinstance(fault, tuple)
            assert fault[0] == "noproc"


async def test_a_peer_that_ignores_pause_gets_no_more_credit() -> None:
    window = EngineSettings(stream_window=256 << 10, connection_window=1 << 20)
    async with enemy(window, 100) as bad, bad.node.processes.mailbox() as me:
        before = psutil.Process().memory_info().rss
        frame = encode(Kind.SEND, 0, head(9, me.pid.id) + terms.encode(b"x" * 100))
        block = frame * 1_000
        flood = asyncio.create_task(pour(bad.stream, block))
        await eventually(lambda: len(me._box) > 2 * 100 + MAILBOX_SLACK)
        await settled(lambda: len(me._box))
        held = len(me._box)
        assert held * len(frame) < (256 << 10) * 3 + (MAILBOX_SLACK + 1_000) * len(
            frame
        )
        assert psutil.Process().memory_info().rss - before < 32 << 20
        flood.cancel()
        await asyncio.wait([flood])
        me._box.drain()
        await eventually(lambda: len(me._box) > 0)  # It is read again.
        assert [f.kind for f in bad.answers][:2] == [Kind.PAUSE, Kind.RESUME]


async def pour(stream: Stream, block: bytes) -> None:
    while True:
        await stream.write(block)


async def settled(value: Any) -> None:
    """Return once ``value()`` has stayed what it is for half a second."""
    seen, since = value(), 0
    while since < 50:
        await asyncio.sleep(0.01)  # not synchronisation: the absence of an event
        since = since + 1 if value() == seen else 0
        seen = value()


async def test_a_flood_of_pauses_costs_a_bounded_table() -> None:
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        control = bad.connection.open_stream(uni=True)
        block = b"\x01" + b"".join(
            encode(Kind.PAUSE, 0, struct.pack(">Q", i)) for i in range(100_000)
        )
        await within(control.write(block))
        await bad.still_heard(me)
        await eventually(lambda: len(bad.channel.control) == 100_000)
        await within(control.write(encode(Kind.RESUME, 0, bytes(7))))
        await bad.thrown_out()


async def test_a_flood_of_paused_names_costs_a_bounded_table() -> None:
    """A name it forgot is sent to still: only the credit of the stream holds it."""
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        control = bad.connection.open_stream(uni=True)
        names = [key_bytes((i, "x" * 1_000)) for i in range(PAUSED_NAMES_MAX + 100)]
        await within(control.write(b"\x01"))
        for name in names:
            await within(control.write(named_room(Kind.PAUSE, name)))
        await bad.still_heard(me)
        await eventually(lambda: len(bad.channel.control) == len(names))
        switch, place = bad.node.switch, Pid(PEER, 0, 0)
        assert not switch.tell_name(1, place, names[PAUSED_NAMES_MAX - 1], "x")
        assert switch.tell_name(1, place, names[PAUSED_NAMES_MAX], "x")
        await within(control.write(named_room(Kind.RESUME, names[0])))
        await within(switch.way(1, place, names[0]))
        assert switch.tell_name(1, place, names[0], "x")


@pytest.mark.parametrize(
    "body",
    [
        bytes(9),
        struct.pack(">QH", 0, 1),
        struct.pack(">QH", 0, 0) + b"x",
        struct.pack(">QH", 7, 1) + b"x",
        struct.pack(">QH", 0, 1_025) + bytes(1_025),
    ],
    ids=["half", "short", "long", "of a process", "too long a name"],
)
async def test_a_pause_of_neither_a_process_nor_a_name_is_refused(body: bytes) -> None:
    async with enemy() as bad:
        control = bad.connection.open_stream(uni=True)
        await within(control.write(b"\x01" + encode(Kind.PAUSE, 0, body)))
        await bad.thrown_out()


def named_room(kind: Kind, name: bytes) -> bytes:
    """A PAUSE or RESUME of a name."""
    return encode(kind, 0, struct.pack(">QH", 0, len(name)) + name)


async def test_links_and_monitors_beyond_a_limit_come_back_system_limit() -> None:
    machine = Signals(
        HERE, 1, alive=lambda i: True, named=lambda key: 1,
        links_per_peer_max=2, monitors_per_peer_max=2, links_per_process_max=100,
    )  # fmt: skip
    for i in range(1, 5):
        sender, to = Pid(PEER, i, 1), Pid(HERE, i, 1)
        linked = machine.handle(Received(messages.LinkFrame(sender, to, i)), now_ms=0)
        named = messages.MonitorNameFrame(sender, b"name", i)
        watched = machine.handle(Received(named), now_ms=0)
        if i <= 2:
            assert linked == watched == []
        else:
            assert linked == [
                SendTie(PEER, messages.ExitFrame(to, sender, True, "system_limit"))
            ]
            one = Pid(HERE, 1, 1)
            down = messages.DownFrame(one, sender, i, "system_limit")
            assert watched == [SendTie(PEER, down)]
    assert (len(machine.links), len(machine.monitors)) == (2, 2)


UNREAD = {
    "monitors": [
        encode(Kind.MONITOR, 0, head(9, 2**60) + struct.pack(">Q", i))
        for i in range(1, 2_000)
    ],
    "calls": [
        encode(Kind.CALL, 0, call_body(Pid(HERE, 2**60, 1), i)) for i in range(1, 2_000)
    ],
}


@pytest.mark.parametrize("name", UNREAD)
async def test_a_peer_that_reads_no_answers_is_let_go(name: str) -> None:
    small = EngineSettings(
        stream_window=64 << 10,
        stream_window_first=64 << 10,
        send_high=32 << 10,
        send_low=8 << 10,
        send_max=128 << 10,
    )
    async with (
        lone_node(HERE, settings=small) as node,
        endpoint(small) as outside,
    ):
        near, far = await within(
            asyncio.gather(
                outside.connect(*node.endpoint.address), node.endpoint.accept()
            )
        )
        node.meet(far, PEER)
        stream = near.open_stream(uni=True)
        stream.write_nowait(b"\x03")
        with pytest.raises(BarrelError):
            await within(pour(stream, b"".join(UNREAD[name])))
        await eventually(lambda: PEER not in node.switch.lines)


async def test_a_down_tells_no_process_of_another() -> None:
    async with enemy() as bad, bad.node.processes.mailbox() as me:
        far = Pid(PEER, 4, 1)
        ref = me.monitor(far)
        number = struct.pack(">Q", ref.words[0] << 32 | ref.words[1])
        other = bad.node.processes.spawn(forever).pid
        await bad.say(Kind.DOWN, head(4, other.id) + number + TERM)
        await bad.say(Kind.DOWN, head(4, me.pid.id) + number + TERM)
        await bad.say(Kind.DOWN, head(4, me.pid.id) + number + TERM)
        assert await within(me.receive()) == Down(ref, far, "hello")
        await bad.still_heard(me)
