"""However writes, reads and ends interleave, each direction is a queue of bytes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import Busy, StreamClosed
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import Pair, pair, within
from tests.models.streams import StreamModel
from tests.tools import rounds

KIB = 1 << 10
STREAMS = 3
SMALL = EngineSettings(
    stream_window=64 * KIB,
    stream_window_first=8 * KIB,
    connection_window=128 * KIB,
    send_high=16 * KIB,
    send_low=2 * KIB,
    send_max=64 * KIB,
    connection_send_high=32 * KIB,
)

SIZE = st.sampled_from([0, 1, 2_047, 8_192, 16_384, 40_000]) | st.integers(0, 70_000)
WHERE = st.tuples(st.integers(0, 1), st.integers(0, STREAMS - 1))
STEP = st.one_of(
    st.tuples(st.just("write"), WHERE, SIZE),
    st.tuples(st.just("read"), WHERE, st.just(0)),
    st.tuples(st.just("exactly"), WHERE, SIZE),
    st.tuples(st.just("finish"), WHERE, st.just(0)),
)


@dataclass
class Ends:
    """The two ends of one stream, and the model of each direction by its writer."""

    streams: list[Stream]
    models: list[StreamModel] = field(
        default_factory=lambda: [StreamModel(), StreamModel()]
    )
    counter: int = 0

    def write(self, side: int, size: int) -> None:
        """Write without waiting: both refuse, or both take all of it."""
        data = bytes((self.counter + i) % 251 for i in range(size))
        model = self.models[side]
        try:
            self.streams[side].write_nowait(data)
        except StreamClosed:
            assert model.ended
        except Busy:
            assert not model.ended
            assert size + self.streams[side].queued > SMALL.send_max
        else:
            assert model.write(data)
            self.counter += size

    def finish(self, side: int) -> None:
        self.streams[side].finish()
        self.models[side].end()

    async def read(self, side: int) -> None:
        """Read what the other side wrote, if anything can come."""
        model = self.models[1 - side]
        if model.readable:
            data = await within(self.streams[side].read())
            assert bool(data) or model.at_end
            model.take(data)

    async def read_exactly(self, side: int, size: int) -> None:
        model = self.models[1 - side]
        left = len(model.written) - len(model.read)
        model.take(await within(self.streams[side].readexactly(min(size, left))))

    async def drain(self, side: int) -> None:
        """Read to the end: the whole of what was written has arrived."""
        model = self.models[1 - side]
        while not model.at_end:
            await self.read(side)
        assert await within(self.streams[side].read()) == b""


async def open_streams(both: Pair) -> list[Ends]:
    near = [both.dialled.open_stream() for _ in range(STREAMS)]
    for stream in near:
        stream.write_nowait(b"!")
    far = [await within(both.accepted.accept_stream()) for _ in range(STREAMS)]
    for stream in far:
        assert await within(stream.readexactly(1)) == b"!"
    far.sort(key=lambda stream: stream.id)
    return [Ends([a, b]) for a, b in zip(near, far, strict=True)]


async def follow(steps: list[tuple[str, tuple[int, int], int]]) -> None:
    async with pair(SMALL) as both:
        all_ends = await open_streams(both)
        for what, (side, number), size in steps:
            ends = all_ends[number]
            if what == "write":
                ends.write(side, size)
            elif what == "finish":
                ends.finish(side)
            elif what == "read":
                await ends.read(side)
            else:
                await ends.read_exactly(side, size)
        for ends in all_ends:
            ends.finish(0)
            ends.finish(1)
        drains = [ends.drain(side) for ends in all_ends for side in (0, 1)]
        await within(asyncio.gather(*drains))


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.SelectorEventLoop])
@given(steps=st.lists(STEP, max_size=40))
@settings(max_examples=rounds(40, whole=400))
def test_streams_agree_with_two_queues_of_bytes(
    new_loop: object, steps: list[tuple[str, tuple[int, int], int]]
) -> None:
    assert callable(new_loop)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(follow(steps))
