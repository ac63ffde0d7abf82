"""Strangers and traitors: what they may cost before and just after admission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from barrel_p2p.auth import messages
from barrel_p2p.auth.machine import PeerIdentity
from barrel_p2p.carrier.admission import AUTH_BYTES_MAX, Admission, Gate
from barrel_p2p.carrier.connection import CODE_BUSY, Closed, ClosedBy, Connection
from barrel_p2p.carrier.reception import AdmissionLimits
from barrel_p2p.carrier.session import encode_session
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.names import NodeReference
from barrel_p2p.core.peers import NodeUp
from barrel_p2p.wire.frames import encode
from tests.channel_nodes import DATA_KIND, ChannelNode, connected, node, session
from tests.endpoints import endpoint, eventually, within
from tests.tools import rounds

BROKE_A_RULE = Closed(ClosedBy.APPLICATION, 0x101)
TURNED_AWAY = Closed(ClosedBy.APPLICATION, CODE_BUSY)
HELLO = encode(
    1,
    0,
    messages.encode(messages.Hello(1, 1, messages.Mode.IDENTITY, "evil@h", bytes(32)))[
        1
    ],
)


@asynccontextmanager
async def stranger(victim: ChannelNode) -> AsyncIterator[Connection]:
    async with endpoint() as own:
        yield await within(own.connect(*victim.endpoint.address))


def gate(evil: ChannelNode) -> Gate:
    return Gate(
        local=evil.local,
        trust=evil.trust,
        certificate_hash=bytes(32),
        clock=SystemClock(),
        wanted=lambda peer: None,
    )


async def admitted(evil: ChannelNode, victim: ChannelNode) -> Connection:
    """A connection on which both sides have said OK, and nothing follows by itself."""
    connection = await within(evil.endpoint.connect(*victim.endpoint.address))
    admission: Admission[PeerIdentity] = Admission(
        connection,
        gate(evil),
        deadline_s=asyncio.get_running_loop().time() + 20.0,
        reference=NodeReference.parse(victim.ref),
        admitted=lambda peer: peer,
    )
    await within(admission.run())
    connection.sink = None
    connection.on_stream = None
    return connection


async def test_a_thousand_who_drip_are_gone_by_the_deadline_and_keep_nobody_out() -> (
    None
):
    """X2, its times divided by ten; a thousand of them in a deep run."""
    count = rounds(100, whole=1_000)
    limits = AdmissionLimits()
    async with node("b@h", host="0.0.0.0", handshake_timeout_ms=1_000) as b:
        port = b.endpoint.address[1]
        reception = b.channels.reception
        loop = asyncio.get_running_loop()
        async with endpoint() as own:
            # A storm of handshakes takes its time, so some get the places of others.
            connections = await within(
                asyncio.gather(*(own.connect("127.0.0.1", port) for _ in range(count)))
            )
            began_s = loop.time()
            drip = asyncio.ensure_future(dripping(connections))
            assert reception.turned_away > 0
            assert 0 < reception.admitting <= limits.admitting_per_host_max
            async with node("a@h", host="127.0.0.2") as honest:
                joining_s = loop.time()
                await within(honest.channels.connect(f"b@h=127.0.0.1:{port}"))
                assert loop.time() - joining_s < 2.0
                ends = await within(
                    asyncio.gather(*(c.wait_closed() for c in connections))
                )
                assert loop.time() - began_s < 3.0
                assert honest.channels.nodes() == ["b@h"]
            drip.cancel()
            assert {end.by for end in ends} == {ClosedBy.APPLICATION}
            assert ends.count(TURNED_AWAY) == reception.turned_away
            await eventually(lambda: reception.admitting == 0)
            assert reception.turned_away + reception.refused == count


async def dripping(connections: list[Connection]) -> None:
    """Each begins a frame and sends a byte of it now and then."""
    streams = [connection.open_stream(uni=True) for connection in connections]
    for stream in streams:
        stream.write_nowait(b"\0" + (65_535).to_bytes(2))
    while True:
        for stream, connection in zip(streams, connections, strict=True):
            if not connection.closed and not stream.released:
                stream.write_nowait(b"\1")
        await asyncio.sleep(0.1)  # not synchronisation: this is the attack


async def test_one_more_than_all_may_be_is_turned_away() -> None:
    limits = AdmissionLimits(admitting_max=3, admitting_per_host_max=2)
    async with node("b@h", host="0.0.0.0", limits=limits) as b:
        port = b.endpoint.address[1]
        async with (
            endpoint() as one,
            endpoint(host="127.0.0.2") as two,
        ):
            first = [await within(one.connect("127.0.0.1", port)) for _ in range(3)]
            assert await within(first[2].wait_closed()) == TURNED_AWAY
            second = [await within(two.connect("127.0.0.1", port)) for _ in range(2)]
            assert await within(second[1].wait_closed()) == TURNED_AWAY
            first[0].close()
            await eventually(lambda: b.channels.reception.admitting == 2)
            again = await within(two.connect("127.0.0.1", port))
            await eventually(lambda: b.channels.reception.admitting == 3)
            assert not again.closed


async def test_an_honest_node_that_is_turned_away_comes_in_a_little_later() -> None:
    limits = AdmissionLimits(admitting_max=1)
    async with node("b@h", limits=limits) as b, node("a@h") as a:
        async with stranger(b):
            await eventually(lambda: b.channels.reception.admitting == 1)
            dial = asyncio.ensure_future(a.channels.connect(b.ref))
            await eventually(lambda: b.channels.reception.turned_away > 0)
            assert not dial.done()
        assert (await within(dial)).is_up


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.open_stream().write_nowait(b"a user stream"),
        lambda c: c.open_stream(uni=True).write_nowait(b"\1control"),
        lambda c: c.open_stream(uni=True).write_nowait(b"\3data"),
        lambda c: c.open_stream(uni=True).write_nowait(b"\xff"),
        lambda c: c.open_stream(uni=True).finish(),
        lambda c: [c.open_stream(uni=True).write_nowait(b"\0") for _ in range(2)],
    ],
)
async def test_any_stream_but_one_auth_stream_before_ok_ends_the_connection(
    write: Callable[[Connection], object],
) -> None:
    async with node("b@h") as b, stranger(b) as connection:
        write(connection)
        assert await within(connection.wait_closed()) == BROKE_A_RULE
        await eventually(lambda: b.channels.reception.admitting == 0)
        assert b.events == []


async def refusal_of(connection: Connection) -> messages.Fail:
    """The FAIL that comes as the last thing on the victim's auth stream."""
    stream = await within(connection.accept_stream())
    assert await within(stream.readexactly(1)) == b"\0"
    while True:
        size = int.from_bytes(await within(stream.readexactly(4)))
        kind, _, *body = await within(stream.readexactly(size))
        message = messages.decode(kind, bytes(body))
        if isinstance(message, messages.Fail):
            return message


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ((AUTH_BYTES_MAX + 1).to_bytes(4), "malformed"),
        ((0xFFFF_FFFF).to_bytes(4), "malformed"),
        (bytes(4), "malformed"),
        (encode(1, 0, b"no hello"), "malformed"),
        (encode(2, 0, bytes(40)), "malformed"),
        (encode(4, 0, b""), "malformed"),
        (encode(9, 0, b""), "malformed"),
        (encode(1, 0, bytes(AUTH_BYTES_MAX - 100)), "malformed"),
        (HELLO + HELLO, "malformed"),
        (HELLO.replace(b"evil@h", b"EVIL@h"), "malformed"),
        (HELLO.replace(b"evil@h", b"evil@."), "malformed"),
    ],
)
async def test_a_stranger_who_breaks_the_handshake_is_told_and_sent_away(
    said: bytes, code: str
) -> None:
    async with node("b@h") as b, stranger(b) as connection:
        connection.open_stream(uni=True).write_nowait(b"\0" + said)
        assert (await refusal_of(connection)).code == code
        assert (await within(connection.wait_closed())).by is ClosedBy.APPLICATION
        await eventually(lambda: b.channels.reception.admitting == 0)
        assert b.channels.reception.refused == 1


