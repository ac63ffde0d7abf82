"""A stream ends by FIN, by reset or by refusal, and says which to whoever uses it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import InvalidValue, PeerUnreachable, StreamClosed, StreamReset
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    Pair,
    drained,
    eventually,
    pair,
    stream_pair,
    within,
)

CODE_MAX = 2**62 - 1


async def assert_no_stream_is_left(both: Pair) -> None:
    await eventually(lambda: both.dialler.stats().streams == 0)
    await eventually(lambda: both.acceptor.stats().streams == 0)


@pytest.mark.every_loop
async def test_writing_after_the_end_fails_and_adds_nothing() -> None:
    """QUI-28: sending on a stream that was finished fails with StreamClosed."""
    async with pair() as both:
        near, far = await stream_pair(both)
        await near.write(b"last")
        near.finish()
        near.finish()  # The second one changes nothing.
        for _ in range(2):
            with pytest.raises(StreamClosed):
                await near.write(b"more")
            with pytest.raises(StreamClosed):
                near.write_nowait(b"more")
            assert await within(drained(far)) in (b"last", b"")
        far.finish()
        assert await within(drained(near)) == b""
        await eventually(lambda: near.released and far.released)
        for stream in (near, far):
            with pytest.raises(StreamClosed):
                await stream.write(b"more")
            with pytest.raises(StreamClosed):
                stream.write_nowait(b"more")
            stream.finish()
        await assert_no_stream_is_left(both)


@pytest.mark.every_loop
@pytest.mark.parametrize("code", [0, 7, CODE_MAX])
async def test_a_reset_ends_both_directions_at_both_ends_with_its_code(
    code: int,
) -> None:
    """QUI-28: sending on a stream that was reset fails with StreamClosed."""
    async with pair() as both:
        near, far = await stream_pair(both)
        await far.write(b"unread")
        near.reset(code)
        with pytest.raises(StreamReset) as raised:
            await within(drained(far))
        assert raised.value.error_code == code
        await eventually(lambda: far._write_error is not None)
        with pytest.raises(StreamReset) as raised:
            await far.write(b"x")
        assert raised.value.error_code == code
        for use in (near.write(b"x"), near.read(), near.readexactly(1)):
            with pytest.raises(StreamClosed):
                await use
        with pytest.raises(StreamClosed):
            near.write_nowait(b"x")
        with pytest.raises(StreamClosed):
            near.finish()
        near.reset(code)  # It is over already.
        await assert_no_stream_is_left(both)


async def test_a_reset_wakes_the_tasks_that_use_the_stream_here() -> None:
    async with pair() as both:
        near, _ = await stream_pair(both)
        near.write_nowait(bytes(3_000_000))
        assert near.blocked
        reading = asyncio.create_task(near.read())
        writing = asyncio.create_task(near.write(b"x"))
        await asyncio.sleep(0)
        near.reset(3)
        for task in (reading, writing):
            with pytest.raises(StreamClosed, match="here"):
                await within(task)


async def test_what_was_read_before_a_reset_is_not_lost() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        await near.write(b"before")
        await eventually(lambda: len(far._chunks) > 0)
        near.reset(5)
        await eventually(lambda: far._read_error is not None)
        assert await within(far.read()) == b"before"
        with pytest.raises(StreamReset, match="0x5"):
            await within(far.read())


@pytest.mark.parametrize("written", [b"", b"x", bytes(2_000_000)])
@pytest.mark.parametrize("uni", [False, True])
async def test_a_stream_may_be_reset_at_any_age(written: bytes, uni: bool) -> None:
    """Even one that was never used: its number counts, so both ends must let go."""
    async with pair() as both:
        for _ in range(3):
            stream = both.dialled.open_stream(uni=uni)
            if written:
                stream.write_nowait(written)
            stream.reset(4)
            far = await within(both.accepted.accept_stream())
            with pytest.raises(StreamReset, match="0x4"):
                await within(drained(far))
        await assert_no_stream_is_left(both)


async def test_resets_beyond_the_peers_stream_limit_wait_for_room() -> None:
    few = EngineSettings(streams_bidi_max=2)
    async with pair(few) as both:
        held = [both.dialled.open_stream() for _ in range(2)]
        for stream in held:
            await stream.write(b"x")
        waiting = [both.dialled.open_stream() for _ in range(5)]
        for stream in waiting:
            stream.reset(6)
        for stream in held:
            stream.reset(1)
        await assert_no_stream_is_left(both)
        assert both.dialled.how_closed is None


@pytest.mark.every_loop
async def test_a_reader_that_gives_up_stops_the_writer_with_its_code() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        writing = asyncio.create_task(_write_for_ever(near))
        await eventually(lambda: near.blocked)
        far.stop_sending(8)
        with pytest.raises(StreamReset) as raised:
            await within(writing)
        assert raised.value.error_code == 8
        with pytest.raises(StreamReset):
            near.finish()
        with pytest.raises(StreamClosed, match="stopped here"):
            await within(far.read())
        await far.write(b"the other direction goes on")
        far.finish()
        assert await within(drained(near)) == b"the other direction goes on"
        await assert_no_stream_is_left(both)


async def test_giving_up_reading_drops_what_was_not_read_and_wakes_the_reader() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        reading = asyncio.create_task(far.read())
        await asyncio.sleep(0)
        far.stop_sending(1)
        with pytest.raises(StreamClosed):
            await within(reading)
        near, far = await stream_pair(both)
        await near.write(b"unread")
        await eventually(lambda: len(far._chunks) > 0)
        far.stop_sending(1)
        with pytest.raises(StreamClosed):
            await within(far.read())


async def test_giving_up_reading_after_the_peer_has_ended_does_not_hang() -> None:
    """No reset can answer: everything was sent before it was refused."""
    async with pair() as both:
        near, far = await stream_pair(both)
        far.write_nowait(b"all of it", fin=True)
        near.finish()
        near.stop_sending(2)
        with pytest.raises(StreamClosed):
            await within(near.read())
        assert await within(drained(far)) == b""
        await assert_no_stream_is_left(both)


@pytest.mark.parametrize("code", [-1, CODE_MAX + 1, 2**64, 1.5])
async def test_an_error_code_out_of_range_is_refused_and_nothing_happens(
    code: int,
) -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        for refuse in (near.reset, near.stop_sending, near.reset_nowait):
            with pytest.raises(InvalidValue, match="error_code="):
                refuse(code)
        await near.write(b"still here")
        near.finish()
        assert await within(drained(far)) == b"still here"


@pytest.mark.every_loop
async def test_a_one_way_stream_has_one_direction_only() -> None:
    async with pair() as both:
        near = both.dialled.open_stream(uni=True)
        for use in (near.read(), near.readexactly(1)):
            with pytest.raises(StreamClosed, match="writing only"):
                await within(use)
        await near.write(b"forth")
        far = await within(both.accepted.accept_stream())
        assert await within(far.readexactly(5)) == b"forth"
        with pytest.raises(StreamClosed):
            await far.write(b"back")
        with pytest.raises(StreamClosed):
            far.finish()
        far.reset(9)  # Its only direction is the other end's: this refuses more of it.
        with pytest.raises(StreamReset) as raised:
            await within(_write_for_ever(near))
        assert raised.value.error_code == 9
        await assert_no_stream_is_left(both)


async def test_a_finished_stream_may_still_be_reset() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        near.write_nowait(bytes(3_000_000), fin=True)
        near.reset(2)
        with pytest.raises(StreamReset, match="0x2"):
            await within(drained(far))
        await assert_no_stream_is_left(both)


@pytest.mark.every_loop
async def test_the_end_of_the_connection_ends_its_streams_after_what_arrived() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        await near.write(b"last words")
        await eventually(lambda: len(far._chunks) > 0)
        both.dialled.close(1)
        await within(both.accepted.wait_closed())
        assert await within(far.read()) == b"last words"
        for use in (far.read(), far.write(b"x"), near.read(), near.write(b"x")):
            with pytest.raises(PeerUnreachable):
                await within(use)
        for stream in (near, far):
            with pytest.raises(PeerUnreachable):
                stream.write_nowait(b"x")
            with pytest.raises(PeerUnreachable):
                stream.finish()
            stream.reset(1)


async def test_an_end_that_had_arrived_outlives_the_connection() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        near.write_nowait(b"whole", fin=True)
        await eventually(lambda: far._at_end)
        both.dialled.abort()
        both.accepted.abort()
        await within(both.accepted.wait_closed())
        assert await within(drained(far)) == b"whole"
        assert await within(far.read()) == b""


async def test_a_cancelled_read_loses_no_byte() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        sent = bytearray()
        got = bytearray()
        for i in range(50):
            reading = asyncio.create_task(far.read())
            await asyncio.sleep(0)
            piece = bytes([i]) * 100
            near.write_nowait(piece)
            sent += piece
            for _ in range(i % 4):
                await asyncio.sleep(0)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got += await reading
        near.finish()
        got += await within(drained(far))
        assert got == sent


async def test_a_cancelled_wait_for_room_loses_no_byte_and_no_wake_up() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        near.write_nowait(bytes(3_000_000))
        first = asyncio.create_task(near.wait_writable())
        second = asyncio.create_task(near.wait_writable())
        await asyncio.sleep(0)
        first.cancel()
        reading = asyncio.create_task(far.readexactly(3_000_000))
        await within(second)
        assert first.cancelled()
        assert not near.blocked
        await within(reading)


@pytest.mark.every_loop
async def test_a_cancelled_accept_stream_leaves_its_stream_to_the_next_one() -> None:
    async with pair() as both:
        accepted: Connection = both.accepted
        first = asyncio.create_task(accepted.accept_stream())
        second = asyncio.create_task(accepted.accept_stream())
        await asyncio.sleep(0)
        waiter = accepted._stream_waiters[0]
        loop = asyncio.get_running_loop()

        def cancel_between() -> None:
            if waiter.done():
                first.cancel()
            else:
                loop.call_soon(cancel_between)

        cancel_between()
        await both.dialled.open_stream().write(b"x")
        assert await within((await within(second)).readexactly(1)) == b"x"
        assert first.cancelled()


async def _write_for_ever(stream: Stream) -> None:
    while True:
        await stream.write(bytes(100_000))
