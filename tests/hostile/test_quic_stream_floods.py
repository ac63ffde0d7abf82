"""A peer that was let in breaks QUIC's limits, or keeps to them and floods."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

from barrel_p2p.carrier.connection import ClosedBy, Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.quic.settings import ALPN, EngineSettings
from tests.child_endpoint import ChildEndpoint, child_endpoint
from tests.endpoints import Pair, drained, endpoint, eventually, pair, within
from tests.tools import rounds

FLOW_CONTROL_ERROR = 0x3
STREAM_LIMIT_ERROR = 0x4
STREAM_STATE_ERROR = 0x5
FINAL_SIZE_ERROR = 0x6
GROWTH_BYTES_MAX = 16 << 20
STREAMS = rounds(5_000, whole=50_000)


class Rogue(QuicConnectionProtocol):
    """A client of another implementation, whose own limits a test can lift."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated) and not self.ended.done():
            self.ended.set_result(event.error_code)

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, end)
        self.transmit()

    def lift_stream_limits(self) -> None:
        self._quic._remote_max_streams_bidi = 1 << 40
        self._quic._remote_max_streams_uni = 1 << 40

    def lift_flow_control(self, stream_id: int) -> None:
        self._quic._remote_max_data = 1 << 40
        stream = self._quic._get_or_create_stream_for_send(stream_id)
        stream.max_stream_data_remote = 1 << 40


