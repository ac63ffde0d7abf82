"""Every byte arrives once, in order, whatever it was written and read in."""

from __future__ import annotations

import array
import asyncio
import hashlib
import os
from collections.abc import Callable
from typing import cast

import pytest

from barrel_p2p.carrier.stream import WRITE_BYTES, Stream
from barrel_p2p.errors import InvalidValue, StreamClosed, StreamReset
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.wire.frames import Splitter, encode
from tests.endpoints import (
    Pair,
    drained,
    echo,
    eventually,
    pair,
    stream_pair,
    within,
)

MIB = 1 << 20


async def write_in(stream: Stream, data: bytes, size: int) -> None:
    """Write ``data`` in pieces of ``size`` bytes, then the end."""
    for start in range(0, len(data), size):
        await stream.write(data[start : start + size])
    stream.finish()


@pytest.mark.every_loop
@pytest.mark.parametrize("size", [1_000, 65_537, WRITE_BYTES + 1, 8 * MIB])
@pytest.mark.parametrize("total", [MIB, 4 * MIB])
async def test_a_large_message_keeps_its_hash_in_any_chunking(
    total: int, size: int
) -> None:
    """QUI-13: 1 MiB and 4 MiB arrive with their hash, however they are cut."""
    data = os.urandom(total)
    async with pair() as both:
        near, far = await stream_pair(both)
        writing = asyncio.create_task(write_in(near, data, size))
        digest = hashlib.sha256()
        while chunk := await within(far.read()):
            digest.update(chunk)
        await within(writing)
        assert digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("size", [1, 3, 4, 7, 1_000, 70_000])
async def test_frames_are_whole_again_whatever_the_stream_cuts_them_into(
    size: int,
) -> None:
    """QUI-07: u32 length, then what follows; empty, many, torn anywhere."""
    bodies = [b"", b"x", os.urandom(50_000), b"", *(bytes([i]) * i for i in range(99))]
    wire = b"".join(encode(2, 0, body) for body in bodies)
    if size == 1:
        wire, bodies = wire[: 12 + 1], bodies[:2]
    async with pair() as both:
        near, far = await stream_pair(both)
        writing = asyncio.create_task(write_in(near, wire, size))
        splitter = Splitter()
        got: list[bytes] = []
        while chunk := await within(far.read()):
            for start in range(0, len(chunk), size):
                frames = splitter.feed(chunk[start : start + size])
                got += [bytes(frame.body) for frame in frames]
        await within(writing)
        assert got == bodies


async def test_readexactly_gives_exactly_that_many_across_chunks() -> None:
    data = os.urandom(300_000)
    async with pair() as both:
        near, far = await stream_pair(both)
        writing = asyncio.create_task(write_in(near, data, 7_777))
        parts = []
        for n in (0, 1, 65_536, 0, 200_000, 34_463):
            parts.append(await within(far.readexactly(n)))
            assert len(parts[-1]) == n
        assert b"".join(parts) == data
        assert await within(far.read()) == b""
        assert await within(far.readexactly(0)) == b""
        await within(writing)


async def test_readexactly_past_the_end_gives_back_what_there_was() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        await near.write(b"four")
        near.finish()
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await within(far.readexactly(5))
        assert (raised.value.partial, raised.value.expected) == (b"four", 5)
        with pytest.raises(InvalidValue, match="-1"):
            await far.readexactly(-1)


@pytest.mark.every_loop
async def test_the_acceptor_may_answer_on_the_stream_it_was_opened() -> None:
    """QUI-26: data reaches the acceptor, which answers on the same stream."""
    async with pair() as both:
        near, far = await stream_pair(both)
        assert near.id == far.id
        await far.write(b"answer")
        assert await within(near.readexactly(6)) == b"answer"
        back = both.accepted.open_stream()
        await back.write(b"question")
        other = await within(both.dialled.accept_stream())
        answering = asyncio.create_task(echo(other))
        back.finish()
        assert await within(drained(back)) == b"question"
        await within(answering)


async def test_streams_have_unique_ids_that_tell_opener_and_direction() -> None:
    """QUI-25: ids are unique, whoever opened the streams and of whatever kind."""
    async with pair() as both:
        ids: dict[int, tuple[bool, bool]] = {}
        for connection in (both.dialled, both.accepted):
            for uni in (False, True):
                for _ in range(10):
                    stream = connection.open_stream(uni=uni)
                    assert stream.id not in ids
                    ids[stream.id] = (connection.dialled, uni)
        assert all((i & 1 == 0, i & 2 == 2) == kind for i, kind in ids.items()), (
            "RFC 9000, 2.1"
        )


async def test_several_streams_carry_their_own_bytes_both_ways() -> None:
    """QUI-25, QUI-26: twenty streams at once, each with its own content."""
    async with pair() as both:
        serving = asyncio.create_task(_serve(both))
        contents = [os.urandom(10_000 * (i + 1)) for i in range(20)]
        streams = [both.dialled.open_stream() for _ in contents]
        work = [
            asyncio.gather(write_in(stream, data, 8_192), drained(stream))
            for stream, data in zip(streams, contents, strict=True)
        ]
        echoes = [(await within(both_ways))[1] for both_ways in work]
        assert echoes == contents
        serving.cancel()


