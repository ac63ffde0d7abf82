"""A slow reader slows its own sender down, and nobody else."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import weakref

import pytest

from barrel_p2p.carrier.connection import CODE_BUSY, OPENED_MAX, Closed, ClosedBy
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import Busy, PeerUnreachable
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    Pair,
    drained,
    echo,
    eventually,
    pair,
    stream_pair,
    within,
)

KIB = 1 << 10
MIB = 1 << 20

SMALL = EngineSettings(
    stream_window=256 * KIB,
    stream_window_first=64 * KIB,
    connection_window=1 * MIB,
    send_high=128 * KIB,
    send_low=16 * KIB,
    send_max=1 * MIB,
    connection_send_high=1 * MIB,
)


class Source:
    """A task that writes a known sequence of bytes until it is stopped."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.written = 0
        self.sha256 = hashlib.sha256()
        self.stopped = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self.stopped:
            block = os.urandom(16 * KIB)
            await self.stream.write(block)
            self.sha256.update(block)
            self.written += len(block)
        self.stream.finish()

    async def settle(self) -> int:
        """Wait until the writer stands still; the bytes it has got rid of."""
        await eventually(lambda: self.stream.blocked)
        before = -1
        while before != self.written or not self.stream.blocked:
            before = self.written
            await _turns(self.stream)
        return self.written


async def _turns(stream: Stream) -> None:
    """Let a ping go there and back: whatever could be sent has been sent."""
    connection = stream.connection
    other = connection.open_raw_stream(False)
    assert isinstance(other, Stream)
    await other.write(b"?")
    assert await within(other.readexactly(1)) == b"?"
    other.finish()
    await within(drained(other))


def received(stream: Stream) -> int:
    """Bytes that have arrived and nobody has read."""
    return sum(map(len, stream._chunks))


def serve_echo(
    both: Pair, *, but_first: int
) -> tuple[list[Stream], asyncio.Task[None]]:
    """Echo every stream the dialler opens but the first ones, which nobody reads."""
    unread: list[Stream] = []

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                stream = await both.accepted.accept_stream()
                if len(unread) < but_first:
                    unread.append(stream)
                else:
                    group.create_task(echo(stream))

    return unread, asyncio.create_task(serve())


@pytest.mark.every_loop
async def test_a_reader_that_never_reads_stops_the_sender_until_it_reads() -> None:
    """QUI-10: a sender stops at its high-water mark and goes on when there is room.

    The original polls every 10 ms while its queue exceeds two congestion windows;
    here the writer is woken by the event itself, and what is queued is bounded.
    """
    async with pair(SMALL) as both:
        unread, serving = serve_echo(both, but_first=1)
        source = Source(both.dialled.open_stream())
        written = await source.settle()
        (far,) = unread
        held = received(far)
        assert held <= SMALL.stream_window_first
        assert source.stream.queued <= SMALL.send_high + 16 * KIB
        assert written <= held + source.stream.queued + 16 * KIB
        for _ in range(3):
            await _turns(source.stream)
        assert (source.written, received(far)) == (written, held)

        digest = hashlib.sha256()
        for _ in range(40):
            digest.update(await within(far.read()))
        await eventually(lambda: source.written > written + MIB or received(far) > 0)
        source.stopped = True
        while chunk := await within(far.read()):
            digest.update(chunk)
        await within(source.task)
        assert digest.digest() == source.sha256.digest()
        serving.cancel()


async def test_a_stream_that_was_read_once_gets_a_window_and_no_more() -> None:
    async with pair(SMALL) as both:
        unread, serving = serve_echo(both, but_first=1)
        source = Source(both.dialled.open_stream())
        await source.settle()
        (far,) = unread
        await within(far.read())
        await eventually(lambda: received(far) > 0)
        await source.settle()
        assert received(far) <= SMALL.stream_window
        source.task.cancel()
        serving.cancel()


async def test_unread_streams_leave_the_others_alone() -> None:
    async with pair(SMALL) as both:
        unread, serving = serve_echo(both, but_first=8)
        sources = [Source(both.dialled.open_stream()) for _ in range(8)]
        for source in sources:
            await source.settle()
        data = os.urandom(2 * MIB)
        stream = both.dialled.open_stream()
        writing = asyncio.create_task(_write(stream, data))
        assert await within(drained(stream)) == data
        await within(writing)
        assert len(unread) == 8
        for source in sources:
            source.task.cancel()
        serving.cancel()


async def test_what_a_connection_holds_unread_is_bounded_by_its_window() -> None:
    """Every stream is read once, while there is room, so each was promised a window."""
    async with pair(SMALL) as both:
        unread, serving = serve_echo(both, but_first=20)
        sources = [Source(both.dialled.open_stream()) for _ in range(20)]
        await eventually(lambda: len(unread) == 20)
        for far in unread:
            await within(far.read())
        for source in sources:
            await source.settle()
        held = sum(received(far) for far in unread)
        assert held <= SMALL.connection_window + 20 * SMALL.stream_window_first
        for source in sources:
            source.stopped = True
        await within(asyncio.gather(*map(drained, unread)))
        await within(asyncio.gather(*(source.task for source in sources)))
        serving.cancel()