@asynccontextmanager
async def rogue(target: Endpoint) -> AsyncIterator[tuple[Rogue, Connection]]:
    """A rogue's connection: its side and ours."""
    configuration = QuicConfiguration(alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
    context = connect(
        *target.address, configuration=configuration, create_protocol=Rogue
    )
    async with context as protocol:
        assert isinstance(protocol, Rogue)
        yield protocol, await within(target.accept())


async def assert_it_serves(target: Endpoint) -> None:
    """Another peer is served as if nothing had happened."""
    async with endpoint() as honest:
        dialled, accepted = await within(
            asyncio.gather(honest.connect(*target.address), target.accept())
        )
        stream = dialled.open_stream()
        stream.write_nowait(b"hello", fin=True)
        assert await within(drained(await accepted.accept_stream())) == b"hello"


@pytest.mark.parametrize("uni", [False, True])
async def test_a_stream_beyond_the_limit_ends_the_connection(uni: bool) -> None:
    few = EngineSettings(streams_bidi_max=3, streams_uni_max=2)
    most = few.streams_uni_max if uni else few.streams_bidi_max
    kind = 2 if uni else 0
    async with endpoint(few) as target:
        async with rogue(target) as (peer, connection):
            for number in range(most):
                peer.send(4 * number + kind, b"allowed")
                await within(connection.accept_stream())
            peer.lift_stream_limits()
            peer.send(4 * most + kind, b"one too many")
            assert await within(peer.ended) == STREAM_LIMIT_ERROR
            end = await within(connection.wait_closed())
            assert (end.by, end.code) == (ClosedBy.LOCAL, STREAM_LIMIT_ERROR)
        await assert_it_serves(target)


async def test_bytes_beyond_the_window_end_the_connection() -> None:
    small = EngineSettings(stream_window_first=8_192, stream_window=16_384)
    async with endpoint(small) as target:
        async with rogue(target) as (peer, connection):
            peer.send(0, b"x")
            stream = await within(connection.accept_stream())
            peer.lift_flow_control(0)
            peer.send(0, bytes(100_000))
            assert await within(peer.ended) == FLOW_CONTROL_ERROR
            end = await within(connection.wait_closed())
            assert (end.by, end.code) == (ClosedBy.LOCAL, FLOW_CONTROL_ERROR)
            assert sum(map(len, stream._chunks)) <= small.stream_window
        await assert_it_serves(target)


async def test_bytes_on_a_stream_that_is_ours_to_send_end_the_connection() -> None:
    async with endpoint() as target:
        async with rogue(target) as (peer, connection):
            ours = connection.open_stream(uni=True)
            await ours.write(b"for reading only")
            streams = peer._quic._streams
            await eventually(lambda: ours.id in streams)
            streams[ours.id].max_stream_data_remote = 1 << 20
            streams[ours.id].sender.write(b"written back")
            peer._quic._streams_queue.append(streams[ours.id])
            peer.transmit()
            # Its window is 0, which is looked at before its direction.
            assert await within(peer.ended) in (FLOW_CONTROL_ERROR, STREAM_STATE_ERROR)
            await within(connection.wait_closed())
        await assert_it_serves(target)


async def _rss(child: ChildEndpoint) -> int:
    return int((await child.ask("stats"))["rss"])


async def reset_flood(both: Connection, count: int) -> None:
    """Open, write, reset: as many streams as the peer's limit lets through."""
    pending: list[Stream] = []
    for number in range(count):
        stream = both.open_stream(uni=number % 2 == 0)
        stream.write_nowait(b"x" * (number % 7 * 300))
        stream.reset(number)
        pending.append(stream)
        if len(pending) == 100:
            await eventually(lambda: all(s.released for s in pending))
            pending.clear()


async def stop_flood(both: Connection, count: int) -> None:
    """Ask for an answer and refuse it, again and again."""
    pending: list[Stream] = []
    for number in range(count):
        stream = both.open_stream()
        stream.write_nowait(b"x" * (number % 7 * 300), fin=True)
        stream.stop_sending(number)
        pending.append(stream)
        if len(pending) == 100:
            await eventually(lambda: all(s.released for s in pending))
            pending.clear()


@pytest.mark.parametrize("flood", [reset_flood, stop_flood])
async def test_streams_given_up_as_soon_as_opened_leave_nothing_behind(
    flood: object,
) -> None:
    assert callable(flood)
    async with child_endpoint() as child, endpoint() as near:
        connection = await within(near.connect(*child.address))
        await within(flood(connection, 500), 50)
        before = await _rss(child)
        await within(flood(connection, STREAMS), 50)
        assert await _rss(child) - before <= GROWTH_BYTES_MAX
        await eventually(lambda: near.stats().streams == 0)
        assert (await child.ask("stats"))["streams"] == 0
        assert connection.how_closed is None


async def test_resets_of_streams_that_nobody_accepts_end_the_connection_at_last() -> (
    None
):
    """Rapid reset: each stream makes room for the next, accepted or not."""
    async with pair() as both:
        with pytest.raises(PeerUnreachable):
            await within(_reset_for_ever(both))
        await within(both.dialled.wait_closed())
        await assert_it_serves(both.acceptor)


async def test_a_stream_may_not_change_its_mind_about_its_end() -> None:
    async with endpoint() as target:
        async with rogue(target) as (peer, connection):
            peer.send(0, b"the end", end=True)
            stream = await within(connection.accept_stream())
            assert await within(stream.readexactly(7)) == b"the end"
            sender = peer._quic._streams[0].sender
            sender._buffer_fin = None
            sender.buffer_is_empty = False
            sender.write(b" and more", end_stream=True)
            peer._quic._streams_queue.append(peer._quic._streams[0])
            peer.transmit()
            assert await within(peer.ended) == FINAL_SIZE_ERROR
            await within(connection.wait_closed())
        await assert_it_serves(target)


async def test_a_flood_on_one_connection_leaves_the_others_their_share() -> None:
    """One peer writes as fast as it can to streams nobody reads."""
    async with endpoint() as target, endpoint() as bully:
        dialled, _ = await within(
            asyncio.gather(bully.connect(*target.address), target.accept())
        )
        flood = [dialled.open_stream() for _ in range(100)]
        block = os.urandom(100_000)
        writing = [asyncio.create_task(_write_for_ever(s, block)) for s in flood]
        await eventually(lambda: all(s.blocked for s in flood))
        await assert_it_serves(target)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)


async def _write_for_ever(stream: Stream, block: bytes) -> None:
    while True:
        await stream.write(block)


async def _reset_for_ever(both: Pair) -> None:
    for number in range(100_000):
        stream = both.dialled.open_stream(uni=True)
        stream.write_nowait(b"x")
        stream.reset(number)
        if number % 50 == 49:
            await eventually(
                lambda: both.dialled.closed or both.dialler.stats().streams < 32
            )