@pytest.mark.parametrize("end", ["fin", "reset", "close", "fin_of_nothing"])
async def test_a_stranger_who_ends_early_frees_its_place_at_once(end: str) -> None:
    async with node("b@h") as b, stranger(b) as connection:
        stream = connection.open_stream(uni=True)
        stream.write_nowait(b"\0" if end == "fin_of_nothing" else b"\0" + HELLO)
        await eventually(lambda: b.channels.reception.admitting == 1)
        if end == "reset":
            await eventually(lambda: connection.in_flight == 0)
            stream.reset(1)
        elif end == "close":
            connection.close()
        else:
            stream.finish()
        await eventually(lambda: b.channels.reception.admitting == 0, seconds=3.0)


@pytest.mark.parametrize(
    "said",
    [
        encode(40, 0, b"a frame before SESSION"),
        encode(1, 0, b"no session"),
        encode(1, 0, bytes(5_000)),
        encode(15, 0, b""),
        (9 << 20).to_bytes(4),
    ],
)
async def test_a_traitor_who_does_not_begin_with_session_is_sent_away(
    said: bytes,
) -> None:
    async with node("b@h") as b, node("evil@h") as evil:
        connection = await admitted(evil, b)
        connection.open_stream(uni=True).write_nowait(b"\1" + said)
        assert await within(connection.wait_closed()) == BROKE_A_RULE
        assert b.events == []