async def test_ended_streams_that_nobody_reads_do_not_pile_up() -> None:
    """QUIC gives a peer room for a new stream as soon as one has ended, read or not."""
    async with pair(SMALL) as both:
        opened: list[Stream] = []
        both.accepted.on_stream = opened.append
        with pytest.raises(PeerUnreachable):
            await _open_for_ever(both, bytes(60_000))
        end = await within(both.dialled.wait_closed())
        assert end == Closed(ClosedBy.APPLICATION, CODE_BUSY)
        room = 2 * SMALL.streams_uni_max * SMALL.stream_window_first
        assert sum(map(received, opened)) <= SMALL.connection_window + room


async def test_ended_streams_that_were_read_or_dropped_count_no_more() -> None:
    async with pair(SMALL) as both:
        opened: list[Stream] = []
        both.accepted.on_stream = opened.append
        for i in range(100):
            await _write(both.dialled.open_stream(uni=True), bytes(60_000))
            await eventually(lambda: bool(opened) and opened[-1].released)
            stream = opened.pop()
            if i % 4 == 0:
                assert len(await within(drained(stream))) == 60_000
            elif i % 4 == 1:
                await within(stream.readexactly(60_000))
            elif i % 4 == 2:
                stream.stop_sending(1)
            # Every fourth is dropped: what nobody refers to is not held either.
            del stream
        assert both.accepted._unread == 0
        assert both.accepted.how_closed is None


async def test_streams_that_nobody_accepts_end_the_connection_at_their_maximum() -> (
    None
):
    async with pair() as both:
        with pytest.raises(PeerUnreachable):
            await _open_for_ever(both, b"")
        end = await within(both.dialled.wait_closed())
        assert end == Closed(ClosedBy.APPLICATION, CODE_BUSY)
        assert len(both.accepted._opened) <= OPENED_MAX


@pytest.mark.every_loop
async def test_a_write_larger_than_the_mark_waits_for_the_reader() -> None:
    data = os.urandom(3 * MIB)
    async with pair(SMALL) as both:
        near, far = await stream_pair(both)
        writing = asyncio.create_task(near.write(data))
        await eventually(lambda: near.blocked)
        assert not writing.done()
        assert near.queued <= SMALL.send_max
        assert await within(far.readexactly(len(data))) == data
        await within(writing)


async def test_a_write_beyond_the_maximum_is_refused_and_nothing_of_it_taken() -> None:
    async with pair(SMALL) as both:
        near, far = await stream_pair(both)
        with pytest.raises(Busy, match=f"{MIB + 1} bytes"):
            near.write_nowait(bytes(MIB + 1))
        assert near.write_nowait(b"first") > 0
        near.write_nowait(bytes(MIB - 100))
        queued = near.queued
        with pytest.raises(Busy):
            near.write_nowait(bytes(2 * SMALL.send_max - queued))
        assert near.queued == queued
        near.write_nowait(b"last", fin=True)
        content = await within(drained(far))
        assert content == b"first" + bytes(MIB - 100) + b"last"


async def test_beyond_the_mark_of_the_connection_each_writer_waits_earlier() -> None:
    async with pair(SMALL) as both:
        streams = [both.dialled.open_stream() for _ in range(16)]
        for stream in streams[:8]:
            stream.write_nowait(bytes(200 * KIB))
        last = streams[-1]
        assert both.dialled.unsent >= SMALL.connection_send_high
        assert last.write_nowait(b"x") == SMALL.send_low - 1
        assert last.write_nowait(bytes(SMALL.send_low)) == 0
        await within(last.wait_writable())
        far = await within(both.accepted.accept_stream())
        while far.id != last.id:
            far = await within(both.accepted.accept_stream())
        assert len(await within(far.readexactly(SMALL.send_low + 1))) > 0
        assert both.dialled.unsent >= SMALL.connection_send_high


async def test_ten_thousand_streams_leave_no_object_behind() -> None:
    async with pair() as both:
        serving = asyncio.create_task(_serve_quietly(both))
        seen: weakref.WeakSet[Stream] = weakref.WeakSet()
        most = 0
        for _ in range(100):
            streams = [both.dialled.open_stream() for _ in range(100)]
            for stream in streams:
                seen.add(stream)
                stream.write_nowait(b"ping", fin=True)
            for stream in streams:
                assert await within(drained(stream)) == b"ping"
            most = max(most, len(seen))
            del stream, streams
        await eventually(lambda: both.dialler.stats().streams == 0)
        await eventually(lambda: both.acceptor.stats().streams == 0)
        gc.collect()
        assert len(seen) == 0
        assert most <= 1_000, "streams live on after both their ends"
        serving.cancel()


async def _serve_quietly(both: Pair) -> None:
    while True:
        stream = await both.accepted.accept_stream()
        stream.on_data = lambda chunk, fin, stream=stream: _answer(stream, chunk, fin)


def _answer(stream: Stream, chunk: bytes, fin: bool) -> None:
    stream.write_nowait(chunk, fin=fin)


async def _open_for_ever(both: Pair, data: bytes) -> None:
    """Open one-way streams, each with ``data`` and the end, as fast as may be."""
    for _ in range(100_000):
        stream = both.dialled.open_stream(uni=True)
        stream.write_nowait(data, fin=True)
        del stream
        if both.dialler.stats().streams >= 32:
            await eventually(
                lambda: both.dialled.closed or both.dialler.stats().streams < 32
            )


async def _write(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    stream.finish()
