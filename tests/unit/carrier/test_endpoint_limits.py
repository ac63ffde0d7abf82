"""Whatever cannot be had is refused in time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio import Future
from collections.abc import Iterator

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration

from barrel_p2p.carrier.connection import Closed, ClosedBy, Connection
from barrel_p2p.carrier.endpoint import CODE_BUSY, Endpoint
from barrel_p2p.errors import Busy, NotStarted, PeerUnreachable, UnavailableError
from barrel_p2p.quic.settings import ALPN, EngineSettings
from tests.endpoints import (
    HOST,
    certificate,
    endpoint,
    eventually,
    pair,
    within,
)

NO_APPLICATION_PROTOCOL = 0x178
INTERNAL_ERROR = 0x1
CONNECTION_REFUSED = 0x2
VERSION_NEGOTIATION = bytes(4)
VERSION_1 = (1).to_bytes(4)


@contextlib.contextmanager
def silence() -> Iterator[tuple[str, int]]:
    """The address of a bound socket that nobody reads: no answer, and no ICMP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind((HOST, 0))
        yield mute.getsockname()


async def assert_nothing_is_left(one: Endpoint) -> None:
    """No connection is open or half open, and no task but ours runs."""
    await eventually(lambda: one.connections == frozenset())
    await eventually(lambda: one.stats().connections + one.stats().half_open == 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def cancel_between(task: asyncio.Task[Connection], waiter: Future[None]) -> None:
    """Cancel ``task`` after its waiter was woken and before it notices."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        if waiter.done():
            task.cancel()
        else:
            loop.call_soon(look)

    look()


async def connected(dialler: Endpoint, acceptor: Endpoint) -> Connection:
    return await within(dialler.connect(*acceptor.address))


@pytest.mark.every_loop
async def test_a_dial_without_answer_ends_when_its_timeout_does() -> None:
    async with endpoint() as near:
        with silence() as address:
            with pytest.raises(PeerUnreachable, match=r"no answer .* 0\.1 s") as raised:
                await within(near.connect(*address, timeout=0.1))
            assert raised.value.peer == f"{address[0]}:{address[1]}"
        await assert_nothing_is_left(near)


async def test_a_dial_without_timeout_ends_with_the_handshake_timeout() -> None:
    async with endpoint(EngineSettings(handshake_timeout_ms=200)) as near:
        with silence() as address, pytest.raises(PeerUnreachable, match="handshake"):
            await within(near.connect(*address))
        await assert_nothing_is_left(near)


@pytest.mark.every_loop
async def test_a_cancelled_dial_leaves_nothing_behind() -> None:
    async with endpoint() as near:
        with silence() as address:
            dial = asyncio.create_task(near.connect(*address))
            await eventually(lambda: bool(near.connections))
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(dial)
        await assert_nothing_is_left(near)


async def test_a_dial_is_cancelled_while_its_name_is_being_resolved() -> None:
    async with endpoint() as near, endpoint() as far:
        dial = asyncio.create_task(near.connect("localhost", far.address[1]))
        await asyncio.sleep(0)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(dial)
        assert near.connections == frozenset()
        assert near.stats().datagrams_out == 0


async def test_a_dial_ends_when_its_endpoint_is_closed() -> None:
    async with endpoint() as near:
        with silence() as address:
            dial = asyncio.create_task(near.connect(*address))
            await eventually(lambda: bool(near.connections))
            await within(near.close(drain=0.05))
            with pytest.raises(PeerUnreachable):
                await within(dial)
        assert near.connections == frozenset()


async def test_a_client_of_another_protocol_is_refused() -> None:
    configuration = QuicConfiguration(
        alpn_protocols=["h3", ALPN + "0"], verify_mode=ssl.CERT_NONE
    )
    async with endpoint() as one:
        with pytest.raises(ConnectionError):
            async with connect(*one.address, configuration=configuration):
                pytest.fail("the handshake went through")
        await assert_nothing_is_left(one)


async def test_a_server_of_another_protocol_is_refused() -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(certificate().cert_file, certificate().key_file)
    server = await serve(HOST, 0, configuration=configuration)
    assert server._transport is not None
    address = server._transport.get_extra_info("sockname")
    async with endpoint() as one:
        with pytest.raises(PeerUnreachable, match=f"{NO_APPLICATION_PROTOCOL:#x}"):
            await within(one.connect(*address))
        await assert_nothing_is_left(one)
    server.close()


async def test_a_client_of_the_same_protocol_is_welcome() -> None:
    """Another implementation of QUIC talks to us: bytes both ways, then our close."""
    configuration = QuicConfiguration(alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
    async with endpoint() as one:
        async with connect(*one.address, configuration=configuration) as protocol:
            assert isinstance(protocol, QuicConnectionProtocol)
            accepted = await within(one.accept())
            reader, writer = await protocol.create_stream()
            writer.write(b"ping")
            stream = await within(accepted.accept_stream())
            assert await within(stream.readexactly(4)) == b"ping"
            await stream.write(b"pong")
            assert await within(reader.readexactly(4)) == b"pong"
            writer.close()
            accepted.close(3)
            await within(protocol.wait_closed())
        assert await within(accepted.wait_closed()) == Closed(ClosedBy.LOCAL, 3)


async def test_an_unknown_version_is_answered_with_those_we_speak() -> None:
    hello = b"\xc0" + b"\x1a\x2a\x3a\x4a" + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8
    loop = asyncio.get_running_loop()
    async with endpoint() as one:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
            raw.setblocking(False)
            await loop.sock_connect(raw, one.address)
            await loop.sock_sendall(raw, hello.ljust(1_200, b"\0"))
            answer = await within(loop.sock_recv(raw, 2_048))
        assert answer[0] & 0x80
        assert answer[1:5] == VERSION_NEGOTIATION
        assert answer[5:23] == b"\x08" + b"s" * 8 + b"\x08" + b"d" * 8
        versions = [answer[i : i + 4] for i in range(23, len(answer), 4)]
        assert VERSION_1 in versions
        assert one.stats().half_open == 0


async def test_a_connection_too_many_for_the_accept_queue_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("barrel_p2p.carrier.endpoint.ACCEPT_MAX", 3)
    async with endpoint() as near, endpoint() as far:
        kept = [await connected(near, far) for _ in range(3)]
        await eventually(lambda: far.stats().connections == 3)
        late = await connected(near, far)
        assert await within(late.wait_closed()) == Closed(
            ClosedBy.APPLICATION, CODE_BUSY
        )
        assert [c.how_closed for c in kept] == [None] * 3
        ports = {(await within(far.accept())).remote for _ in range(3)}
        assert ports == {near.address}
        again = await connected(near, far)
        assert (await within(far.accept())).is_up
        assert again.is_up


async def test_those_who_came_and_went_do_not_fill_the_accept_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("barrel_p2p.carrier.endpoint.ACCEPT_MAX", 3)
    async with endpoint() as near, endpoint() as far:
        for _ in range(7):
            gone = await connected(near, far)
            await eventually(lambda: far.stats().connections > 0)
            gone.close()
            await within(gone.wait_closed())
            await eventually(lambda: far.stats().connections == 0)
        honest = await connected(near, far)
        stream = honest.open_stream()
        await stream.write(b"here")
        while not (accepted := await within(far.accept())).is_up:
            pass
        assert await within((await accepted.accept_stream()).readexactly(4)) == b"here"


@pytest.mark.every_loop
async def test_a_cancelled_accept_leaves_its_connection_to_the_next_one() -> None:
    async with endpoint() as near, endpoint() as far:
        first = asyncio.create_task(far.accept())
        second = asyncio.create_task(far.accept())
        await asyncio.sleep(0)
        cancel_between(first, far._accept_waiters[0])
        await connected(near, far)
        assert (await within(second)).is_up
        assert first.cancelled()


async def test_connections_beyond_the_maximum_are_refused_on_both_sides() -> None:
    few = EngineSettings(connections_max=3)
    async with endpoint(few) as far, endpoint() as near:
        kept = [await connected(near, far) for _ in range(3)]
        with pytest.raises(PeerUnreachable) as raised:
            await connected(near, far)
        assert "transport" in str(raised.value)
        assert [c.how_closed for c in kept] == [None] * 3
        with pytest.raises(UnavailableError, match="connections_max"):
            await connected(far, near)
        kept[0].close()
        await within(kept[0].wait_closed())
        await eventually(lambda: far.stats().connections + far.stats().half_open == 2)
        assert (await connected(near, far)).is_up


async def test_streams_beyond_the_maximum_of_the_engine_are_refused() -> None:
    few = EngineSettings(streams_max=64)
    async with pair(few) as both:
        streams = [both.dialled.open_stream() for _ in range(64)]
        with pytest.raises(Busy, match="streams_max"):
            both.dialled.open_stream()
        assert both.dialler.stats().streams == 64
        streams[0].reset()
        streams[1].reset()
        await eventually(lambda: both.dialler.stats().streams < 64)
        both.dialled.open_stream()


async def test_a_peer_that_opens_more_streams_than_the_engine_holds_is_closed() -> None:
    few = EngineSettings(streams_max=64, streams_bidi_max=100)
    async with pair(EngineSettings(), acceptor_settings=few) as both:
        for _ in range(80):
            await both.dialled.open_stream().write(b"x")
        end = await within(both.dialled.wait_closed())
        assert end == Closed(ClosedBy.TRANSPORT, INTERNAL_ERROR)
        assert both.acceptor.stats().streams_refused >= 1
        await within(both.accepted.wait_closed())
        assert both.acceptor.stats().streams == 0
        assert (await connected(both.dialler, both.acceptor)).is_up


async def test_accept_ends_when_the_endpoint_is_closed() -> None:
    async with endpoint() as one:
        waiting = [asyncio.create_task(one.accept()) for _ in range(3)]
        await asyncio.sleep(0)
        await one.close()
        outcomes = await within(asyncio.gather(*waiting, return_exceptions=True))
        assert [type(outcome) for outcome in outcomes] == [NotStarted] * 3