async def test_classes_of_streams_and_their_priorities_are_the_carriers_own() -> None:
    """QUI-32: the class is a bit of the id, any priority 0 to 255 may be given, and
    a stream is refused with the application's code 0x100.
    """
    async with pair() as both:
        for priority in (0, 2, 4, 6, 16, 128, 255):
            for uni in (False, True):
                stream = both.dialled.open_stream(uni=uni, priority=priority)
                assert bool(stream.id & 2) is uni
                await stream.write(b"x")
                far = await within(both.accepted.accept_stream())
                assert far.id == stream.id
                far.set_priority(priority)
                far.stop_sending(0x100)
                with pytest.raises(StreamReset) as raised:
                    await within(_write_for_ever(stream))
                assert raised.value.error_code == 0x100


@pytest.mark.parametrize("priority", [-1, 256])
async def test_a_priority_out_of_range_is_refused_and_no_stream_opened(
    priority: int,
) -> None:
    async with pair() as both:
        with pytest.raises(InvalidValue, match=f"priority={priority}"):
            both.dialled.open_stream(priority=priority)
        assert both.dialler.stats().streams == 0
        with pytest.raises(InvalidValue, match=f"priority={priority}"):
            both.dialled.open_stream().set_priority(priority)


async def test_a_stream_of_low_priority_waits_for_those_before_it() -> None:
    async with pair(EngineSettings(congestion_window_max=64_000)) as both:
        last = both.dialled.open_stream(priority=200)
        first = both.dialled.open_stream(priority=2)
        for stream in (last, first):
            stream.write_nowait(bytes(3_000_000), fin=True)
        ends: list[int] = []
        fars = [await within(both.accepted.accept_stream()) for _ in range(2)]
        for far in fars:
            far.on_data = _note_end(ends, far)
        await eventually(lambda: len(ends) == 2)
        assert ends == [first.id, last.id]


@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(bytearray(data)),
        lambda data: array.array("H", data),
        lambda data: memoryview(data)[2:-2],
    ],
    ids=["bytes", "bytearray", "view", "writable view", "array", "slice"],
)
async def test_any_contiguous_buffer_may_be_written(
    make: Callable[[bytes], bytes],
) -> None:
    buffer = make(os.urandom(1_000))
    expected = bytes(memoryview(buffer).cast("B"))
    async with pair() as both:
        near, far = await stream_pair(both)
        await near.write(buffer)
        near.write_nowait(buffer)
        near.finish()
        assert await within(drained(far)) == expected * 2


async def test_a_buffer_may_be_changed_as_soon_as_write_returns() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        buffer = bytearray(b"a" * 1_000)
        near.write_nowait(buffer)
        buffer[:] = b"b" * 1_000
        buffer.clear()  # It is not locked either.
        near.finish()
        assert await within(drained(far)) == b"a" * 1_000


@pytest.mark.parametrize("data", ["text", 7, None, [1]])
async def test_what_is_no_buffer_is_refused_and_nothing_sent(data: object) -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        with pytest.raises(TypeError):
            await near.write(cast("bytes", data))
        with pytest.raises(TypeError):
            near.write_nowait(cast("bytes", data))
        near.finish()
        assert await within(drained(far)) == b""


async def test_a_buffer_with_gaps_is_refused_and_nothing_sent() -> None:
    gaps = memoryview(b"abcdef")[::2]
    async with pair() as both:
        near, far = await stream_pair(both)
        with pytest.raises((BufferError, TypeError), match="contiguous"):
            await near.write(gaps)
        with pytest.raises((BufferError, TypeError), match="contiguous"):
            near.write_nowait(gaps)
        near.finish()
        assert await within(drained(far)) == b""


async def test_an_empty_write_is_no_end_and_no_data() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        for empty in (b"", bytearray(), memoryview(b"")):
            await near.write(empty)
            assert near.write_nowait(empty) > 0
        await near.write(b"after")
        assert await within(far.read()) == b"after"
        near.finish()
        assert await within(far.read()) == b""


@pytest.mark.every_loop
async def test_an_end_alone_opens_and_ends_a_stream() -> None:
    async with pair() as both:
        for uni in (False, True):
            stream = both.dialled.open_stream(uni=uni)
            stream.finish()
            far = await within(both.accepted.accept_stream())
            assert far.id == stream.id
            assert await within(drained(far)) == b""


@pytest.mark.every_loop
async def test_one_direction_goes_on_after_the_other_has_ended() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        near.finish()
        assert await within(drained(far)) == b""
        assert not far.released
        data = os.urandom(100_000)
        await far.write(data)
        far.finish()
        assert await within(drained(near)) == data
        await eventually(lambda: near.released and far.released)


async def test_two_tasks_cannot_read_one_stream() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        first = asyncio.create_task(far.read())
        await asyncio.sleep(0)
        for second in (far.read(), far.readexactly(1)):
            with pytest.raises(StreamClosed, match="another task"):
                await second
        await near.write(b"x")
        assert await within(first) == b"x"


async def test_a_handler_gets_what_had_arrived_before_it_was_set_and_the_end() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        await near.write(b"before ")
        await eventually(lambda: len(far._chunks) > 0)
        got: list[tuple[bytes, bool]] = []
        far.on_data = lambda chunk, fin: got.append((chunk, fin))
        assert got == [(b"before ", False)]
        near.write_nowait(b"after", fin=True)
        await eventually(lambda: got[-1][1])
        assert b"".join(chunk for chunk, _ in got) == b"before after"
        assert [fin for _, fin in got].count(True) == 1


async def _write_for_ever(stream: Stream) -> None:
    while True:
        await stream.write(bytes(100_000))


async def _serve(both: Pair) -> None:
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(echo(await both.accepted.accept_stream()))


def _note_end(ends: list[int], stream: Stream) -> Callable[[bytes, bool], None]:
    def note(chunk: bytes, fin: bool) -> None:
        if fin:
            ends.append(stream.id)

    return note