async def test_a_traitor_who_never_says_session_is_sent_away_by_the_deadline() -> None:
    async with node("b@h", handshake_timeout_ms=500) as b, node("evil@h") as evil:
        connection = await admitted(evil, b)
        assert b.channels.reception.admitting == 1
        assert (await within(connection.wait_closed())).code == 0
        await eventually(lambda: b.channels.reception.admitting == 0)
        assert b.events == []


async def test_what_comes_before_session_waits_for_it() -> None:
    async with node("b@h") as b, node("evil@h") as early:
        connection = await admitted(early, b)
        data = connection.open_stream(uni=True)
        data.write_nowait(b"\3" + encode(DATA_KIND, 0, b"early"))
        await eventually(lambda: connection.in_flight == 0)
        assert b.frames == []
        control = connection.open_stream(uni=True)
        control.write_nowait(b"\1" + encode(1, 0, encode_session(session())))
        await eventually(lambda: len(b.frames) == 1)
        assert b.events == [NodeUp("evil@h")]


async def test_a_traitor_who_stops_a_stream_of_ours_is_sent_away() -> None:
    async with node("b@h") as b, node("evil@h") as evil:
        connection = await admitted(evil, b)
        control = connection.open_stream(uni=True)
        control.write_nowait(b"\1" + encode(1, 0, encode_session(session())))
        ours = await within(connection.accept_stream())
        assert await within(ours.readexactly(1)) == b"\1"
        ours.stop_sending(9)
        assert await within(connection.wait_closed()) == BROKE_A_RULE
        assert b.downs == ["protocol_error"]


async def test_a_frame_on_the_auth_stream_after_ok_ends_the_channel() -> None:
    async with node("b@h") as b, node("evil@h") as evil:
        connection = await within(evil.endpoint.connect(*b.endpoint.address))
        admission: Admission[PeerIdentity] = Admission(
            connection,
            gate(evil),
            deadline_s=asyncio.get_running_loop().time() + 20.0,
            reference=NodeReference.parse(b.ref),
            admitted=lambda peer: peer,
        )
        admission._finish_own = lambda: None  # type: ignore[method-assign]
        await within(admission.run())
        assert admission._own is not None
        admission._own.write_nowait(encode(4, 0, b""))
        assert await within(connection.wait_closed()) == BROKE_A_RULE


async def test_strangers_of_one_host_get_one_line_a_second_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """X12."""
    async with node("b@h") as b, node("a@h") as a:
        await connected(a, b)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for _ in range(20):
            async with stranger(b) as connection:
                connection.open_stream(uni=True).write_nowait(b"\7")
                await within(connection.wait_closed())
        await eventually(lambda: b.channels.reception.refused == 20)
        lines = [r for r in caplog.records if "not admitted" in r.getMessage()]
        assert 1 <= len(lines) <= 1 + int(loop.time() - began_s)
        assert a.channels.nodes() == ["b@h"]
