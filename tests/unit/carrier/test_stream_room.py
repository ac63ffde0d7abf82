"""A writer is told when to wait, waits, and goes on; memory stays at the marks."""

from __future__ import annotations

import asyncio

import pytest

from barrel_p2p.errors import Busy
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import eventually, pair, stream_pair, within

KIB = 1 << 10
SMALL = EngineSettings(
    send_high=32 * KIB,
    send_low=8 * KIB,
    send_max=64 * KIB,
    connection_send_high=64 * KIB,
    stream_window=64 * KIB,
    stream_window_first=64 * KIB,
)


@pytest.mark.every_loop
async def test_a_sender_stops_at_the_high_mark_and_goes_on_below_the_low_one() -> None:
    """QUI-10: the original retries every 10 ms and at most 16 messages a time; ours
    waits for one event that the engine sends when there is room.
    """
    async with pair(SMALL) as both:
        near, far = await stream_pair(both)
        data = bytes(range(256)) * 4 * KIB
        writing = asyncio.create_task(near.write(data))
        first = await within(far.readexactly(1))
        # Nothing more is read, so the writer ends up at its mark and stays there.
        await eventually(lambda: near.blocked)
        assert SMALL.send_low < near.queued <= SMALL.send_max
        assert not writing.done()
        rest = await within(far.readexactly(len(data) - 1))
        await within(writing)
        assert first + rest == data


async def test_a_write_beyond_send_max_is_refused_and_takes_nothing() -> None:
    async with pair(SMALL) as both:
        near, far = await stream_pair(both)
        with pytest.raises(Busy, match="65537 bytes do not fit"):
            near.write_nowait(bytes(SMALL.send_max + 1))
        near.write_nowait(b"after", fin=True)
        assert await within(far.readexactly(5)) == b"after"
        assert await within(far.read()) == b""


async def test_a_stream_nobody_reads_does_not_stop_another() -> None:
    async with pair(SMALL) as both:
        stuck, _ = await stream_pair(both)
        blocked = asyncio.create_task(stuck.write(bytes(1_000 * KIB)))
        near, far = await stream_pair(both)
        for turn in range(50):
            await within(near.write(bytes([turn]) * 4 * KIB))
            assert await within(far.readexactly(4 * KIB)) == bytes([turn]) * 4 * KIB
        assert not blocked.done()
        blocked.cancel()
